"""Steps that choose among rows, or look at the target. They are no part of the preparation: new rows all count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder

from app.visual.engine import checks
from app.visual.engine.steps import Task
from app.visual.engine.values import NodeFailure, Table, Value

Outputs = Mapping[str, Value]


def drop_missing(task: Task) -> Outputs:
    """Leave out rows in which any (or all) of the columns are missing."""
    table = task.table()
    columns = _columns(task) or list(table.frame.columns)
    kept = table.frame.dropna(subset=columns, how=task.parameters.get("how", "any"))
    return _some(table, kept, f"every row misses a value in {checks.named(columns)}")


def drop_duplicates(task: Task) -> Outputs:
    """Leave out rows that were there before."""
    table = task.table()
    keep = task.parameters.get("keep", "first")
    return {"data": table.with_rows(table.frame.drop_duplicates(subset=_columns(task) or None, keep=keep))}


def filter_outliers(task: Task) -> Outputs:
    """Leave out rows that are far from the others in any of the columns; what is missing is not far."""
    table = task.table()
    columns = _columns(task) or checks.number_columns(table.features)
    checks.are_numbers(table.frame[columns])
    values = table.frame[columns].astype(float)
    method = task.parameters.get("method", "iqr")
    bounds = _BOUNDS[method](values, task.parameters.get("factor", 1.5 if method == "iqr" else 3.0))
    far = (values.lt(bounds[0]) | values.gt(bounds[1])).any(axis=1)
    return _some(table, table.frame[~far], "every row is an outlier: raise the factor, or choose columns")


def split(task: Task) -> Outputs:
    """Rows to learn from, and rows to test with."""
    table = task.table()
    parameters = task.parameters
    shuffle = parameters.get("shuffle", True)
    stratify = None
    if parameters.get("stratify", False):
        if not shuffle:
            raise NodeFailure("Only shuffled rows can be divided by classes: switch shuffle on, or stratify off")
        stratify = checks.classes(table)
        checks.class_sizes(stratify, 2, "Two parts of the same classes")
    try:
        train, test = train_test_split(
            table.frame,
            test_size=parameters.get("test_size", 0.25),
            shuffle=shuffle,
            stratify=stratify,
            random_state=task.random_state if shuffle else None,
        )
    except ValueError as error:
        raise NodeFailure(f"{len(table.frame)} rows cannot be divided so: {error}") from error
    return {"train": table.with_rows(train), "test": table.with_rows(test)}


def sample(task: Task) -> Outputs:
    """Some rows, by chance: a share or a number of them."""
    table = task.table()
    count, replacing = task.parameters.get("n"), task.parameters.get("replace", False)
    if count is not None and count > len(table.frame) and not replacing:
        raise NodeFailure(
            f"{count} rows cannot be taken of {len(table.frame)}: take fewer, or allow rows more than once"
        )
    how_many = {"frac": task.parameters.get("frac", 0.5)} if count is None else {"n": count}
    return {"data": table.with_rows(table.frame.sample(**how_many, replace=replacing, random_state=task.random_state))}


def sample_by_class(task: Task) -> Outputs:
    """The same share of the rows of each class, and one row at least."""
    table = task.table()
    by = checks.columns(table.frame, [str(task.parameters.get("by") or table.labels.name)])[0]
    share = task.parameters.get("frac", 0.5)
    return _by_class(
        table, table.frame[by], lambda sizes: {name: max(1, round(n * share)) for name, n in sizes.items()}, task
    )


def under_sample(task: Task) -> Outputs:
    """Of each class as many rows as the smallest has."""
    table = task.table()
    return _by_class(table, checks.classes(table), lambda sizes: dict.fromkeys(sizes, min(sizes.values())), task)


def over_sample(task: Task) -> Outputs:
    """Of each class as many rows as the largest has; rows of the others come up several times."""
    table = task.table()
    return _by_class(table, checks.classes(table), lambda sizes: dict.fromkeys(sizes, max(sizes.values())), task)


def encode_labels(task: Task) -> Outputs:
    """The target's classes become 0, 1, ...; the figure tells which is which."""
    table = task.table()
    encoder = LabelEncoder()
    outputs = {"data": _encoded(table, encoder.fit_transform(checks.classes(table)))}
    task.figures("metrics").table(
        {"class": [str(name) for name in encoder.classes_], "code": range(len(encoder.classes_))}
    )
    if (test := task.optional_table("test")) is not None:
        test = replace(test, target=checks.columns(test.frame, [str(table.target)])[0])
        if unknown := sorted(set(test.labels.dropna().unique()) - set(encoder.classes_), key=str):
            raise NodeFailure(f"The rows at 'test' have the classes {checks.named(unknown)}, which 'data' has not")
        outputs["test"] = _encoded(test, encoder.transform(test.labels))
    return outputs


def _encoded(table: Table, codes: np.ndarray[Any, Any]) -> Table:
    return replace(table, frame=table.frame.assign(**{str(table.target): codes}))


def _by_class(
    table: Table, labels: pd.Series, wanted: Callable[[dict[object, int]], dict[object, int]], task: Task
) -> Outputs:
    chance = np.random.default_rng(task.random_state)
    places = {name: np.flatnonzero(labels == name) for name in labels.dropna().unique()}
    taken = []
    for name, count in wanted({name: len(some) for name, some in places.items()}).items():
        there = places[name]
        more = max(0, count - len(there))
        # All rows of a class are there before the first comes up twice.
        taken.append(chance.choice(there, count - more, replace=False))
        taken.append(chance.choice(there, more, replace=True))
    return {"data": table.with_rows(table.frame.iloc[np.sort(np.concatenate(taken))])}


def _columns(task: Task) -> list[str]:
    return checks.columns(task.table().frame, task.parameters.get("columns") or [])


def _some(table: Table, kept: pd.DataFrame, otherwise: str) -> Outputs:
    if not len(kept) and len(table.frame):
        raise NodeFailure(f"No row is left over: {otherwise}")
    return {"data": table.with_rows(kept)}


def _around_quartiles(values: pd.DataFrame, factor: float) -> tuple[pd.Series, pd.Series]:
    low, high = values.quantile(0.25), values.quantile(0.75)
    return low - factor * (high - low), high + factor * (high - low)


def _around_mean(values: pd.DataFrame, factor: float) -> tuple[pd.Series, pd.Series]:
    return values.mean() - factor * values.std(), values.mean() + factor * values.std()


_BOUNDS: Mapping[str, Callable[[pd.DataFrame, float], tuple[pd.Series, pd.Series]]] = {
    "iqr": _around_quartiles,
    "zscore": _around_mean,
}
