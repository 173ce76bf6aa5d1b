"""The types of a table's columns, from all of its values: what each value is, and what a column of such values is.

What a value is, is told by an automaton that is written down once (:func:`_steps`) and runs over the bytes of a whole
block of values at a time, so that a file is judged as fast as its rows are found.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag, StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Places = np.ndarray[tuple[int], np.dtype[np.int64]]
    Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]

LONGEST = 64
"""Bytes of a value that are looked at together with others'; the few that are longer are looked at one by one."""

_TOGETHER = 16 * 1024
"""Values of one column that are looked at together: few enough to stay in the processor's cache."""
_STEPS_BETWEEN = 4
"""Bytes, after which the values that have ended are left out."""
_SHOWN = 40
_QUOTE, _LINE_END, _CARRIAGE_RETURN = b'"\n\r'


class ColumnType(StrEnum):
    """What a column's values look like."""

    INTEGER = "int"
    NUMBER = "float"
    BOOLEAN = "bool"
    DATE = "date"
    TEXT = "text"


class Kind(IntFlag):
    """What values are; of several values all that they are."""

    MISSING = 0
    INTEGER = 1
    NUMBER = 2
    BOOLEAN = 4
    DATE = 8
    TEXT = 16


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    type: ColumnType
    exception: str = ""
    """Of a text whose first values are of another type: the first value that is not."""


def type_of(kinds: Kind) -> ColumnType:
    """The type of a column with values of these kinds."""
    match kinds:
        case Kind.INTEGER:
            return ColumnType.INTEGER
        case Kind.BOOLEAN:
            return ColumnType.BOOLEAN
        case Kind.DATE:
            return ColumnType.DATE
    return ColumnType.NUMBER if kinds and not kinds & ~(Kind.INTEGER | Kind.NUMBER) else ColumnType.TEXT


def kind_of(cell: str) -> Kind:
    """What a value is; spaces around it do not count."""
    state = 0
    steps, kinds = _automaton()
    for character in cell:
        after = steps[state].get(character)
        if after is None:
            return Kind.TEXT
        state = after
    return kinds[state]


