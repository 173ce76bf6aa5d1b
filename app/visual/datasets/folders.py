"""The files of data sets on disk: ``HLINK_HOME/visual/datasets/<data set>/<upload>/``.

An upload's folder has its fragments (``fragments/<number>-<MD5>``) until ``data.csv`` or ``data.zip`` is whole there.
That name is given to a file only when it is complete, as its MD5 says, and safe on disk. Fragments may have any size,
so that their places are known when all are there: each is then moved to its place, and removed when it is safe there.
So a file takes little more than its own size, and whoever goes on after a death finds every fragment in one place or
the other. Does what takes time: call it in a thread.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from app.settings import Settings
from app.visual.choices import DataType
from app.visual.datasets.csv_rows import GoOn
from app.visual.datasets.models import Fragment

T = TypeVar("T")

_BUFFER = 1024**2
_FRAGMENTS = "fragments"
_PARTIAL = ".partial"
_COPY = ".copy"
_INDEX = "rows"
_MOVED_TOGETHER = 64 * 1024**2
"""Bytes of fragments that are removed together, after what they were moved to is on disk."""


class WrongDigest(Exception):
    """The fragments do not come to the file that they were said to: the MD5 that they have together."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found


class FragmentsGone(Exception):
    """Fragments that were taken in are not on disk any more, as after a power cut."""

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__(str(numbers))
        self.numbers = numbers


