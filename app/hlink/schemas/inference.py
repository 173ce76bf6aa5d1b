"""Columns from sample messages: what every field was, how its times are spelled, where messages differ."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.hlink.schemas.described import Budget, Refused, array, row
from stream_jobs.definitions import Column, TimeFormat

_SHOWN_UNREADABLE = 10

_DAY = r"\d{4}-\d\d-\d\d"
_CLOCK = r"\d\d:\d\d:\d\d(?:[.,](?P<fraction>\d{1,9}))?"
_SPELLINGS = {
    TimeFormat.RFC_3339: re.compile(rf"{_DAY}[Tt ]{_CLOCK}\s?(?:[Zz]|[+-]\d\d:?\d\d)"),
    TimeFormat.ISO_LOCAL: re.compile(rf"{_DAY}[Tt]{_CLOCK}"),
    TimeFormat.SQL: re.compile(rf"{_DAY} {_CLOCK}"),
}
_DATE = re.compile(_DAY)
#: Without a fraction: Flink's TIME in JSON has none.
_TIME = re.compile(r"\d\d:\d\d:\d\d")
#: 2001 to 2100: numbers outside are no times that messages are likely to carry.
_EPOCHS = {TimeFormat.EPOCH_SECONDS: (10**9, 4_102_444_800), TimeFormat.EPOCH_MILLIS: (10**12, 4_102_444_800_000)}
_SAYS_TIME = re.compile(
    r"(^|_)(ts|time|timestamp|datetime|date|at|on|when|since|until|created|updated|modified|expires|start|end)"
    r"(_(ms|millis|s|sec|seconds|epoch))?$"
)
_ZONED = frozenset({TimeFormat.RFC_3339, TimeFormat.EPOCH_MILLIS, TimeFormat.EPOCH_SECONDS})
_LARGEST_INTEGER = 2**63 - 1


@dataclass
class Seen:
    """What was seen of one field over all occurrences of its parent."""

    present: int = 0
    nulls: int = 0
    missing: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """boolean, integer, number, text, date, time of day, timestamp, object, array."""
    times: Counter[TimeFormat] = field(default_factory=Counter)
    fields: dict[str, Seen] = field(default_factory=dict)
    element: Seen | None = None
    objects: int = 0
    fraction: int = 0
    conflicts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """Messages as JSON values, and those that are none."""

    rows: Sequence[dict[str, Any]]
    unreadable: Sequence[str] = ()
    unreadable_count: int = 0


def messages(content: str) -> Sample:
    """The messages of an uploaded text: a JSON array of objects, or an object a line."""
    if content.lstrip().startswith("["):
        try:
            whole = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Refused("", f"it begins as a JSON array and is none: {error}", "correct it") from None
        return sample((f"element {index}", json.dumps(one)) for index, one in enumerate(whole, start=1))
    lines = enumerate(content.splitlines(), start=1)
    return sample((f"line {number}", line) for number, line in lines if line.strip())


def sample(texts: Iterator[tuple[str, str]]) -> Sample:
    """Messages from their texts, each with its place. An array is as many messages as it has objects, as for Flink."""
    rows: list[dict[str, Any]] = []
    unreadable: list[str] = []
    for place, text in texts:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            unreadable.append(f"{place}: {error}")
            continue
        several = value if isinstance(value, list) else [value]
        if all(isinstance(one, dict) for one in several):
            rows += several
        else:
            unreadable.append(f"{place}: it is no JSON object")
    return Sample(rows, unreadable[:_SHOWN_UNREADABLE], len(unreadable))


def infer(rows: Sequence[dict[str, Any]]) -> tuple[tuple[Column, ...], dict[str, Seen]]:
    """The columns of messages, and by path what was seen of each.

    Raises Refused: there is nothing to infer from, or there are too many fields.
    """
    if not rows:
        raise Refused("", "there is no message to learn from", "send JSON objects, one a line or in an array")
    root = Seen()
    for one in rows:
        _see(root, one)
    found: dict[str, Seen] = {}
    budget = Budget()
    return tuple(_columns(root, "", found, budget)), found


def _see(seen: Seen, value: Any) -> None:
    if value is None:
        seen.nulls += 1
        return
    seen.present += 1
    match value:
        case bool():
            seen.kinds["boolean"] += 1
        case int():
            seen.kinds["integer" if -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER else "number beyond 64 bits"] += 1
            _see_epoch(seen, value)
        case float():
            seen.kinds["number"] += 1
        case str():
            _see_text(seen, value)
        case list():
            seen.kinds["array"] += 1
            seen.element = seen.element or Seen()
            for one in value:
                _see(seen.element, one)
        case dict():
            seen.kinds["object"] += 1
            _see_object(seen, value)


def _see_object(seen: Seen, value: dict[str, Any]) -> None:
    for name, one in value.items():
        if name not in seen.fields:
            # All objects before this one lacked it.
            seen.fields[name] = Seen(missing=seen.objects)
        _see(seen.fields[name], one)
    for name in seen.fields.keys() - value.keys():
        seen.fields[name].missing += 1
    seen.objects += 1


def _see_text(seen: Seen, text: str) -> None:
    for spelling, pattern in _SPELLINGS.items():
        if match := pattern.fullmatch(text):
            seen.kinds["timestamp"] += 1
            seen.times[spelling] += 1
            seen.fraction = max(seen.fraction, len(match["fraction"] or ""))
            return
    if _DATE.fullmatch(text):
        seen.kinds["date"] += 1
    elif _TIME.fullmatch(text):
        seen.kinds["time of day"] += 1
    else:
        seen.kinds["text"] += 1


def _see_epoch(seen: Seen, value: int) -> None:
    for spelling, (first, last) in _EPOCHS.items():
        if first <= value <= last:
            seen.times[spelling] += 1


def _columns(seen: Seen, path: str, found: dict[str, Seen], budget: Budget) -> Iterator[Column]:
    for name, one in seen.fields.items():
        own = f"{path}.{name}" if path else name
        found[own] = one
        yield _column(name, one, own, found, budget)


def _column(name: str, seen: Seen, path: str, found: dict[str, Seen], budget: Budget) -> Column:
    budget.step(path, path.count("."))
    kinds = set(seen.kinds)
    if kinds == {"object"}:
        if seen.fields:
            return row(name, tuple(_columns(seen, path, found, budget)))
        return _as_text(name, seen, "it was always an empty object")
    if kinds == {"array"}:
        element = seen.element or Seen()
        below = _column("", element, path, found, budget)
        seen.conflicts += [f"in its elements: {one}" for one in element.conflicts]
        seen.times += element.times
        return replace(array(name, below), comment="")
    if _is_time(name, seen):
        return _time(name, seen)
    if not kinds:
        return _as_text(name, seen, "it was always null or an empty list")
    if kinds <= {"integer", "number"}:
        return Column(name, "DOUBLE" if "number" in kinds else "BIGINT")
    if len(kinds) > 1:
        counts = ", ".join(f"{kind} ({count})" for kind, count in seen.kinds.most_common())
        return _as_text(name, seen, f"it was {counts}")
    single = {"boolean": "BOOLEAN", "date": "DATE", "time of day": "TIME", "text": "STRING"}
    return Column(name, single.get(kinds.pop(), "DECIMAL(38, 0)"))


def _as_text(name: str, seen: Seen, message: str) -> Column:
    seen.conflicts.append(f"{message}: read as text")
    return Column(name, "STRING")


def _is_time(name: str, seen: Seen) -> bool:
    if not seen.kinds or not seen.kinds.keys() <= {"timestamp", "integer"}:
        return False
    numbers = seen.times[TimeFormat.EPOCH_MILLIS] + seen.times[TimeFormat.EPOCH_SECONDS]
    if numbers < seen.kinds["integer"]:
        return False
    # A number is a time where its name says so, or where other messages have a time there.
    return bool(seen.kinds["timestamp"]) or bool(_SAYS_TIME.search(_snake(name)))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _time(name: str, seen: Seen) -> Column:
    spellings = {spelling for spelling, count in seen.times.items() if count}
    zoned = bool(spellings & _ZONED)
    if len(spellings) > 1:
        counts = ", ".join(f"{spelling} ({count})" for spelling, count in seen.times.most_common() if count)
        utc = "; those without an offset are read as UTC" if zoned and not spellings <= _ZONED else ""
        seen.conflicts.append(f"its times are spelled {counts}: each is read as it is{utc}")
    if seen.fraction > 3:
        seen.conflicts.append(
            f"it has {seen.fraction} digits after the second: read to the millisecond; TIMESTAMP_LTZ(9) keeps all, "
            "but cannot be the event time"
        )
    spelling = spellings.pop() if len(spellings) == 1 else TimeFormat.AUTO
    return Column(name, "TIMESTAMP_LTZ(3)" if zoned else "TIMESTAMP(3)", time=spelling)