class ColumnKinds:
    """The kinds of the values of each column, as a file is gone through.

    :param header: whether the first row has names.
    """

    def __init__(self, width: int, delimiter: str, encoding: str, *, header: bool) -> None:
        self._header = header
        self._encoding = encoding
        self._delimiter = delimiter.encode()
        self._kinds = [Kind.MISSING] * width
        self._exceptions = [""] * width
        self._open = set(range(width))
        """The columns that may still be something else than text."""

    def columns(self, names: Sequence[str]) -> list[Column]:
        """The columns, after the whole file was seen."""
        return [
            Column(name, type_of(kinds), exception)
            for name, kinds, exception in zip(names, self._kinds, self._exceptions, strict=True)
        ]

    def see_row(self, row: int, cells: Sequence[str]) -> None:
        """Judge a row's values; rows are counted from 0, with the header, and values decoded as Latin-1."""
        if row == 0 and self._header:
            return
        for place in list(self._open):
            if kind := kind_of(cells[place]):
                self._add(place, kind, row, cells[place].encode("latin-1").decode(self._encoding, "replace"))

    def see(
        self, data: bytes, rows: Places, starts: Places, delimiters: Places, quotes: Places, enclosed: Places
    ) -> None:
        """Judge the values of rows that have all their fields.

        :param rows: their numbers.
        :param starts: where they begin in ``data``.
        :param delimiters: the places of their delimiters, of one row after the other.
        :param quotes: all quotes in ``data``; every one begins or ends a value, or is one of a pair within one.
        :param enclosed: the delimiters and line ends within quotes.
        """
        import numpy as np

        if self._header and len(rows) and rows[0] == 0:
            rows, starts, delimiters = rows[1:], starts[1:], delimiters[len(self._kinds) - 1 :]
        if not self._open or not len(rows):
            return
        bytes_ = np.empty(len(data) + LONGEST, np.uint8)
        bytes_[: len(data)] = np.frombuffer(data, np.uint8)
        bytes_[len(data) :] = _LINE_END
        if len(quotes):
            # What does not end a value makes a text of it, as a quote does.
            bytes_[enclosed] = _QUOTE
            before = enclosed[enclosed > 0] - 1
            bytes_[before[bytes_[before] == _CARRIAGE_RETURN]] = _QUOTE
            closing = quotes[1::2]
            bytes_[closing[bytes_[closing + 1] != _QUOTE]] = _LINE_END
        ends = delimiters.reshape(len(rows), len(self._kinds) - 1)
        places = sorted(self._open)
        begin = np.stack([ends[:, place - 1] + 1 if place else starts for place in places])
        if len(quotes):
            begin += bytes_[begin] == _QUOTE
        kinds = self._judge(bytes_, begin.reshape(-1)).reshape(begin.shape)
        for place, kind, of_rows, begins in zip(
            places, np.bitwise_or.reduce(kinds, axis=1).tolist(), kinds, begin, strict=True
        ):
            if kind | self._kinds[place] != self._kinds[place]:
                self._take_in(place, Kind(kind), rows, of_rows, data, begins)

    def _take_in(self, place: int, kind: Kind, rows: Places, kinds: Bytes, data: bytes, begins: Places) -> None:
        """Take in what the values of a column are, ``kind`` all together."""
        import numpy as np

        seen = self._kinds[place]
        if type_of(seen | kind) is not ColumnType.TEXT:
            self._kinds[place] = seen | kind
            return
        so_far = np.bitwise_or.accumulate(kinds | np.uint8(seen))
        texts = [one for one in np.unique(so_far).tolist() if one and type_of(Kind(one)) is ColumnType.TEXT]
        first = int(np.flatnonzero(np.isin(so_far, texts))[0])
        if first:
            self._kinds[place] = Kind(int(so_far[first - 1]))
        self._add(place, Kind(int(kinds[first])), int(rows[first]), self._cell(data, int(begins[first])))

    def _add(self, place: int, kind: Kind, row: int, value: str) -> None:
        """Take in what one value is."""
        seen = self._kinds[place]
        self._kinds[place] = seen | kind
        if type_of(seen | kind) is not ColumnType.TEXT:
            return
        self._open.discard(place)
        if seen:
            text = value.strip()
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
            self._exceptions[place] = f"row {row + 1 - self._header} has {shown!r}, the rows before it {type_of(seen)}"

    def _judge(self, bytes_: Bytes, begin: Places) -> Bytes:
        """The kinds of the values that begin there."""
        import numpy as np

        parts = [begin[first : first + _TOGETHER] for first in range(0, len(begin), _TOGETHER)]
        return np.concatenate([self._judge_together(bytes_, part) for part in parts])

    def _judge_together(self, bytes_: Bytes, begin: Places) -> Bytes:
        import numpy as np

        table, finals, kinds = _table(self._delimiter)
        judged = np.zeros(len(begin), np.uint8)
        left, places, state = np.arange(len(begin)), begin.copy(), np.zeros(len(begin), np.intp)
        for step in range(LONGEST):
            state += bytes_.take(places, mode="clip")
            state = table.take(state, mode="clip")
            places += 1
            if step % _STEPS_BETWEEN == _STEPS_BETWEEN - 1:
                done = state >= finals
                judged[left[done]] = kinds[(state[done] - finals) >> 8]
                left, places, state = left[~done], places[~done], state[~done]
                if not len(left):
                    break
        for long in left.tolist():
            judged[long] = kind_of(self._value(bytes_, int(begin[long])).decode("latin-1"))
        return judged

    def _cell(self, data: bytes, start: int) -> str:
        """The beginning of the value there, without its quotes."""
        quoted = start > 0 and data[start - 1] == _QUOTE
        text = data[start - quoted : start + 4 * LONGEST].decode(self._encoding, "replace")
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter.decode()))[0]

    def _value(self, bytes_: Bytes, start: int) -> bytes:
        """The value that begins there."""
        length = 4 * LONGEST
        while True:
            rest = bytes_[start : start + length].tobytes()
            ends = [place for end in (self._delimiter, b"\n", b"\r") if (place := rest.find(end)) >= 0]
            if ends or len(rest) < length:
                return rest[: min(ends, default=len(rest))]
            length *= 4


# The automaton

_D = "0123456789"
_BLANK = " \t"


