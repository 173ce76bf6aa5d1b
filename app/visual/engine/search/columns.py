"""What a search can learn from in a table, and what of it is of no use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from pandas.api.types import is_datetime64_any_dtype

from app.visual.engine import checks
from app.visual.engine.values import NodeFailure

FEW = 20
"""A column of texts may have so many different values, however few its rows are."""
MOST_DIFFERENT = 0.5
"""More different texts than this share of the rows name the rows, and tell nothing of others."""


@dataclass(frozen=True)
class Columns:
    """The features of a table by what becomes of them."""

    dropped: Mapping[str, str]
    """Name -> why it is of no use."""
    times: Sequence[str]
    texts: Sequence[str]
    missing: bool
    """Whether numbers or times, which become numbers, miss values."""


def look_at(features: pd.DataFrame) -> Columns:
    """Sort columns out. Raises :class:`NodeFailure` where none is of use."""
    dropped: dict[str, str] = {}
    for name in map(str, features.columns):
        if why := _of_no_use(features[name]):
            dropped[name] = why
    used = features.drop(columns=list(dropped))
    if not len(used.columns):
        said = "; ".join(f"'{name}' {why}" for name, why in list(dropped.items())[: checks.MOST_NAMED])
        raise NodeFailure(
            "There is no column to learn from"
            + (f": {said}" if said else " beside the target")
            + ". Bring in columns that differ from row to row and come up again"
        )
    texts = checks.text_columns(used)
    times = [str(name) for name in used.columns if is_datetime64_any_dtype(used[name])]
    missing = bool(used.drop(columns=texts).isna().to_numpy().any())
    return Columns(dropped, times, texts, missing)


def _of_no_use(column: pd.Series) -> str | None:
    there = int(column.notna().sum())
    if not there:
        return "has no values"
    different = int(column.nunique())
    if different == 1 and there == len(column):
        return "has the same value in all rows"
    if not checks.text_columns(column.to_frame()):
        return None
    if different > max(FEW, MOST_DIFFERENT * there):
        return f"has {different:,} different texts in {there:,} rows"
    return None
