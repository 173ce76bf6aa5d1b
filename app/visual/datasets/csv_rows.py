"""The rows of a CSV file: where they begin, found once, and any page of them at once from then on.

The index is the offset of every :data:`STEP`-th row, as 64-bit numbers. Rows are what :mod:`csv` makes of the file
(newlines within quotes belong to their field, a quote amid a field is a character), without the blank ones.
"""

from __future__ import annotations

import csv
import io
import os
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from app.errors import InvalidInput, Problem
from app.visual.datasets.column_types import ColumnKinds
from app.visual.datasets.csv_format import LONGEST_ROW

if TYPE_CHECKING:
    import numpy as np

    Places = np.ndarray[tuple[int], np.dtype[np.int64]]

STEP = 256
MOST_PROBLEMS = 20
LARGEST_PAGE = 64 * 1024**2
"""Bytes of the file that are read for one page."""

_BLOCK = 8 * 1024**2
_OFFSET = struct.Struct("<q")
_LF, _CR, _QUOTE = b'\n\r"'

GoOn = Callable[[], None]
"""Asked now and then by what takes long; raises when it is to end."""


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that has not as many fields as the first one; lines count from 1."""

    line: int
    fields: int


@dataclass(slots=True)
class Rows:
    """What was found in a file. ``broken`` are the first of all that are."""

    number: int = 0
    broken: list[BrokenRow] = field(default_factory=list)
    all_broken: int = 0


def write_index(
    path: Path,
    index: Path,
    start: int,
    delimiter: str,
    width: int,
    go_on: GoOn,
    kinds: ColumnKinds | None = None,
) -> Rows:
    """Find the rows of a file from the offset ``start`` on; each is to have ``width`` fields.

    ``kinds`` sees the values of those that have.

    Raises:
        InvalidInput: a row is too long.
    """
    with path.open("rb", buffering=0) as stream, index.open("wb") as target:
        scan = _Scan(stream.fileno(), delimiter.encode(), width, target, kinds)
        scan.run(start, go_on)
        target.flush()
        os.fsync(target.fileno())
    return scan.rows


def read_page(path: Path, index: Path, encoding: str, delimiter: str, first: int, number: int) -> list[list[str]]:
    """``number`` rows from the row ``first`` on, which counts from 0 and includes the header.

    Raises:
        InvalidInput: they are more text than is sent at once.
    """
    with index.open("rb") as known:
        start, end = _offset(known, first // STEP), _offset(known, -(-(first + number) // STEP))
    if start is None:
        return []
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if (end or size) - start > LARGEST_PAGE:
            raise InvalidInput(
                Problem(
                    f"the rows around row {first + 1} have more than {LARGEST_PAGE // 1024**2} MiB",
                    field="limit",
                    remedy="look at another page: rows this long are not shown",
                )
            )
        stream.seek(start)
        text = io.TextIOWrapper(stream, encoding, errors="replace", newline="")
        rows = (row for row in csv.reader(text, delimiter=delimiter) if row)
        return list(islice(rows, first % STEP, first % STEP + number))


def _offset(index: BinaryIO, place: int) -> int | None:
    index.seek(place * _OFFSET.size)
    found = index.read(_OFFSET.size)
    return _OFFSET.unpack(found)[0] if found else None


@dataclass(frozen=True, slots=True)
class _Block:
    """The whole rows of a block: where each begins, where what ends it stands, and how many fields it has.

    ``lines`` are the places of all line ends, those within quotes included, ``delimiters`` those of the rows'
    delimiters, ``quotes`` of all quotes and ``enclosed`` of what they make ordinary. Where quotes stand amid fields,
    ``cells`` are the rows' fields instead.
    """

    starts: Places
    ends: Places
    fields: Places
    lines: Places
    delimiters: Places
    quotes: Places
    enclosed: Places
    cells: Sequence[Sequence[str]] | None = None


class _Scan:
    def __init__(
        self, descriptor: int, delimiter: bytes, width: int, index: BinaryIO, kinds: ColumnKinds | None
    ) -> None:
        self._descriptor = descriptor
        self._delimiter = delimiter
        self._width = width
        self._index = index
        self._kinds = kinds
        self._line = 1
        self.rows = Rows()

    def run(self, start: int, go_on: GoOn) -> None:
        size = os.fstat(self._descriptor).st_size
        length = _BLOCK
        while start < size:
            go_on()
            data = os.pread(self._descriptor, length, start)
            block = self._block(data, at_end=start + len(data) >= size)
            if len(block.ends):
                self._note(data, block, start)
                start += min(int(block.ends[-1]) + 1, len(data))
                length = _BLOCK
            elif length >= LONGEST_ROW:
                raise InvalidInput(
                    Problem(
                        f"the row that begins there has more than {LONGEST_ROW // 1024**2} MiB",
                        field="file",
                        line=self._line,
                        remedy="close its quote, or shorten it",
                    )
                )
            else:
                length *= 2

    def _block(self, data: bytes, at_end: bool) -> _Block:
        import numpy as np

        bytes_ = np.frombuffer(data, np.uint8)
        is_end = bytes_ == _LF
        if b"\r" in data:
            # One before a newline is the newline's; of the very last nobody knows yet.
            alone = bytes_ == _CR
            alone[:-1] &= bytes_[1:] != _LF
            alone[-1] &= at_end
            is_end |= alone
        lines = np.flatnonzero(is_end)
        delimiters = np.flatnonzero(bytes_ == ord(self._delimiter))
        ends, quotes, enclosed = lines, lines[:0], lines[:0]
        if b'"' in data:
            quotes = np.flatnonzero(bytes_ == _QUOTE)
            if not self._enclose(bytes_, quotes):
                return self._row_by_row(data, lines, at_end)
            ending, delimiting = (np.searchsorted(quotes, some) % 2 == 0 for some in (ends, delimiters))
            enclosed = np.concatenate([ends[~ending], delimiters[~delimiting]])
            ends, delimiters = ends[ending], delimiters[delimiting]
        if at_end and (not len(ends) or ends[-1] != len(data) - 1):
            ends = np.append(ends, len(data))
        starts = np.append(0, ends + 1)[:-1] if len(ends) else ends
        before = np.searchsorted(delimiters, ends)
        return _Block(starts, ends, np.diff(before, prepend=0) + 1, lines, delimiters, quotes, enclosed)

    def _enclose(self, bytes_: np.ndarray[tuple[int], np.dtype[np.uint8]], quotes: Places) -> bool:
        """Whether every quote begins or ends a field, or is one of a pair within one."""
        import numpy as np

        borders = [ord(self._delimiter), _LF, _CR, _QUOTE]
        opening, closing = quotes[::2], quotes[1::2]
        before = bytes_[opening[opening > 0] - 1]
        after = bytes_[closing[closing < len(bytes_) - 1] + 1]
        return bool(np.isin(before, borders).all() and np.isin(after, borders).all())

    def _row_by_row(self, data: bytes, lines: Places, at_end: bool) -> _Block:
        """The same for what has quotes amid fields, where counting them does not tell what they enclose."""
        import numpy as np

        one = re.escape(self._delimiter)
        cell = rb'(?:"(?:[^"]++|"")*+"?+)?+[^%b\r\n]*+' % one
        a_row = re.compile(rb"%b(?:%b%b)*+" % (cell, one, cell))
        starts, ends, cells = [], [], []
        start = 0
        while start < len(data):
            found = a_row.match(data, start)
            assert found is not None  # it matches nothing at all as well
            end = found.end()
            if end == len(data):
                if not at_end:
                    break
            elif data[end] == _CR and end + 1 == len(data) and not at_end:
                break
            elif data[end : end + 2] == b"\r\n":
                end += 1
            starts.append(start)
            ends.append(end)
            cells.append(next(csv.reader([found.group().decode("latin-1")], delimiter=self._delimiter.decode())))
            start = end + 1
        fields = np.array([len(row) for row in cells], np.int64)
        return _Block(
            np.array(starts, np.int64), np.array(ends, np.int64), fields, lines, lines[:0], lines[:0], lines[:0], cells
        )

    def _note(self, data: bytes, block: _Block, offset: int) -> None:
        import numpy as np

        bytes_ = np.frombuffer(data, np.uint8)
        length = block.ends - block.starts
        last = np.minimum(block.ends, len(data) - 1)
        after_cr = (bytes_[last] == _LF) & (bytes_[last - 1] == _CR) & (length > 0) & (block.ends < len(data))
        present = length - after_cr > 0
        broken = np.flatnonzero(present & (block.fields != self._width))
        self.rows.all_broken += len(broken)
        for place in broken[: MOST_PROBLEMS - len(self.rows.broken)]:
            line = self._line + int(np.searchsorted(block.lines, block.starts[place]))
            self.rows.broken.append(BrokenRow(line, int(block.fields[place])))
        self._judge(data, block, present)
        starts = block.starts[present]
        first = -self.rows.number % STEP
        self._index.write((starts[first::STEP] + offset).astype("<i8").tobytes())
        self.rows.number += len(starts)
        self._line += int(np.searchsorted(block.lines, block.ends[-1], "right"))

    def _judge(self, data: bytes, block: _Block, present: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
        """Have the values seen of the rows that have all their fields."""
        import numpy as np

        if self._kinds is None:
            return
        whole = np.flatnonzero(present & (block.fields == self._width))
        rows = self.rows.number + np.cumsum(present)[whole] - 1
        if block.cells is not None:
            for row, place in zip(rows.tolist(), whole.tolist(), strict=True):
                self._kinds.see_row(row, block.cells[place])
            return
        last = np.cumsum(block.fields - 1)[whole]
        between = last[:, None] + np.arange(1 - self._width, 0)
        self._kinds.see(
            data, rows, block.starts[whole], block.delimiters[between.reshape(-1)], block.quotes, block.enclosed
        )
