"""The functions that ship with the product (``udfs/``): what there is, and the jar that holds them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from stream_jobs.definitions import Function, FunctionKind
from stream_jobs.java import CompilationFailed, compiled_jar
from stream_jobs.local import artifacts
from stream_jobs.local.errors import StackStateError
from stream_jobs.local.installation import Installation

FOLDER = Path(__file__).resolve().parents[1] / "udfs"


@cache
def functions() -> tuple[Function, ...]:
    """All of them, by ``udfs/functions.json``."""
    entries = json.loads((FOLDER / "functions.json").read_text("utf-8"))["functions"]
    return tuple(Function(entry["name"], FunctionKind(entry["kind"]), entry["class"]) for entry in entries)


def jars(folder: Path, installation: Installation) -> tuple[Path, ...]:
    """Our jar and the libraries that it uses, in the artifacts' folder; ours is compiled when its sources are new.

    :raises ArtifactError: a library or the compiler is missing.
    :raises StackStateError: the folder cannot be written, or the compiler refused the sources.
    """
    return compiled_with("functions", FOLDER / "java", "hlink-functions", folder, installation)


def compiled_with(group: str, sources: Path, name: str, folder: Path, installation: Installation) -> tuple[Path, ...]:
    """The jar of these sources, which call the libraries of a group of artifacts, and those libraries.

    Raises what :func:`jars` raises.
    """
    libraries = artifacts.paths(group, folder)
    (compiler,) = artifacts.paths("tools", folder)
    flink = sorted((installation.flink / "lib").glob("flink-*.jar"))
    try:
        ours = compiled_jar(
            sources, name, folder, java=installation.java, compiler=compiler, classpath=(*flink, *libraries)
        )
    except CompilationFailed as error:
        raise StackStateError(
            f"{name} does not compile: {error}",
            where=str(folder),
            remedy="install hlink again in the versions that requirements.lock names",
        ) from error
    except OSError as error:
        raise StackStateError(
            f"{name} cannot be compiled: {error.strerror or error}",
            where=str(folder),
            remedy="make the folder writable, or run there as who may write: hlink fetch",
        ) from error
    return (ours, *libraries)
