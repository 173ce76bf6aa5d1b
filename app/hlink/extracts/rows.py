"""The CSV file that rows are copied to: counted, summed and told of as it grows. UTF-8, commas, names in its first row.

Used by the process that copies (:mod:`app.hlink.extracts.program`).
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from datetime import date as Date
from datetime import time as Time
from decimal import Decimal
from typing import Any, BinaryIO

TELL_EVERY_S = 1.0


class Refused(Exception):
    """The rows cannot be copied: the message says why, and the remedy. It has no secrets."""


class BrokerRefused(Exception):
    """The rows cannot be copied: what the broker, or its client, says."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a copy is. ``size`` is in bytes; ``share`` of all rows that there are to copy, None where none knows."""

    rows: int = 0
    size: int = 0
    share: float | None = None
    skipped: int = 0
    """Messages that could not be read, of a table that leaves those out."""


class Rows:
    """Takes rows in, and tells on standard output how far it is: each line is a :class:`Progress` as JSON."""

    def __init__(self, file: BinaryIO, most_rows: int | None, most_bytes: int) -> None:
        self._file = file
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._digest = hashlib.md5(usedforsecurity=False)
        self._told_at = 0.0
        self.number = 0
        self.size = 0
        self.skipped = 0

    @property
    def md5(self) -> str:
        return self._digest.hexdigest()

    @property
    def left(self) -> int | None:
        """How many rows are still wanted; None: all there are."""
        return None if self._most_rows is None else self._most_rows - self.number

    def names(self, names: Sequence[str]) -> None:
        """The first row."""
        self._append(_lines([names]))

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Rows of cells; those above the limit are left out."""
        wanted = rows if self.left is None else rows[: self.left]
        if wanted:
            self._append(_lines(wanted))
            self.number += len(wanted)

    def add_line(self, line: bytes) -> None:
        """A row as it is written."""
        self._append(line)
        self.number += 1

    def tell(self, share: float | None = None) -> None:
        """Say how far it is, now and then."""
        if (now := time.monotonic()) - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            say(asdict(Progress(self.number, self.size, share, self.skipped)))

    def _append(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._most_bytes:
            raise Refused(
                f"the rows take more than {self._most_bytes // 1024**3} GiB as a file: copy fewer of them (fromTime, "
                "toTime, limit, columns), or raise HLINK_DATASET_LIMIT_GIB"
            )
        self._digest.update(data)
        self._file.write(data)


def say(what: dict[str, Any]) -> None:
    """Tell the service."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def cell(value: Any) -> str:
    """A value as text: what is missing is empty, what is nested is JSON, bytes are Base64, zoned times are UTC."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value)
        case Decimal():
            return f"{value:f}"
        case bytes():
            return base64.b64encode(value).decode()
        case datetime(tzinfo=None):
            return value.isoformat(" ")
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case Date() | Time():
            return value.isoformat()
        case dict() | list() | tuple():
            return json.dumps(value, ensure_ascii=False, default=cell)
    return str(value)


def _lines(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
