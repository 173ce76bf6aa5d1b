"""Java sources of ours to a jar: compiled by ecj on the Java runtime that the stack brings, once for each content."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

_SAME_TIME = (2000, 1, 1, 0, 0, 0)


class CompilationFailed(RuntimeError):
    """The compiler refused the sources; the message is what it said."""


def compiled_jar(
    sources: Path, name: str, folder: Path, *, java: Path, compiler: Path, classpath: Sequence[Path]
) -> Path:
    """The jar ``<name>-<version>.jar`` in ``folder``, made when its sources are new.

    All ``.java`` files below ``sources`` are compiled, and what is in its ``META-INF`` goes along. The version is that
    of the sources: whoever makes it, it has one name. Processes may do so at the same time.

    Raises:
        CompilationFailed: the compiler refused the sources.
        OSError: the folder cannot be written.
    """
    jar = folder / f"{name}-{version(sources)}.jar"
    if jar.exists():
        return jar
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as scratch:
        classes = Path(scratch) / "classes"
        if (sources / "META-INF").exists():
            shutil.copytree(sources / "META-INF", classes / "META-INF")
        compile_into(classes, sorted(sources.rglob("*.java")), java=java, compiler=compiler, classpath=classpath)
        packed = Path(scratch) / jar.name
        pack(classes, packed)
        packed.replace(jar)
    return jar


def version(sources: Path) -> str:
    """Changes with every source and resource in the folder, and with Flink."""
    content = hashlib.sha256(metadata.version("apache-flink").encode())
    for file in sorted(file for file in sources.rglob("*") if file.is_file()):
        content.update(f"\0{file.relative_to(sources).as_posix()}\0".encode() + file.read_bytes())
    return content.hexdigest()[:16]


def compile_into(
    classes: Path, files: Sequence[Path], *, java: Path, compiler: Path, classpath: Sequence[Path]
) -> None:
    """Compiles source files into a folder. Raises :class:`CompilationFailed`."""
    done = subprocess.run(
        [
            str(java), "-jar", str(compiler), "-17", "-proc:none", "-nowarn", "-encoding", "UTF-8",
            "-cp", os.pathsep.join(map(str, classpath)), "-d", str(classes), *map(str, files),
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise CompilationFailed(done.stderr.strip()[:4000])


def pack(classes: Path, jar: Path) -> None:
    """Packs a folder into a jar; equal folders give equal jars."""
    with zipfile.ZipFile(jar, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in classes.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(classes).as_posix(), _SAME_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
