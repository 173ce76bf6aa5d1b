"""Files that somebody uploads: taken in piece by piece, checked, and kept under the SHA-256 of their contents.

A file gets its final name only when all of it is on disk and its check has passed, so whatever is in the folder is
whole, and a file is never written twice. What a killed service left half-written is removed by a later upload.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
import sys
import time
import uuid
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Generic, TypeVar

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import InvalidInput, NotFound, Problem
from app.settings import Settings

LONGEST_FILE_NAME = 200
MOST_ENTRIES = 65_535
EXPANDED_PER_BYTE = 100
"""An archive may expand to this many times its size, and to ``LARGEST_EXPANDED`` at the most."""
LARGEST_EXPANDED = 2 * 1024**3

_PIECE = 1024**2
"""Bytes of a body that are handed to a thread at once."""
_LONGEST_FIELD = 64 * 1024
_MOST_FIELDS = 50
_SMALLEST_ALLOWANCE = 16 * 1024**2
_INCOMING = ".incoming-"
_LEFTOVER_AGE_S = 24 * 3600
_SHA256 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")

ANY_SIZE = sys.maxsize
"""``max_body_size`` of a route whose body goes to disk piece by piece: :class:`Files` has the limit then."""

Check = Callable[[Path, str], T]
"""Looks at a file before it is kept, given its path and the name that it came with: says what it found, or raises
``InvalidInput``."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is kept; ``name`` is what its owner calls it, ``size`` is in bytes."""

    name: str
    sha256: str
    size: int
    path: Path


@dataclass(frozen=True, slots=True)
class Upload(Generic[T]):
    """A form that was sent: its file, what the check found in it, and the values of its other fields by their names."""

    file: StoredFile
    found: T
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A form that is on disk: its file at ``path``, not kept yet, and the values of its other fields by their names."""

    path: Path
    name: str
    size: int
    digest: str
    fields: dict[str, str]


@asynccontextmanager
async def incoming(
    request: Request,
    folder: Path,
    field_name: str,
    limit: int,
    digest: Callable[[], hashlib._Hash] = hashlib.sha256,
    durable: bool = True,
) -> AsyncIterator[Incoming]:
    """Take in a ``multipart/form-data`` request with a file; the file is removed at the end of the block.

    ``digest`` is what the file is summed with on its way. One that is not ``durable`` may be lost in a power cut.
    What a killed service left in the folder is removed when it is old.

    Raises:
        InvalidInput: the request is no such form, or its file is missing, empty, or larger than ``limit`` bytes.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidInput(
            Problem("the request is not multipart/form-data", field=field_name, remedy="send the file as a form")
        )
    await asyncio.to_thread(_prepare, folder)
    form = _Form(folder / f"{_INCOMING}{uuid.uuid4().hex}", field_name, limit, durable, digest=digest())
    try:
        await _parse(request, form, boundary)
        yield Incoming(form.path, form.finish(), form.size, form.digest.hexdigest(), form.fields)
    finally:
        await asyncio.to_thread(form.discard)