@dataclass(frozen=True, slots=True)
class UploadFolder:
    """The folder of one upload."""

    path: Path
    kind: DataType

    @property
    def file(self) -> Path:
        """The whole file."""
        return self.path / ("data.zip" if self.kind is DataType.IMAGES else "data.csv")

    @property
    def index(self) -> Path:
        """Where the rows of the file begin."""
        return self.path / _INDEX

    def begin(self) -> Path:
        """Make the folder, and say where in it a file may be written before it is whole."""
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path / _COPY

    def keep(self, written: Path) -> None:
        """Give a file that is whole, and safe on disk, its name."""
        os.rename(written, self.file)
        _sync(self.path)

    def take(self, incoming: Path, number: int, md5: str) -> None:
        """Move a fragment in; the upload is written down already. Raises FileNotFoundError when it is being removed."""
        target = self._fragment(number, md5)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(incoming, target)

    def drop(self, number: int, md5: str) -> None:
        """Remove a fragment."""
        self._fragment(number, md5).unlink(missing_ok=True)

    def missing(self, fragments: Sequence[Fragment]) -> list[int]:
        """The numbers of those that are not there in their size; ``fragments`` come in their order."""
        if self.file.exists():
            return []
        moved = _size(self._partial)
        return [
            one.number
            for one, end in _with_ends(fragments)
            if _size(self._fragment(one.number, one.md5)) != one.size and (end is None or end > moved)
        ]

    def put_together(
        self, fragments: Sequence[Fragment], md5: str, go_on: GoOn, look: Callable[[Path], T]
    ) -> tuple[int, T]:
        """Make the whole file of its fragments, which come in their order: its size in bytes, and what ``look`` found.

        It is looked into while its sum is computed. Doing it again, after a death at any moment, is harmless, and so is
        doing it twice at a time. Raises :class:`FragmentsGone`, :class:`WrongDigest`, and what ``look`` raises.
        """
        if self.file.exists():
            found = look(self.file)
        else:
            if gone := self.missing(fragments):
                raise FragmentsGone(gone)
            found = self._make(fragments, md5, go_on, look)
        shutil.rmtree(self.path / _FRAGMENTS, ignore_errors=True)
        self._partial.unlink(missing_ok=True)
        return self.file.stat().st_size, found

    def _make(self, fragments: Sequence[Fragment], md5: str, go_on: GoOn, look: Callable[[Path], T]) -> T:
        with (
            open(os.open(self._partial, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0) as target,
            ThreadPoolExecutor(1, "sum of a data set") as summing,
        ):
            if not self._move_together(fragments, target, go_on):
                return look(self.file)
            digest = summing.submit(_digest, target, go_on)
            try:
                found = look(self._partial)
            finally:  # of a file that is not what it was said to be, nothing else is told
                if (summed := digest.result()) != md5:
                    raise WrongDigest(summed)
            go_on()
        with suppress(FileNotFoundError):  # another one has given it its name
            os.rename(self._partial, self.file)
        _sync(self.path)
        return found

    def _move_together(self, fragments: Sequence[Fragment], target: BinaryIO, go_on: GoOn) -> bool:
        """Move fragments to their places; False when another one was faster and the file has its name."""
        moved: list[Path] = []
        waiting = start = 0
        for one in fragments:
            go_on()
            fragment = self._fragment(one.number, one.md5)
            if _size(fragment) == one.size:
                _copy(fragment, target, start, one.size)
                moved.append(fragment)
                waiting += one.size
            elif _size(self._partial) < start + one.size:
                if self.file.exists():
                    return False
                raise FragmentsGone([one.number])
            start += one.size
            if waiting >= _MOVED_TOGETHER:
                _remove_from(moved, target)
                waiting = 0
        target.truncate(start)  # nothing behind it of what was sent once and is not any more
        return True

    @property
    def _partial(self) -> Path:
        """The whole file as it is being made: up to its end, fragments are at their places."""
        return self.path / _PARTIAL

    def _fragment(self, number: int, md5: str) -> Path:
        return self.path / _FRAGMENTS / f"{number}-{md5}"


@dataclass(frozen=True, slots=True)
class Folders:
    """The folder of all data sets."""

    path: Path
    incoming: Path
    """Where fragments are until it is known what they belong to; on the same disk."""

    @classmethod
    def of(cls, settings: Settings) -> Folders:
        """Those of the service with these settings."""
        home = settings.home / "visual"
        return cls(home / "datasets", home / "incoming")

    def of_upload(self, data_id: int, upload_id: int, kind: DataType) -> UploadFolder:
        """The folder of an upload, whether it exists or not."""
        return UploadFolder(self.path / str(data_id) / str(upload_id), kind)

    def uploads(self) -> dict[int, list[int]]:
        """Data set -> the uploads that have folders."""
        self.path.mkdir(parents=True, exist_ok=True)
        return {data_id: self.uploads_of(data_id) for data_id in _numbers(self.path)}

    def uploads_of(self, data_id: int) -> list[int]:
        """The uploads of one data set that have folders."""
        return _numbers(self.path / str(data_id))

    def remove(self, data_id: int, uploads: Collection[int], data_set_too: bool) -> None:
        """Remove the folders of uploads, and the data set's when that is gone too."""
        of_data_set = self.path / str(data_id)
        for upload_id in uploads:
            shutil.rmtree(of_data_set / str(upload_id), ignore_errors=True)
        if data_set_too:
            shutil.rmtree(of_data_set, ignore_errors=True)


def _numbers(folder: Path) -> list[int]:
    try:
        return [int(one) for one in os.listdir(folder) if one.isdecimal()]
    except FileNotFoundError:
        return []


def _with_ends(fragments: Sequence[Fragment]) -> Iterator[tuple[Fragment, int | None]]:
    """Fragments, and where each ends in the whole file; None behind one that nothing is known of."""
    end = 0
    for place, one in enumerate(fragments):
        end += one.size
        yield one, end if one.number == place else None


def _size(path: Path) -> int:
    """A file's size in bytes; -1 without the file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _copy(path: Path, target: BinaryIO, start: int, size: int) -> None:
    """Write a file to its place in another one, within the kernel where that can be done."""
    with path.open("rb", buffering=0) as source:
        done = 0
        try:
            while done < size and (
                count := os.copy_file_range(source.fileno(), target.fileno(), size - done, done, start + done)
            ):
                done += count
        except (AttributeError, OSError):  # not on every system, nor between all file systems
            pass
        while piece := os.pread(source.fileno(), _BUFFER, done):
            written = 0
            while written < len(piece):
                written += os.pwrite(target.fileno(), piece[written:], start + done + written)
            done += len(piece)


def _digest(file: BinaryIO, go_on: GoOn) -> str:
    """The MD5 of a file, which is safe on disk then."""
    digest = hashlib.md5(usedforsecurity=False)
    buffer = memoryview(bytearray(_BUFFER))
    start = 0
    while count := os.preadv(file.fileno(), [buffer], start):
        go_on()
        digest.update(buffer[:count])
        start += count
    os.fsync(file.fileno())
    return digest.hexdigest()


def _remove_from(moved: list[Path], target: BinaryIO) -> None:
    """Remove fragments that are at their places."""
    os.fsync(target.fileno())
    for fragment in moved:
        fragment.unlink(missing_ok=True)
    moved.clear()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
