"""Sets of images: an archive whose folders are the classes. Reads files: call it in a thread."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from app.errors import InvalidInput, Problem
from app.uploads import check_archive

MOST_IMAGES = 1_000_000
MOST_CLASSES = 10_000
LARGEST_EXPANDED = 64 * 1024**3
MOST_PROBLEMS = 20

_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM")
_HEAD = 12


@dataclass(frozen=True, slots=True)
class Images:
    """What an archive has: class -> number of images, and entries that are none (the first of ``all_broken``)."""

    classes: dict[str, int]
    broken: Sequence[str]
    all_broken: int


def look_into(path: Path, name: str) -> Images:
    """What the archive has.

    Raises:
        InvalidInput: it is no archive, could do harm, or has no image.
    """
    check_archive(path, name, most_entries=MOST_IMAGES, largest_expanded=LARGEST_EXPANDED)
    images: list[str] = []
    broken: list[str] = []
    with zipfile.ZipFile(path) as archive:
        for entry in _files(archive):
            with archive.open(entry) as stream:
                (images if _is_image(stream.read(_HEAD)) else broken).append(entry.filename)
    if not images:
        raise InvalidInput(
            Problem(
                f"{name} has no image",
                field="file",
                remedy="send a zip of PNG, JPEG, GIF, BMP or WebP files, with a folder for each class",
            )
        )
    classes = dict(Counter(_classes(images)))
    if len(classes) > MOST_CLASSES:
        raise InvalidInput(
            Problem(
                f"{name} has {len(classes)} folders with images, each of which would be a class",
                field="file",
                remedy=f"use at most {MOST_CLASSES} folders",
            )
        )
    return Images(classes, broken[:MOST_PROBLEMS], len(broken))


def classes_of(path: Path) -> dict[str, list[str]]:
    """Class -> the names of its images in the archive, in the archive's order."""
    with zipfile.ZipFile(path) as archive:
        images = []
        for entry in _files(archive):
            with archive.open(entry) as stream:
                if _is_image(stream.read(_HEAD)):
                    images.append(entry.filename)
    found: dict[str, list[str]] = {}
    for image, name in zip(images, _classes(images), strict=True):
        found.setdefault(name, []).append(image)
    return found


def _files(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """The entries that somebody put there; what systems leave beside them (.DS_Store, __MACOSX) is passed over."""
    for entry in archive.infolist():
        parts = PurePosixPath(entry.filename).parts
        if not entry.is_dir() and not any(part.startswith(".") or part == "__MACOSX" for part in parts):
            yield entry


def _is_image(head: bytes) -> bool:
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def _classes(images: Sequence[str]) -> list[str]:
    """The class of each: its first folder, beneath the folders that all of them lie in; "" without any."""
    folders = [PurePosixPath(image).parts[:-1] for image in images]
    shared = 0
    while len({parts[: shared + 1] for parts in folders}) == 1 and len(folders[0]) > shared:
        shared += 1
    if all(len(parts) == shared for parts in folders):  # one folder has them all: it is the class
        shared = max(shared - 1, 0)
    return [parts[shared] if len(parts) > shared else "" for parts in folders]
