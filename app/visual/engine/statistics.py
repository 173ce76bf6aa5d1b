"""What is known of a table's columns, for people to look at before they go on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from app.visual.engine import images

_BINS = 20
_SHOWN_VALUES = 20
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


def of_columns(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """One entry a column: type, count, missing, distinct; of numbers mean, deviation, quantiles and a histogram, of
    others the most frequent values.
    """
    return [_of_column(str(name), frame[name]) for name in frame.columns]


def _of_column(name: str, column: pd.Series) -> dict[str, Any]:
    there = column.dropna()
    known: dict[str, Any] = {
        "name": name,
        "type": str(column.dtype),
        "count": len(there),
        "missing": len(column) - len(there),
        "distinct": int(there.nunique()),
    }
    if images.is_image(column):
        return known | {"type": "image"}
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = there.to_numpy(dtype=float)
        finite = values[np.isfinite(values)]
        if len(finite):
            counts, edges = histogram(finite)
            known |= {
                "mean": float(finite.mean()),
                "std": float(finite.std(ddof=1)) if len(finite) > 1 else 0.0,
                "quantiles": dict(zip(map(str, _QUANTILES), map(float, np.quantile(finite, _QUANTILES)), strict=True)),
                "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
            }
    else:
        most = there.astype(str).value_counts().head(_SHOWN_VALUES)
        known["values"] = {str(value): int(count) for value, count in most.items()}
    return known


def histogram(values: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Counts and the edges between them; one bin for values that are too close together for more."""
    try:
        return np.histogram(values, bins=_BINS)
    except ValueError:
        return np.histogram(values, bins=1, range=(values.min() - 0.5, values.max() + 0.5))
