"""What a schema says of messages: columns as plain values, and how they become the API's flat list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from app.errors import Problem
from app.hlink import catalogue
from app.hlink.wire import SchemaColumn
from app.ids import new_id
from stream_jobs.definitions import Column, TimeFormat
from stream_jobs.sql import types

LARGEST_BYTES = 1024 * 1024
MOST_COLUMNS = 2000
DEEPEST = 30
_LONGEST_COMMENT = 500


class Refused(ValueError):
    """A schema that cannot become columns: where in it, what is wrong, and the remedy."""

    def __init__(self, place: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.problem = Problem(message, field=place or "the schema", remedy=remedy)


class Budget:
    """How many columns and how much depth a schema has used."""

    def __init__(self) -> None:
        self._steps = 0

    def step(self, place: str, depth: int) -> None:
        """One more place of the schema was read. Raises Refused where that is too much."""
        self._steps += 1
        if self._steps > MOST_COLUMNS:
            raise Refused(place, f"it describes more than {MOST_COLUMNS} columns", "leave out what no job reads")
        if depth > DEEPEST:
            raise Refused(place, f"it is nested more than {DEEPEST} levels deep", "flatten it, or cut it off there")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class _BasicTypes:
    source: str
    basic_types: dict[str, str]


@cache
def _basic_types() -> dict[str, str]:
    return catalogue.load("basic_types", _BasicTypes).basic_types


def row(name: str, fields: Sequence[Column], comment: str = "") -> Column:
    """A column of nested fields."""
    return Column(name, "ROW", tuple(fields), comment)


def array(name: str, element: Column, comment: str = "") -> Column:
    """A column that is a list of ``element``, whose own name does not matter."""
    if element.type == "ROW":
        return Column(name, "ARRAY", element.fields, comment)
    return Column(name, f"ARRAY<{types.of_column(element)}>", (), comment, time=time_within(element))


def mapping(name: str, value: Column, comment: str = "") -> Column:
    """A column from text to ``value``."""
    return Column(name, f"MAP<STRING, {types.of_column(value)}>", (), comment, time=time_within(value))


def time_within(column: Column) -> TimeFormat | None:
    """How the times in a column are spelled, all its fields together."""
    found = {one.time for one in _all(column) if one.time is not None}
    return None if not found else found.pop() if len(found) == 1 else TimeFormat.AUTO


def flat(columns: Sequence[Column]) -> Iterator[tuple[SchemaColumn, str]]:
    """The API's list: a root row, then every column and field with its tree in ``virtualId`` and ``virtualPid``.

    Each comes with its path (``payload.user.id``), the root's being empty.
    """
    root = _wire(Column("root", "ROW", tuple(columns)), "0", 0)
    yield root, ""
    yield from _below(columns, root, "")


def nested(columns: Sequence[Column]) -> list[str]:
    """The names of the columns with objects in them."""
    return [column.name for column in columns if "ROW<" in str(types.of_column(column))]


def _all(column: Column) -> Iterator[Column]:
    yield column
    for one in column.fields:
        yield from _all(one)


def _below(columns: Sequence[Column], above: SchemaColumn, path: str) -> Iterator[tuple[SchemaColumn, str]]:
    for column in columns:
        listed = _wire(column, str(above.virtual_id), (above.level or 0) + 1)
        own = f"{path}.{column.name}" if path else column.name
        yield listed, own
        yield from _below(column.fields, listed, own)


def _wire(column: Column, parent: str, level: int) -> SchemaColumn:
    text = column.type if column.fields or level == 0 else str(types.of_column(column))
    listed: dict[str, Any] = {
        "name": column.name,
        "flink_type": text,
        "basic_type": _basic_types()[text.partition("(")[0].partition("<")[0]],
        "comment": column.comment[:_LONGEST_COMMENT],
        "virtual_id": str(new_id()),
        "virtual_parent_id": parent,
        "level": level,
        "event_time": 0,
        "join_key": 0,
        "time_format": column.time,
        "res1": column.name if column.name.upper() in catalogue.reserved_words() else None,
    }
    return SchemaColumn(**listed)
