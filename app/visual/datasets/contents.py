"""What is in a data set's file. Reads files: call it in a thread."""

from __future__ import annotations

import codecs
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from app.errors import InvalidInput, Problem
from app.visual.choices import DataType
from app.visual.datasets import csv_format, csv_rows, images
from app.visual.datasets.column_types import Column, ColumnKinds
from app.visual.datasets.csv_rows import GoOn

READABLE = "readable.csv"
"""Beside a file whose bytes cannot be searched for newlines: the same in UTF-8."""

_PIECE = 4 * 1024**2


class Contents(BaseModel):
    """What was found when the file was looked into; it is stored as JSON."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rows: int | None = None
    """Of a table; without the header."""
    columns: Sequence[Column] = ()
    encoding: str | None = None
    """What the file came in."""
    delimiter: str = ","
    header: bool = True
    converted: bool = False
    """Whether :data:`READABLE` is what is read."""
    classes: dict[str, int] = {}
    """Of a set of images: class -> number."""
    problems: Sequence[str] = ()
    """What is wrong with the file without making it useless: the first of ``all_problems``."""
    all_problems: int = 0

    @property
    def read_as(self) -> str:
        """The encoding of what is read."""
        return "utf-8" if self.converted else self.encoding or "utf-8"


def look_into(
    path: Path, name: str, kind: DataType, index: Path, go_on: GoOn, *, written_here: bool = False
) -> Contents:
    """What the file has; for a table, ``index`` and what else reading it takes are written beside it.

    How a table that was ``written_here`` is to be read need not be told from it.

    Raises:
        InvalidInput: it is of no use: nothing of its kind, empty, or harmful.
    """
    return _images(path, name) if kind is DataType.IMAGES else _table(path, name, index, go_on, written_here)


def _images(path: Path, name: str) -> Contents:
    found = images.look_into(path, name)
    problems = [f"{entry} is no image (PNG, JPEG, GIF, BMP, WebP)" for entry in found.broken]
    return Contents(classes=found.classes, problems=problems, all_problems=found.all_broken)


def _table(path: Path, name: str, index: Path, go_on: GoOn, written_here: bool) -> Contents:
    if written_here:
        told = csv_format.written_here(path)
    else:
        told = csv_format.format_of(path, csv_format.encoding_of(path, name), name)
    encoding = read_as = told.encoding
    # A newline in UTF-16 is two bytes, and a bar may be half a character of GB18030.
    converted = encoding.startswith(("utf-16", "utf-32")) or (encoding == "gb18030" and told.delimiter == "|")
    if converted:
        path, read_as = _converted(path, encoding, name, go_on), "utf-8"
    start = len(codecs.BOM_UTF8) if read_as == "utf-8-sig" else 0
    width = len(told.names)
    kinds = ColumnKinds(width, told.delimiter, read_as, header=told.header)
    rows = csv_rows.write_index(path, index, start, told.delimiter, width, go_on, kinds)
    problems = [f"line {row.line} has {row.fields} fields, where the first row has {width}" for row in rows.broken]
    return Contents(
        rows=rows.number - told.header,
        columns=kinds.columns(told.names),
        encoding=encoding,
        delimiter=told.delimiter,
        header=told.header,
        converted=converted,
        problems=problems,
        all_problems=rows.all_broken,
    )


def _converted(path: Path, encoding: str, name: str, go_on: GoOn) -> Path:
    target = path.with_name(READABLE)
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as source, target.open("w", encoding="utf-8", newline="") as stream:
        try:
            while piece := source.read(_PIECE):
                go_on()
                stream.write(decoder.decode(piece))
            stream.write(decoder.decode(b"", final=True))
        except UnicodeDecodeError as error:
            raise InvalidInput(
                Problem(f"{name} is not {encoding} to its end: {error.reason}", field="file", remedy="save it as UTF-8")
            ) from None
        stream.flush()
        os.fsync(stream.fileno())
    return target
