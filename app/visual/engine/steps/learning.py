"""Steps that fit estimators: the outputs are the model alone, and the model with all that its rows went through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from app.visual.engine import checks
from app.visual.engine.steps import Task
from app.visual.engine.values import Model, NodeFailure, Table, Value, types_of

CLUSTER = "cluster"
"""The column that clusterers add; -1 stands for rows of no cluster."""
_MOST_BARS = 30


def classify(task: Task) -> Mapping[str, Value]:
    """Fit a classifier."""
    return fit(task, "classification", checks.classes(task.table()))


def regress(task: Task) -> Mapping[str, Value]:
    """Fit a regression."""
    return fit(task, "regression", checks.numbers(task.table()))


def cluster(task: Task) -> Mapping[str, Value]:
    """Fit a clustering; its rows come out with the cluster of each. The target has no part in it."""
    table = task.table()
    estimator = task.make()
    wanted: int = getattr(estimator, "n_clusters", None) or getattr(estimator, "n_components", None) or 1
    if wanted > len(table.frame):
        raise NodeFailure(f"{len(table.frame)} rows are too few for {wanted} clusters: take fewer clusters")
    fitted = fit(task, "clustering", None, estimator)
    labels = getattr(estimator, "labels_", None)
    found = estimator.predict(table.features) if labels is None else labels
    return {**fitted, "data": table.with_column(**{CLUSTER: found})}


def fit(task: Task, kind: str, labels: pd.Series | None, estimator: Any = None) -> dict[str, Value]:
    """Fit the component's estimator on the table's features."""
    table = task.table()
    estimator = task.make() if estimator is None else estimator
    checks.takes(estimator, table.features)
    try:
        estimator.fit(table.features, labels)
    except ValueError as error:
        raise NodeFailure(str(error)) from error
    model = _model(estimator, kind, table)
    _draw(task, estimator, model.features)
    return {"model": model, "pipeline": replace(model, preparation=table.preparation, columns=table.columns)}


def _model(estimator: Any, kind: str, table: Table) -> Model:
    features = table.features
    return Model(estimator, kind, list(map(str, features.columns)), table.target, columns=types_of(features))


def _draw(task: Task, estimator: Any, features: list[str] | Any) -> None:
    """What a fitted estimator tells of itself."""
    if (losses := getattr(estimator, "loss_curve_", None)) is not None:
        task.figures("model").curve("loss", range(1, len(losses) + 1), losses, "epochs", "loss")
    if (weights := _weights(estimator)) is not None and len(weights) == len(features):
        first = np.argsort(-np.abs(weights), kind="stable")[:_MOST_BARS]
        task.figures("model").bars("feature weights", [features[i] for i in first], weights[first])


def _weights(estimator: Any) -> np.ndarray[Any, Any] | None:
    for name in ("feature_importances_", "coef_"):
        # Kernels other than the linear one have no coefficients, and say so by an AttributeError.
        if (found := getattr(estimator, name, None)) is not None and isinstance(found, np.ndarray):
            of_one = np.atleast_1d(np.squeeze(found))
            weights: np.ndarray[Any, Any] = of_one if of_one.ndim == 1 else np.abs(found).mean(axis=0)
            return weights
    return None
