"""The files of data sets on disk: ``HLINK_HOME/visual/datasets/<data set>/<upload>/``.

An upload's folder has its fragments (``fragments/<number>-<MD5>``) until ``data.csv`` or ``data.zip`` is whole there.
That name is given to a file only when it is complete, as its MD5 says, and safe on disk. Does what takes time: call it
in a thread.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.settings import Settings
from app.visual.choices import DataType
from app.visual.datasets.csv_rows import GoOn
from app.visual.datasets.models import Fragment

_BUFFER = 1024**2
_FRAGMENTS = "fragments"
_PARTIAL = ".partial-"
_INDEX = "rows"


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

    def take(self, incoming: Path, number: int, md5: str) -> None:
        """Move a fragment in; the upload is written down already. Raises FileNotFoundError when it is being removed."""
        target = self._fragment(number, md5)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(incoming, target)

    def drop(self, number: int, md5: str) -> None:
        """Remove a fragment."""
        self._fragment(number, md5).unlink(missing_ok=True)

    def missing(self, fragments: Sequence[Fragment]) -> list[int]:
        """The numbers of those that are not there in their size."""
        if self.file.exists():
            return []
        try:
            sizes = {entry.name: entry.stat().st_size for entry in os.scandir(self.path / _FRAGMENTS)}
        except FileNotFoundError:
            sizes = {}
        return [one.number for one in fragments if sizes.get(self._fragment(one.number, one.md5).name) != one.size]

    def put_together(self, fragments: Sequence[Fragment], md5: str, go_on: GoOn) -> int:
        """Make the whole file of its fragments, which come in their order; the file's size in bytes.

        Doing it again, after a death at any moment, is harmless. Raises :class:`FragmentsGone`,
        :class:`WrongDigest`.
        """
        if not self.file.exists():
            if gone := self.missing(fragments):
                raise FragmentsGone(gone)
            for left in self.path.glob(f"{_PARTIAL}*"):
                left.unlink(missing_ok=True)
            partial = self.path / f"{_PARTIAL}{uuid.uuid4().hex}"
            with partial.open("wb", buffering=0) as target:
                digest = hashlib.md5(usedforsecurity=False)
                buffer = memoryview(bytearray(_BUFFER))
                for one in fragments:
                    go_on()
                    with self._fragment(one.number, one.md5).open("rb", buffering=0) as source:
                        _append(source, target, one.size)
                        source.seek(0)
                        while count := source.readinto(buffer):
                            digest.update(buffer[:count])
                if digest.hexdigest() != md5:
                    raise WrongDigest(digest.hexdigest())
                go_on()
                os.fsync(target.fileno())
            os.rename(partial, self.file)
            _sync(self.path)
        shutil.rmtree(self.path / _FRAGMENTS, ignore_errors=True)
        return self.file.stat().st_size

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


def _append(source: BinaryIO, target: BinaryIO, size: int) -> None:
    """Copy a file to another one's end, within the kernel where that can be done."""
    left = size
    try:
        while left and (count := os.copy_file_range(source.fileno(), target.fileno(), left)):
            left -= count
    except (AttributeError, OSError):  # not on every system, nor between all file systems
        source.seek(size - left)
        shutil.copyfileobj(source, target, _BUFFER)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
