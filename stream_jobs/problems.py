"""What is wrong with a job, in the words and the places of the person who wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of the user's statement, from its first to its last character; lines and columns count from 1."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what, where, and what to do about it.

    ``statement`` is the sink whose statement is meant, ``table`` and ``column`` name a definition, ``place`` is in
    the statement's text as the user wrote it. Each is empty where it does not apply.
    """

    message: str
    remedy: str = ""
    statement: str = ""
    table: str = ""
    column: str = ""
    place: Place | None = None
    #: Whether a primary key on ``table``, a sink, would mend it: the query changes rows that it has produced.
    lacks_key: bool = False

    def __str__(self) -> str:
        where = f"line {self.place.line}, column {self.place.column}: " if self.place else ""
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{where}{self.message}{remedy}"


class InvalidJob(ValueError):
    """The job cannot be planned; ``problems`` says why, in the order of the statements."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(p) for p in self.problems))
