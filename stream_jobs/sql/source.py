"""A statement's text: places in it, and edits that can be traced back.

Flink names places as line and column, counted from 1 in UTF-16 units, in the text that it was given. The user
wrote another text: ours has edits in it. ``Edited`` finds the way back.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stream_jobs.problems import Place

#: Strings, quoted names, comments, words, single characters: enough to step over what may hold a parenthesis.
_TOKEN = re.compile(r"'(?:[^']|'')*'|`(?:[^`]|``)*`|--[^\n]*|/\*.*?\*/|\s+|\w+|.", re.DOTALL)


def normalized(sql: str) -> str:
    """One kind of line end, no trailing semicolon or blanks: places stay what they are in the user's editor."""
    text = sql.replace("\r\n", "\n").replace("\r", "\n").rstrip()
    while text.endswith(";"):
        text = text[:-1].rstrip()
    return text


class Text:
    """Offsets of a text from Flink's places and back."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0] + [m.end() for m in re.finditer("\n", text)]
        self._wide = any(ord(c) > 0xFFFF for c in text)

    def offset(self, line: int, column: int) -> int:
        """The offset of a place; one past the end of the text where the place lies outside."""
        if line < 1 or line > len(self._starts):
            return len(self.text)
        start = self._starts[line - 1]
        if not self._wide:
            return min(start + column - 1, len(self.text))
        units, offset = 0, start
        while offset < len(self.text) and units < column - 1:
            units += 2 if ord(self.text[offset]) > 0xFFFF else 1
            offset += 1
        return offset

    def span(self, at: Sequence[int]) -> tuple[int, int]:
        """First and one past the last offset of ``[line, column, end line, end column]``."""
        line, column, end_line, end_column = at
        return self.offset(line, column), min(self.offset(end_line, end_column) + 1, len(self.text))

    def place(self, start: int, end: int) -> Place:
        """The place of the characters from ``start`` to before ``end``, in characters, as an editor counts."""
        last = max(start, end - 1)
        line, end_line = bisect_right(self._starts, start), bisect_right(self._starts, last)
        return Place(line, start - self._starts[line - 1] + 1, end_line, last - self._starts[end_line - 1] + 1)

    def with_parentheses(self, start: int, end: int) -> tuple[int, int]:
        """The span together with the parentheses right around it (the parser's positions leave them out)."""
        tokens = [(m.start(), m.end()) for m in _TOKEN.finditer(self.text)]
        significant = [(a, b) for a, b in tokens if not self._is_blank(a, b)]
        before = [span for span in significant if span[1] <= start]
        after = [span for span in significant if span[0] >= end]
        for left, right in zip(reversed(before), after, strict=False):
            if self.text[left[0]] != "(" or self.text[right[0]] != ")":
                break
            start, end = left[0], right[1]
        return start, end

    def _is_blank(self, start: int, end: int) -> bool:
        token = self.text[start:end]
        return token.isspace() or token.startswith(("--", "/*"))


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace the characters from ``start`` to before ``end`` by ``text`` (an insertion where they are equal)."""

    start: int
    end: int
    text: str


class Edited:
    """A text after edits that do not overlap; insertions at one offset keep their order."""

    def __init__(self, original: Text, edits: Iterable[Edit]) -> None:
        self.original = original
        parts: list[str] = []
        # (offset in the result, offset in the original, whether the stretch that begins here was copied)
        self._map: list[tuple[int, int, bool]] = []
        at = length = 0
        for edit in sorted(edits, key=lambda e: (e.start, e.end)):
            if edit.start < at:
                raise ValueError("edits overlap")
            for text, origin, copied in (
                (original.text[at : edit.start], at, True),
                (edit.text, edit.start, False),
            ):
                self._map.append((length, origin, copied))
                parts.append(text)
                length += len(text)
            at = edit.end
        self._map.append((length, at, True))
        parts.append(original.text[at:])
        self.text = "".join(parts)
        self._text = Text(self.text)

    def original_place(self, at: Sequence[int]) -> Place:
        """The place in the user's text of a place that Flink named in the edited one."""
        start, end = self._text.span(at)
        first = self._original_offset(start)
        last = self._original_offset(max(start, end - 1))
        return self.original.place(first, max(first, last) + 1)

    def _original_offset(self, offset: int) -> int:
        # Empty stretches share their start with the next one: the last that begins here is the one that is meant.
        length, origin, copied = self._map[bisect_right(self._map, offset, key=lambda m: m[0]) - 1]
        found = origin + (offset - length) if copied else origin
        return min(found, max(len(self.original.text) - 1, 0))