def _steps() -> Iterator[tuple[str, str, str]]:
    """State, the characters that lead on from it, the next state."""
    yield from (
        ("", _BLANK, ""),
        # 1, -1.5, .5, 1e-3
        ("", "+-", "sign"),
        ("", _D, "whole"),
        ("", ".", "point"),
        ("sign", _D, "whole"),
        ("sign", ".", "point"),
        ("whole", _D, "whole"),
        ("whole", ".", "fraction"),
        ("whole", "eE", "exponent"),
        ("point", _D, "fraction"),
        ("fraction", _D, "fraction"),
        ("fraction", "eE", "exponent"),
        ("exponent", _D, "power"),
        ("exponent", "+-", "signed power"),
        ("signed power", _D, "power"),
        ("power", _D, "power"),
    )
    # 2020-01-31, 2020/1/31
    yield from (("", _D, "y1"), ("y1", _D, "y2"), ("y2", _D, "y3"), ("y3", _D, "y4"))
    for one in "-/":
        yield from (
            ("y4", one, f"month{one}"),
            (f"month{one}", "0", f"0m{one}"),
            (f"month{one}", "1", f"1m{one}"),
            (f"month{one}", "23456789", f"m{one}"),
            (f"0m{one}", "123456789", f"m{one}"),
            (f"1m{one}", "012", f"m{one}"),
            (f"1m{one}", one, "day"),
            (f"m{one}", one, "day"),
        )
    yield from (
        ("day", "0", "0d"),
        ("day", "12", "1d"),
        ("day", "3", "3d"),
        ("day", "456789", "date"),
        ("0d", "123456789", "date"),
        ("1d", _D, "date"),
        ("3d", "01", "date"),
    )
    # 8:00, 08:00:00.123
    yield from ((day, "T ", "hour") for day in ("1d", "3d", "date"))
    yield from (
        ("hour", _D, "h1"),
        ("h1", _D, "h2"),
        ("h1", ":", "minute"),
        ("h2", ":", "minute"),
        ("minute", _D, "m1"),
        ("m1", _D, "minutes"),
        ("minutes", ":", "second"),
        ("second", _D, "s1"),
        ("s1", _D, "seconds"),
        ("seconds", ".", "part"),
        ("part", _D, "parts"),
        ("parts", _D, "parts"),
    )
    # Z, +08:00
    for clock in ("minutes", "seconds", "parts"):
        yield from ((clock, "Z", "zoned"), (clock, "+-", "offset"), (clock, " ", "before zone"))
    yield from (
        ("before zone", "Z", "zoned"),
        ("before zone", "+-", "offset"),
        ("offset", _D, "o1"),
        ("o1", _D, "o2"),
        ("o2", ":", "o3"),
        ("o2", _D, "o4"),
        ("o3", _D, "o4"),
        ("o4", _D, "zoned"),
    )
    for word in _WORDS:
        for length, character in enumerate(word):
            yield word[:length] and f"'{word[:length]}", character + character.swapcase(), f"'{word[: length + 1]}"
    for state, kind in _KINDS.items():
        if state:
            yield state, _BLANK, f"after {kind.name}"
    for kind in set(_KINDS.values()):
        yield f"after {kind.name}", _BLANK, f"after {kind.name}"


_WORDS: Mapping[str, Kind] = {
    **dict.fromkeys(("true", "false"), Kind.BOOLEAN),
    **dict.fromkeys((f"{sign}{word}" for sign in ("", "+", "-") for word in ("inf", "infinity")), Kind.NUMBER),
    **dict.fromkeys(("na", "n/a", "nan", "null", "none", "#n/a", "<na>"), Kind.MISSING),
}
_KINDS: Mapping[str, Kind] = {
    "": Kind.MISSING,
    "whole": Kind.INTEGER,
    **dict.fromkeys(("fraction", "power"), Kind.NUMBER),
    **dict.fromkeys(("1d", "3d", "date", "minutes", "seconds", "parts", "zoned"), Kind.DATE),
    **{f"'{word}": kind for word, kind in _WORDS.items()},
}
"""What a value is that ends there; whatever ends elsewhere is text."""


@cache
def _automaton() -> tuple[list[dict[str, int]], list[Kind]]:
    """Of each state the steps on, and what a value is that ends there; the first state is where values begin."""
    steps: dict[str, list[tuple[str, str]]] = {}
    for state, characters, after in _steps():
        steps.setdefault(state, []).append((characters, after))
    kinds = {**_KINDS, **{f"after {kind.name}": kind for kind in _KINDS.values()}}
    start = frozenset({""})
    numbers, left = {start: 0}, [start]
    found: list[dict[str, int]] = []
    for states in left:  # grows as it is gone through
        leading: dict[str, set[str]] = {}
        for state in states:
            for characters, after in steps.get(state, ()):
                for character in characters:
                    leading.setdefault(character, set()).add(after)
        on: dict[str, int] = {}
        for character, together in leading.items():
            after_all = frozenset(together)
            if after_all not in numbers:
                numbers[after_all] = len(numbers)
                left.append(after_all)
            on[character] = numbers[after_all]
        found.append(on)
    # Where several kinds end together one is missing a space only, or they are the same.
    ends = [next((kinds[state] for state in sorted(states) if state in kinds), Kind.TEXT) for states in left]
    return found, ends


@cache
def _table(delimiter: bytes) -> tuple[Any, int, Any]:
    """The automaton as an array: state + byte -> state, in steps of 256; the first final state; the finals' kinds."""
    import numpy as np

    steps, ends = _automaton()
    kinds = sorted(set(ends) | {Kind.TEXT})
    first = len(steps)
    final = {kind: first + place for place, kind in enumerate(kinds)}
    table = np.full((first + len(kinds), 256), final[Kind.TEXT], np.intp)
    for state, on in enumerate(steps):
        for character, after in on.items():
            table[state, ord(character)] = after
        for end in (*delimiter, *b"\r\n"):
            table[state, end] = final[ends[state]]
    for number in final.values():
        table[number] = number
    return (table * 256).reshape(-1), first * 256, np.array(kinds, np.uint8)
