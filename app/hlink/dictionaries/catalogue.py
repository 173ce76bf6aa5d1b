"""The dictionaries of ``schemas/hlink/dictionaries.json``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from app.errors import NotFound
from app.hlink import catalogue

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Choice:
    """One choice; ``off``: listed, and not to be chosen."""

    value: str
    label: str
    default: bool = False
    off: bool = False
    remark: str = ""


@dataclass(frozen=True, config=_STRICT)
class Dictionary:
    """A list of choices; ``also`` are further names under which it is published."""

    type: str
    name: str
    items: tuple[Choice, ...]
    also: tuple[str, ...] = ()


@dataclass(frozen=True, config=_STRICT)
class _Catalogue:
    source: str
    dictionaries: tuple[Dictionary, ...]


@cache
def dictionaries() -> Mapping[str, Dictionary]:
    """All dictionaries under each of their names."""
    found = catalogue.load("dictionaries", _Catalogue).dictionaries
    return {name: one for one in found for name in (one.type, *one.also)}


def dictionary(name: str) -> Dictionary:
    """The dictionary of that name. Raises :class:`~app.errors.NotFound` with the names there are."""
    known = dictionaries()
    if name not in known:
        raise NotFound(f"There is no dictionary '{name}': choose from {', '.join(known)}")
    return known[name]
