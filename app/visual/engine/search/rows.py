"""Which rows trials learn from, and which they are compared on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from app.visual.engine.values import NodeFailure, Table

MOST_CHECKED = 20_000
"""So many rows are enough to compare on."""
FIRST_CELLS = 200_000
"""Trials begin with about so many values: rows times columns."""
FIRST_ROWS = 200
"""With fewer rows trials do not begin, however many columns there are."""
FACTOR = 4
"""From one stage of a trial to the next, so many times the rows."""
FEW_ROWS = 10_000
"""So many rows are better used in folds than in one part that is kept to compare on."""
FOLDS = 5


@dataclass(frozen=True)
class Fold:
    """Rows to learn from, each beginning of which is like the whole, and others to compare on."""

    learnt: Table
    checked: Table

    def first(self, rows: int) -> Table:
        """The first rows to learn from."""
        return self.learnt if rows >= len(self.learnt.frame) else self.learnt.with_rows(self.learnt.frame.iloc[:rows])


def folds(train: Table, classes: bool, count: int | None, share: float) -> list[Fold]:
    """Divide rows, which are in no order, by the classes of the target where it has some.

    The first row of each class is learnt from in all folds, so that no model meets a class that it does not know.

    :param count: how many parts each take a turn at being compared on; 1: one part, of ``share`` of the rows.
    """
    count = count or (FOLDS if len(train.frame) <= FEW_ROWS else 1)
    of = train.labels if classes else pd.Series(0, train.frame.index)
    rank = of.groupby(of, observed=True).cumcount().to_numpy()
    place = rank / of.groupby(of, observed=True).transform("size").to_numpy()
    order = np.argsort(place, kind="stable")
    if count == 1:
        share = min(share, MOST_CHECKED / len(order))
        parts = [(place >= 1 - share) & (rank > 0)]
    else:
        parts = [(rank > 0) & ((rank - 1) % count == i) for i in range(count)]
    if not all(part.any() for part in parts):
        rows = "of no class more than one row is" if classes else f"only {len(order)} rows are"
        raise NodeFailure(f"There are too few rows to compare on, as {rows} left to learn from: bring in more rows")
    return [Fold(_rows(train, order[~part[order]]), _rows(train, np.flatnonzero(part))) for part in parts]


def stages(rows: int, columns: int) -> Sequence[int]:
    """How many rows a trial learns from, stage by stage; the last one has all."""
    first = max(FIRST_CELLS / max(columns, 1), FIRST_ROWS)
    sizes = [rows]
    while sizes[0] / FACTOR >= first:
        sizes.insert(0, sizes[0] // FACTOR)
    return sizes


def _rows(table: Table, places: np.ndarray[Any, Any]) -> Table:
    return table.with_rows(table.frame.iloc[places])