class Files:
    """The folder of uploaded files: ``HLINK_HOME/files/<sha256>``. Replicas on several machines share it."""

    def __init__(self, folder: Path, limit: int) -> None:
        """``limit`` is the size of the largest file in bytes."""
        self.folder = folder
        self.limit = limit

    @classmethod
    def of(cls, settings: Settings) -> Files:
        """The folder of the service with these settings."""
        return cls(settings.home / "files", settings.upload_limit_mib * 1024**2)

    def path(self, sha256: str, name: str = "") -> Path:
        """Where the file with these contents is; ``name`` is for the message.

        Raises:
            NotFound: it is not there.
        """
        path = self.folder / sha256
        if not _SHA256.fullmatch(sha256) or not path.is_file():
            raise NotFound(
                f"The file {name or sha256} is not in {self.folder}: give all replicas of the service the same folder, "
                "or upload it again"
            )
        return path

    async def receive(self, request: Request, field_name: str, check: Check[T]) -> Upload[T]:
        """Take in the file of a ``multipart/form-data`` request.

        Raises:
            InvalidInput: the request is no such form, its file is missing, too large, or refused by ``check``.
        """
        async with incoming(request, self.folder, field_name, self.limit) as form:
            return await asyncio.to_thread(self._keep, form, check)

    async def add(self, name: str, make: Callable[[Path], T]) -> tuple[StoredFile, T]:
        """Keep a file of the service's own, which ``make`` writes where it is told to; also what that returns.

        What ``make`` raises comes out, and nothing is kept then.
        """
        return await asyncio.to_thread(self._add, name, make)

    def _add(self, name: str, make: Callable[[Path], T]) -> tuple[StoredFile, T]:
        _prepare(self.folder)
        path = self.folder / f"{_INCOMING}{uuid.uuid4().hex}"
        try:
            made = make(path)
            _sync(path)
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return StoredFile(name, digest, path.stat().st_size, self._link(path, digest)), made
        finally:
            path.unlink(missing_ok=True)

    def _keep(self, form: Incoming, check: Check[T]) -> Upload[T]:
        found = check(form.path, form.name)
        final = self._link(form.path, form.digest)
        return Upload(StoredFile(form.name, form.digest, form.size, final), found, form.fields)

    def _link(self, path: Path, digest: str) -> Path:
        """Give a file that is whole its final name."""
        final = self.folder / digest
        try:
            # A link, because a rename would replace: a job may be reading the file that is there.
            os.link(path, final)
        except FileExistsError:
            pass
        else:
            final.chmod(0o444)
            _sync(self.folder)
        return final


def _prepare(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f"{_INCOMING}*"):
        with suppress(FileNotFoundError):  # others come and go
            if time.time() - leftover.stat().st_mtime > _LEFTOVER_AGE_S:
                leftover.unlink()


@dataclass(slots=True)
class _Form:
    """A form as it comes in: its file goes to ``path``, all else into memory."""

    path: Path
    field_name: str
    limit: int
    durable: bool = True
    fields: dict[str, str] = field(default_factory=dict)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    size: int = 0
    _file_name: str | None = None
    _stream: BinaryIO | None = None
    _header: bytes = b""
    _value: bytes = b""
    _disposition: bytes = b""
    _text: bytearray | None = None
    _name: str = ""
    _whole: bool = False

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._open,
            "on_part_data": self._add,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._disposition = b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _open(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        is_file = b"filename" in options
        if not is_file:
            if len(self.fields) >= _MOST_FIELDS:
                raise InvalidInput(Problem("the form has too many fields", remedy=f"send at most {_MOST_FIELDS}"))
            self._text = bytearray()
        elif self._name == self.field_name and self._file_name is None:
            self._file_name = _base_name(options[b"filename"].decode("utf-8", "replace"))
            self._stream = self.path.open("xb")
        else:
            raise InvalidInput(
                Problem("it is not the file that is asked for", field=self._name, remedy=f"send one {self.field_name}")
            )

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._stream is not None:
            piece = data[start:end]
            self.size += len(piece)
            if self.size > self.limit:
                raise too_large(self.field_name, self.limit)
            self.digest.update(piece)
            self._stream.write(piece)
        elif self._text is not None:
            self._text += data[start:end]
            if len(self._text) > _LONGEST_FIELD:
                raise InvalidInput(Problem("the value is too long", field=self._name, remedy="shorten it"))

    def _end(self) -> None:
        if self._text is not None:
            self.fields[self._name] = self._text.decode("utf-8", "replace")
            self._text = None
        elif self._stream is not None:
            if self.durable:
                self._stream.flush()
                os.fsync(self._stream.fileno())
            self._close()

    def _finish(self) -> None:
        self._whole = True

    def finish(self) -> str:
        """The file's name, once the whole form is there. Raises ``InvalidInput`` when it is not."""
        if not self._whole:
            raise InvalidInput(Problem("the form ends before its end", field=self.field_name, remedy="send it again"))
        if self._file_name is None:
            raise InvalidInput(Problem("the file is missing", field=self.field_name, remedy="send it in this field"))
        if not self.size:
            raise InvalidInput(
                Problem(f"{self._file_name} is empty", field=self.field_name, remedy="send its contents")
            )
        return self._file_name

    def discard(self) -> None:
        """Remove the incoming file; the kept one, if there is one, has another name."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


async def _parse(request: Request, form: _Form, boundary: bytes) -> None:
    parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
    refusal: InvalidInput | None = None

    def write(pieces: list[bytes]) -> None:
        nonlocal refusal
        # A refused body is still read to its end: a client that is writing would not see the answer.
        if refusal is None:
            try:
                parser.write(b"".join(pieces))
            except InvalidInput as error:
                refusal = error
            except FormParserError as error:
                refusal = InvalidInput(Problem(f"the form cannot be read: {error}", remedy="send multipart/form-data"))

    pieces: list[bytes] = []
    waiting = 0
    writing: asyncio.Task[None] | None = None
    try:
        async for piece in request.stream():
            pieces.append(piece)
            waiting += len(piece)
            if waiting >= _PIECE:  # the next ones come in while these are written
                if writing is not None:
                    await writing
                writing = asyncio.create_task(asyncio.to_thread(write, pieces))
                pieces, waiting = [], 0
    finally:
        if writing is not None:
            await asyncio.wait([writing])
    if writing is not None:
        await writing
    await asyncio.to_thread(write, pieces)
    if refusal is not None:
        raise refusal


def too_large(field_name: str, limit: int) -> InvalidInput:
    """The refusal of a file that is larger than ``limit`` bytes."""
    return InvalidInput(
        Problem(
            f"the file is larger than {limit // 1024**2} MiB",
            field=field_name,
            remedy="send a smaller one, or raise HLINK_UPLOAD_LIMIT_MIB",
        )
    )


def check_archive(
    path: Path, name: str, most_entries: int = MOST_ENTRIES, largest_expanded: int = LARGEST_EXPANDED
) -> None:
    """Whether the file is a zip archive (a jar is one) that can be unpacked without harm.

    Raises:
        InvalidInput: it is no archive, is damaged, would expand without bound, or has an entry that leaves its folder.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            allowed = min(max(path.stat().st_size * EXPANDED_PER_BYTE, _SMALLEST_ALLOWANCE), largest_expanded)
            _check_entries(entries, name, most_entries, allowed)
            for entry in entries:
                with archive.open(entry) as stream:
                    while stream.read(1024 * 1024):
                        pass  # to its end: the checksum is compared there
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError, RuntimeError) as error:
        raise InvalidInput(
            Problem(f"{name} is not a jar or zip file: {str(error) or type(error).__name__}", remedy="build it again")
        ) from None


