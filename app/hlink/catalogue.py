"""The data files of ``schemas/hlink``, checked when they are read."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

FOLDER = Path(__file__).resolve().parents[2] / "schemas" / "hlink"

T = TypeVar("T")


def load(name: str, shape: type[T]) -> T:
    """The file ``schemas/hlink/<name>.json`` as a value of ``shape``. Raises pydantic's ValidationError."""
    content = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    content.pop("$schema", None)
    return TypeAdapter(shape).validate_python(content)


@cache
def reserved_words() -> frozenset[str]:
    """Words, in capitals, that Flink's parser refuses as a table's plain name."""
    return frozenset(load("reserved_words", dict)["words"])
