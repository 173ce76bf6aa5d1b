"""What a jar says of itself. Reads files: call it in a thread."""

from __future__ import annotations

import zipfile
from email.parser import HeaderParser
from pathlib import Path

from app.errors import InvalidInput, Problem
from app.uploads import check_archive

_MANIFEST = "META-INF/MANIFEST.MF"
_LARGEST_MANIFEST = 1024 * 1024
_ENTRIES = ("program-class", "Main-Class")
"""Where a manifest names the entry class, in the order in which Flink looks."""


def check_jar(path: Path, name: str, entry_class: str) -> None:
    """Whether the file is a jar that has the entry class, if one is given.

    Raises:
        InvalidInput: it is not a jar, could do harm, or lacks the class.
    """
    if not name.lower().endswith(".jar"):
        raise InvalidInput(Problem(f"{name} is not called .jar", field="jarfile", remedy="send a program's jar"))
    check_archive(path, name)
    if entry_class:
        check_entry_class(path, name, entry_class)


def check_entry_class(path: Path, name: str, entry_class: str) -> None:
    """Raises :class:`~app.errors.InvalidInput`, with what the manifest says, when the jar lacks the class."""
    with zipfile.ZipFile(path) as archive:
        if f"{entry_class.replace('.', '/')}.class" in archive.namelist():
            return
    declared = declared_entry_class(path)
    raise InvalidInput(
        Problem(
            f"{name} has no class {entry_class}",
            field="entryClass",
            remedy=f"its manifest names {declared}: use that, or leave it out"
            if declared
            else "its manifest names none: give the class with the main method",
        )
    )


def declared_entry_class(path: Path) -> str:
    """The entry class that the manifest names; empty without one."""
    with zipfile.ZipFile(path) as archive:
        if _MANIFEST not in archive.namelist() or archive.getinfo(_MANIFEST).file_size > _LARGEST_MANIFEST:
            return ""
        # Its lines are those of a mail's header, continued lines included.
        text = archive.read(_MANIFEST).decode("utf-8", "replace").replace("\r\n ", "").replace("\n ", "")
    headers = HeaderParser().parsestr(text.strip())
    return next((value.strip() for name in _ENTRIES if (value := headers.get(name))), "")
