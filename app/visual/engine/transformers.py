"""Transformers that scikit-learn lacks, in its form: whoever loads a pipeline that has one needs this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

DATE_PARTS = ("year", "quarter", "month", "day", "dayofweek", "dayofyear", "hour", "minute", "second")
OPERATIONS = ("add", "subtract", "multiply", "divide")
KINDS = ("number", "text", "datetime")


class _OfFrames(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Learns nothing: the same rows always become the same."""

    def fit(self, X: pd.DataFrame, y: Any = None) -> Any:
        self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        self.n_features_in_ = len(X.columns)
        return self

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> np.ndarray[Any, Any]:
        raise NotImplementedError

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "feature_names_in_")


class DateParts(_OfFrames):
    """Columns of times become columns of numbers, one a part: ``<column>_<part>``."""

    def __init__(self, parts: Sequence[str] = ("year", "month", "day", "dayofweek", "hour")) -> None:
        self.parts = parts

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Where the time is missing, its parts are. Raises ValueError for what is no time."""
        made = {}
        for name in X.columns:
            times = pd.to_datetime(X[name]).dt
            for part in self.parts:
                made[f"{name}_{part}"] = getattr(times, part)
        return pd.DataFrame(made, index=X.index)

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> np.ndarray[Any, Any]:
        """One name a column and part."""
        return np.asarray([f"{name}_{part}" for name in self.feature_names_in_ for part in self.parts], dtype=object)


class Arithmetic(_OfFrames):
    """A column more, computed from two; what is divided by zero is missing."""

    def __init__(self, left: str, right: str, operation: str = "add", name: str = "result") -> None:
        self.left = left
        self.right = right
        self.operation = operation
        self.name = name

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """The columns as they are, and the new one."""
        left, right = X[self.left].astype(float), X[self.right].astype(float)
        if self.operation == "divide":
            right = right.replace(0.0, np.nan)
        return X.assign(**{self.name: getattr(np, self.operation)(left, right)})

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> np.ndarray[Any, Any]:
        """The names as they are, and the new one."""
        return np.asarray([*self.feature_names_in_, self.name], dtype=object)


class ChangeType(_OfFrames):
    """Columns become numbers, texts or times; what cannot be read so is missing, or refused."""

    def __init__(self, to: str = "number", errors: str = "raise") -> None:
        self.to = to
        self.errors = errors

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Raises ValueError with ``errors="raise"``, naming the column and the value."""
        return pd.DataFrame({name: self._changed(X[name]) for name in X.columns}, index=X.index)

    def _changed(self, column: pd.Series) -> pd.Series:
        if self.to == "text":
            return column.astype(str).where(column.notna(), np.nan).astype(object)
        read = pd.to_numeric if self.to == "number" else pd.to_datetime
        changed = read(column, errors="coerce")
        if self.errors == "raise" and (lost := changed.isna() & column.notna()).any():
            row = int(np.flatnonzero(lost)[0])
            raise ValueError(
                f"row {row + 1} of column '{column.name}' has {column.iloc[row]!r}, which cannot be read as {self.to}"
            )
        return changed

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> np.ndarray[Any, Any]:
        """The names as they are."""
        return np.asarray(self.feature_names_in_, dtype=object)
