"""Column types as people write them, brought into the form that ``stream_jobs.sql.types`` reads.

The grammar is there; here is what a definition adds, as data (``schemas/hlink/types.json``): what a type without
parameters means, which parameters it may have, what to write instead of another system's type.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from app.hlink import catalogue
from stream_jobs.definitions import DefinitionError
from stream_jobs.sql import types
from stream_jobs.sql.types import DataType

_LONGEST = 10_000
_DEEPEST = 50
"""Types nested deeper are no types that somebody needs, and the parser goes down by recursion."""


class TypeProblem(ValueError):
    """A type that a column cannot have: the message says why and what to write instead."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Bounds:
    """The smallest and the largest number that a type's parameter may be."""

    lowest: int = Field(alias="from")
    highest: int = Field(alias="to")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TypeRule:
    """What the numbers after a type's name may be, and what the name means without them."""

    parameters: tuple[Bounds, ...] = ()
    bare: str = ""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Offered:
    """What a form offers for a column: Flink's types, and the plain words of the original beside them."""

    flink: tuple[str, ...]
    basic: tuple[str, ...]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Catalogue:
    """The content of ``schemas/hlink/types.json``; ``jdbc``: a role's and database's types."""

    source: str
    offered: Offered
    types: Mapping[str, TypeRule]
    suggestions: Mapping[str, str]
    jdbc: Mapping[str, Mapping[str, frozenset[str]]]


@cache
def known() -> Catalogue:
    """The types of ``schemas/hlink/types.json``."""
    return catalogue.load("types", Catalogue)


def parse(text: str) -> DataType:
    """The type that ``text`` names, with the parameters that it means when it gives none.

    Raises TypeProblem.
    """
    if len(text) > _LONGEST or text.count("<") > _DEEPEST:
        raise TypeProblem(f"'{text[:40]}...' is too long for a type; flatten it")
    try:
        return _completed(types.parse(text), text)
    except DefinitionError as error:
        raise TypeProblem(_explained(text)) from error


def names(kind: DataType) -> set[str]:
    """The names of all types in it, its own included."""
    return {kind.name}.union(*(names(element) for element in kind.elements))


def _completed(kind: DataType, text: str) -> DataType:
    rule = known().types.get(kind.name, TypeRule())
    if rule.bare and not kind.parameters:
        return types.parse(rule.bare)
    for number, bounds in zip(kind.parameters, rule.parameters, strict=False):
        if not bounds.lowest <= number <= bounds.highest:
            raise TypeProblem(
                f"'{text}': {number} is out of bounds, {kind.name} takes {bounds.lowest} to {bounds.highest}"
            )
    if kind.name == "DECIMAL" and len(kind.parameters) == 2 and kind.parameters[1] > kind.parameters[0]:
        raise TypeProblem(
            f"'{text}' has more digits after the point ({kind.parameters[1]}) than in all ({kind.parameters[0]})"
        )
    return replace(kind, elements=tuple(_completed(element, text) for element in kind.elements))


def _explained(text: str) -> str:
    words = [word.upper() for word in re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text)]
    for word in words:
        if word in known().suggestions:
            return f"'{text}' is not a type of Flink SQL; write {known().suggestions[word]}"
    every = {*types.ATOMIC, *types.ALIASES, *types.COLLECTIONS, "ROW"}
    if words and words[0] in types.COLLECTIONS:
        return f"'{text}' is not a type of Flink SQL; write element types, as in ARRAY<STRING> or MAP<STRING, BIGINT>"
    near = [] if not words or words[0] in every else difflib.get_close_matches(words[0], every, n=1)
    if near:
        return f"'{text}' is not a type of Flink SQL; did you mean {near[0]}?"
    return f"'{text}' is not a type of Flink SQL; write for example STRING, BIGINT, DECIMAL(10, 2) or TIMESTAMP(3)"
