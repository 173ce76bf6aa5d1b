"""Our Java sources to classes: compiled by ecj, which is one jar and needs no JDK."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


class CompilationError(RuntimeError):
    """The compiler refused the sources; the message is its own."""


def version(folder: Path) -> str:
    """Changes with every source and resource in the folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    content = hashlib.sha256()
    for file in files:
        content.update(f"{file.relative_to(folder).as_posix()}\0".encode())
        content.update(file.read_bytes())
    return content.hexdigest()[:16]


def compile_into(target: Path, sources: Path, *, java: Path, compiler: Path, classpath: Sequence[Path]) -> None:
    """The classes of all ``.java`` files below ``sources``, for Java 17.

    Raises:
        CompilationError: the compiler refused them.
    """
    done = subprocess.run(
        [
            str(java), "-jar", str(compiler), "-17", "-proc:none", "-nowarn",
            "-cp", os.pathsep.join(str(jar) for jar in classpath), "-d", str(target),
            *(str(file) for file in sorted(sources.rglob("*.java"))),
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise CompilationError(done.stderr.strip()[:2000])
