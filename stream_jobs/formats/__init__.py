"""Our formats of messages, for Flink: ``hlink-json`` and ``hlink-avro``, in one jar.

They count what they read, go on where a message cannot be read (or hand it on for a dead-letter topic), read times in
any spelling at any depth, and Avro by its writer's schema. The jar belongs in the lib folder of a cluster whose jobs
use them, and on the planner's classpath. Its name carries the version of its sources, so that it can be seen from
outside whether a cluster has the right one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from stream_jobs.java import compiled_jar, version
from stream_jobs.local.installation import Installation
from stream_jobs.shipped import compiled_with

#: What each source's metrics of messages are called.
PARSED, FAILED = "hlinkParsed", "hlinkFailed"

_SOURCES = Path(__file__).with_name("java")
_NAME = "hlink-formats"


@cache
def jar_name() -> str:
    """The jar's file name."""
    return f"{_NAME}-{version(_SOURCES)}.jar"


def jars(folder: Path, installation: Installation) -> tuple[Path, ...]:
    """Our jar, and Flink's connectors and formats, in the artifacts' folder; ours is compiled when its sources are new.

    :raises ArtifactError: a library or the compiler is missing.
    :raises StackStateError: the folder cannot be written, or the compiler refused the sources.
    """
    return compiled_with("flink-lib", _SOURCES, _NAME, folder, installation)


def jar(folder: Path, *, java: Path, compiler: Path, classpath: Sequence[Path]) -> Path:
    """The jar in that folder, made when it is not there. ``classpath``: Flink's libraries and connectors.

    Raises:
        CompilationFailed: the compiler refused the sources.
    """
    return compiled_jar(_SOURCES, _NAME, folder, java=java, compiler=compiler, classpath=classpath)
