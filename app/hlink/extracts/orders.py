"""What is to be copied out of a table, and how that is reached: plain values, which the copying process is given.

It imports little, so that the process begins at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream_jobs.definitions import Format, Table, TimeFormat
from stream_jobs.sql.types import DataType


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of a table's rows: those from one moment (inclusive) to another (exclusive), in epoch milliseconds."""

    most_bytes: int
    """Of the file: it is refused when there is more."""
    from_ms: int | None = None
    to_ms: int | None = None
    most_rows: int | None = None
    """No more than these are copied, in no order."""
    columns: Sequence[str] = ()
    """All without any; a field of a nested column is ``column.field``, and the column stands for all of its fields."""
    time_column: str = ""
    """Of a database's table: the column that the moments are about. The messages of a topic have their own time."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A column of the file: a column of the table, or a field of a nested one."""

    path: tuple[str, ...]
    type: DataType
    time: TimeFormat | None = None

    @property
    def name(self) -> str:
        """What the file calls it: ``column.field``."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Database:
    """A table of PostgreSQL."""

    table: str
    username: str
    parameters: Mapping[str, Any] = field(repr=False)
    """What psycopg connects with."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of Kafka."""

    topic: str
    servers: str
    format: Format
    may_skip: bool
    """Whether messages that cannot be read are left out."""
    table: Table = field(repr=False)
    """What its messages have."""
    options: Mapping[str, Any] = field(repr=False)
    """What a consumer is made with."""


@dataclass(frozen=True, slots=True)
class Order:
    """A selection of a table's rows, and where they are. It is never stored: it has credentials."""

    name: str
    """What SQL calls the table."""
    source: Database | Topic
    selection: Selection
    leaves: Sequence[Leaf]
    """The columns to copy; none: all that the database's table has."""
    secrets: Sequence[str] = field(default=(), repr=False)
    """What must not be told."""