def _check_entries(entries: list[zipfile.ZipInfo], name: str, most: int, allowed: int) -> None:
    def refuse(message: str, remedy: str = "build it again") -> InvalidInput:
        return InvalidInput(Problem(f"{name}: {message}", remedy=remedy))

    if len(entries) > most:
        raise refuse(f"it has {len(entries)} entries", f"use at most {most}")
    if sum(entry.file_size for entry in entries) > allowed:
        raise refuse(f"it expands to more than {allowed // 1024**2} MiB", "leave out what is not needed")
    seen: set[str] = set()
    for entry in entries:
        written = entry.orig_filename
        shown = repr(written[:100])
        if (
            not written
            or "\\" in written
            or "\0" in written
            or re.match(r"[A-Za-z]:", written)
            or PurePosixPath(written).is_absolute()
            or ".." in PurePosixPath(written).parts
        ):
            raise refuse(f"the entry {shown} leads out of the archive")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise refuse(f"the entry {shown} is a symbolic link", "put the file itself in its place")
        if entry.flag_bits & 1:
            raise refuse(f"the entry {shown} is encrypted", "build it without a password")
        # Licences are often there twice; of two classes nobody knows which one is meant.
        if written in seen and not written.startswith("META-INF/") and not entry.is_dir():
            raise refuse(f"the entry {shown} is there twice")
        seen.add(written)


def _base_name(name: str) -> str:
    """The name without the folders that some browsers send, and without what a terminal or log would act upon."""
    base = re.split(r"[/\\]", name)[-1].strip()
    printable = "".join(character for character in base if character.isprintable())
    if printable in ("", ".", ".."):
        raise InvalidInput(Problem("the file has no name", remedy="send it with its name"))
    return printable[-LONGEST_FILE_NAME:]


def _sync(path: Path) -> None:
    """See that a file, or what is in a folder, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
