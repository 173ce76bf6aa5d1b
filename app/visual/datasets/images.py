"""Sets of images: an archive whose folders are the classes. Reads files: call it in a thread."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import InvalidInput, Problem
from app.uploads import check_archive
from app.visual.engine import archives

MOST_IMAGES = 1_000_000
MOST_CLASSES = 10_000
LARGEST_EXPANDED = 64 * 1024**3
MOST_PROBLEMS = 20


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
        for entry in archives.files(archive):
            with archive.open(entry) as stream:
                (images if archives.is_image(stream.read(archives.HEAD)) else broken).append(entry.filename)
    if not images:
        raise InvalidInput(
            Problem(
                f"{name} has no image",
                field="file",
                remedy="send a zip of PNG, JPEG, GIF, BMP or WebP files, with a folder for each class",
            )
        )
    classes = dict(Counter(archives.classes(images)))
    if len(classes) > MOST_CLASSES:
        raise InvalidInput(
            Problem(
                f"{name} has {len(classes)} folders with images, each of which would be a class",
                field="file",
                remedy=f"use at most {MOST_CLASSES} folders",
            )
        )
    return Images(classes, broken[:MOST_PROBLEMS], len(broken))
