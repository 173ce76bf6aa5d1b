"""Our formats of messages, for Flink: ``hlink-json`` and ``hlink-avro``, in one jar.

They count what they read, go on where a message cannot be read (or hand it on for a dead-letter topic), read times in
any spelling at any depth, and Avro by its writer's schema. The jar belongs in the lib folder of a cluster whose jobs
use them, and on the planner's classpath. Its name carries the version of its sources, so that it can be seen from
outside whether a cluster has the right one.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from stream_jobs import java as compilation

#: What each source's metrics of messages are called.
PARSED, FAILED = "hlinkParsed", "hlinkFailed"

_SOURCES = Path(__file__).with_name("java")
_EPOCH = (1980, 1, 1, 0, 0, 0)


@cache
def jar_name() -> str:
    """The jar's file name."""
    return f"hlink-formats-{compilation.version(_SOURCES)}.jar"


def jar(folder: Path, *, java: Path, compiler: Path, classpath: Sequence[Path]) -> Path:
    """The jar in that folder, made when it is not there. ``classpath``: Flink's libraries and connectors.

    Raises:
        CompilationError: the compiler refused the sources.
    """
    target = folder / jar_name()
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".formats-") as scratch:
        classes, unfinished = Path(scratch, "classes"), Path(scratch, target.name)
        compilation.compile_into(classes, _SOURCES, java=java, compiler=compiler, classpath=classpath)
        files = {file.relative_to(classes): file for file in classes.rglob("*.class")}
        files |= {file.relative_to(_SOURCES): file for file in (_SOURCES / "META-INF").rglob("*") if file.is_file()}
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(files):
                # One time for all, so that one version is one file, byte for byte.
                archive.writestr(zipfile.ZipInfo(name.as_posix(), _EPOCH), files[name].read_bytes())
        os.replace(unfinished, target)
    return target
