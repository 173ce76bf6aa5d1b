"""How lists are searched: text by substring without regard to case, times by day or second, the rest by equality."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement

from app.wire import time_span

# A model's attribute is a column to SQLAlchemy and a plain value to the type checker: hence Any.


def containing(column: Any, text: str | None) -> list[ColumnElement[bool]]:
    """Rows whose text has ``text`` in it; all rows without one."""
    return [] if text is None else [column.icontains(text.strip(), autoescape=True)]


def equal(column: Any, value: Any) -> list[ColumnElement[bool]]:
    """Rows that have exactly this value; all rows without one."""
    return [] if value is None else [column == value]


def within(column: Any, time: str | None) -> list[ColumnElement[bool]]:
    """Rows whose moment (milliseconds since 1970) lies in the day or second that ``time`` names."""
    if time is None:
        return []
    start, end = time_span(time)
    return [column >= start, column < end]


def since_until(column: Any, since: str | None, until: str | None) -> list[ColumnElement[bool]]:
    """Rows whose moment lies in or after the day or second ``since``, and not after the day or second ``until``."""
    lower = [] if since is None else [column >= time_span(since)[0]]
    return lower if until is None else [*lower, column < time_span(until)[1]]
