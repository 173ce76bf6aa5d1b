"""Archives of images, whose folders are the classes: what the service looks into, and the engine reads."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

HEAD = 12
"""So many bytes tell whether a file is an image."""

_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM")


def classes_of(path: Path) -> dict[str, list[str]]:
    """Class -> the names of its images in the archive, in the archive's order."""
    with zipfile.ZipFile(path) as archive:
        images = []
        for entry in files(archive):
            with archive.open(entry) as stream:
                if is_image(stream.read(HEAD)):
                    images.append(entry.filename)
    found: dict[str, list[str]] = {}
    for image, name in zip(images, classes(images), strict=True):
        found.setdefault(name, []).append(image)
    return found


def files(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """The entries that somebody put there; what systems leave beside them (.DS_Store, __MACOSX) is passed over."""
    for entry in archive.infolist():
        parts = PurePosixPath(entry.filename).parts
        if not entry.is_dir() and not any(part.startswith(".") or part == "__MACOSX" for part in parts):
            yield entry


def is_image(head: bytes) -> bool:
    """Whether a file that begins so is a PNG, JPEG, GIF, BMP or WebP file."""
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def classes(images: Sequence[str]) -> list[str]:
    """The class of each: its first folder, beneath the folders that all of them lie in; "" without any."""
    folders = [PurePosixPath(image).parts[:-1] for image in images]
    shared = 0
    while len({parts[: shared + 1] for parts in folders}) == 1 and len(folders[0]) > shared:
        shared += 1
    if all(len(parts) == shared for parts in folders):  # one folder has them all: it is the class
        shared = max(shared - 1, 0)
    return [parts[shared] if len(parts) > shared else "" for parts in folders]
