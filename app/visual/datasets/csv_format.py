"""What a CSV file is written in: its encoding, delimiter and header, told from a sample."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from operator import or_
from pathlib import Path

from app.errors import InvalidInput, Problem
from app.visual.datasets.column_types import ColumnType, Kind, kind_of, type_of

LONGEST_ROW = 16 * 1024**2
"""Bytes. A longer one is most likely a quote that is never closed."""

MOST_COLUMNS = 10_000

# The standard library's own limit, 128 KiB a field, is for the whole process and refuses texts that people have.
csv.field_size_limit(LONGEST_ROW)

_HEAD = 1024**2
_PIECES, _PIECE = 16, 256 * 1024
_ROWS = 1000

_MARKS: Sequence[tuple[bytes, str]] = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DELIMITERS = (",", ";", "\t", "|")
_CHARACTERS, _MOSTLY_CHINESE = 20_000, 0.8

_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


@dataclass(frozen=True, slots=True)
class Format:
    """How a file is to be read. ``header``: its first row has the columns' names."""

    encoding: str
    delimiter: str
    header: bool
    names: Sequence[str]


def encoding_of(path: Path, name: str) -> str:
    """The encoding that a file's beginning, and pieces from all over it, are written in.

    Raises:
        InvalidInput: it is no text.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
        for mark, encoding in _MARKS:
            if head.startswith(mark):
                return encoding
        if b"\0" in head:
            return _without_mark(head, name)
        pieces = [head, *_pieces(stream, path.stat().st_size)]
    if all(_reads(piece, "utf-8") for piece in pieces):
        return "utf-8"
    if all(_reads(piece, "gb18030") for piece in pieces) and _is_chinese(b"".join(pieces)):
        return "gb18030"
    return "latin-1"


def format_of(path: Path, encoding: str, name: str) -> Format:
    """How the file is to be read, given its encoding.

    Raises:
        InvalidInput: it has no row, or too many columns.
    """
    with path.open("rb") as stream:
        sample = stream.read(_HEAD)
        whole = not stream.read(1)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(sample, final=whole)
    delimiter, rows = max(
        ((delimiter, _rows(text, delimiter, whole)) for delimiter in _DELIMITERS),
        key=lambda one: (*_consistency(one[1], one[0]), -_DELIMITERS.index(one[0])),
    )
    if not rows:
        raise InvalidInput(Problem(f"{name} has no row", field="file", remedy="send a file with a header and rows"))
    if len(rows[0]) > MOST_COLUMNS:
        raise InvalidInput(
            Problem(
                f"{name} has {len(rows[0])} columns",
                field="file",
                line=1,
                remedy=f"send at most {MOST_COLUMNS} columns",
            )
        )
    header = _has_header(rows)
    names = _names(rows[0]) if header else [f"column{place}" for place in range(1, len(rows[0]) + 1)]
    return Format(encoding, delimiter, header, names)


def written_here(path: Path) -> Format:
    """How a file of ours is to be read: UTF-8, commas, names in its first row."""
    with path.open(encoding="utf-8", newline="") as stream:
        return Format("utf-8", ",", True, _names(next(csv.reader(stream))))


def _pieces(stream: io.BufferedReader, size: int) -> Iterator[bytes]:
    """Pieces from all over the file, each from the beginning of a line."""
    for place in range(1, _PIECES + 1):
        start = max(_HEAD, place * size // _PIECES - _PIECE)
        if start >= size:
            continue
        stream.seek(start)
        piece = stream.read(_PIECE)
        _, line_end, rest = piece.partition(b"\n")
        if line_end:
            yield rest


def _without_mark(head: bytes, name: str) -> str:
    """UTF-16 by where its zeros are: text has them in one half of the bytes only."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    encoding = "utf-16-le" if odd > 10 * even else "utf-16-be" if even > 10 * odd else ""
    if not encoding or not _reads(head, encoding):
        raise InvalidInput(
            Problem(f"{name} is no text: it has bytes that are zero", field="file", remedy="send a CSV file")
        )
    return encoding


def _reads(piece: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(piece)  # may end amid a character
    except UnicodeDecodeError:
        return False
    return True


def _is_chinese(sample: bytes) -> bool:
    """Nearly any text can be read as GB18030; only what is meant so comes out as common characters."""
    characters = list(islice((one for one in sample.decode("gb18030", "ignore") if one > "\x7f"), _CHARACTERS))
    common = sum(len(one.encode("gb2312", "ignore")) == 2 for one in characters)
    return common >= _MOSTLY_CHINESE * len(characters)


def _rows(text: str, delimiter: str, whole: bool) -> list[list[str]]:
    rows = list(islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), _ROWS + 1))
    if not whole and len(rows) <= _ROWS and len(rows) > 1:
        rows.pop()  # it may be cut off
    return [row for row in rows if row][:_ROWS]


def _consistency(rows: Sequence[Sequence[str]], delimiter: str) -> tuple[float, bool, float, int]:
    """How well a delimiter fits: rows of one width, the first row among them, cells that are numbers or dates."""
    if not rows:
        return 0.0, False, 0.0, 0
    width, times = Counter(map(len, rows)).most_common(1)[0]
    if width == 1:
        return 0.0, False, 0.0, 1
    cells = [cell.strip() for row in rows for cell in row]
    typed = sum(_is_typed(cell) or (delimiter != "," and bool(_DECIMAL_COMMA.fullmatch(cell))) for cell in cells)
    return round(times / len(rows), 1), len(rows[0]) == width, round(typed / len(cells), 2), width


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Names stand once and are no values. The first may be empty: so are rows with their numbers written."""
    first = [cell.strip() for cell in rows[0]]
    if any(_is_typed(cell) for cell in first) or any(not cell for cell in first[1:]) or not any(first):
        return False
    if len(set(first)) == len(first):
        return True
    body = rows[1:]
    return any(_type([row[i] for row in body if i < len(row)]) is not ColumnType.TEXT for i in range(len(first)))


def _names(row: Sequence[str]) -> list[str]:
    """The columns' names, each once: what repeats is numbered, as pandas does it."""
    names: dict[str, None] = {}
    times: Counter[str] = Counter()
    for place, cell in enumerate(row):
        wanted = name = cell.strip() or f"Unnamed: {place}"
        while name in names:
            times[wanted] += 1
            name = f"{wanted}.{times[wanted]}"
        names[name] = None
    return list(names)


def _is_typed(cell: str) -> bool:
    return kind_of(cell) not in (Kind.MISSING, Kind.TEXT)


def _type(cells: Sequence[str]) -> ColumnType:
    return type_of(reduce(or_, map(kind_of, cells), Kind.MISSING))
