"""Steps that use what was fitted on other rows."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from app.visual.engine import checks
from app.visual.engine.steps import Task
from app.visual.engine.values import Model, NodeFailure, Table, Value

PREDICTION, PROBABILITY = "prediction", "probability_"
NO_VALUE = "no value"
MOST_TOLD = 100
"""So many categories that are not known are told."""


def apply(task: Task) -> Mapping[str, Value]:
    """Rows with the model's ``prediction``, and ``probability_<class>`` where it tells them.

    A model alone takes rows that went through the same preparation; a pipeline takes rows as they were read. A fitted
    preparation transforms them. Categories that it does not know are told in a table.
    """
    model, table = task.model(), task.table()
    unknown: list[Unknown] = []
    features = prepared(model, table, unknown)
    if unknown:
        _tell(task, unknown)
    if model.task == "transformation":
        target = table.target if table.target not in features.columns else None
        changed = features if target is None else features.assign(**{target: table.labels})
        step = [*model.preparation, (f"{len(model.preparation) + 1}_applied", model.estimator)]
        return {"data": Table(changed, target, step, model.columns)}
    predicted: dict[str, Any] = {PREDICTION: labels(model, features)}
    if task.parameters.get("probabilities", True) and hasattr(model.estimator, "predict_proba"):
        told = model.estimator.predict_proba(features)
        names = getattr(model.estimator, "classes_", range(told.shape[1]))
        predicted |= {f"{PROBABILITY}{name}": told[:, i] for i, name in enumerate(names)}
    return {"data": table.with_column(**predicted)}


@dataclass(frozen=True)
class Unknown:
    """Categories in rows to come that the model was not fitted with, and how many rows have each."""

    column: str
    rows: Mapping[str | None, int]
    """None stands for rows that have no value there."""


def prepared(model: Model, table: Table, unknown: list[Unknown] | None = None) -> pd.DataFrame:
    """The table's rows as the model's estimator takes them; ``unknown`` gets the categories that it does not know.

    Raises :class:`NodeFailure` where it cannot take them.
    """
    chain = [one for _, one in model.preparation] + ([model.estimator] if model.task == "transformation" else [])
    needed = checks.needed_by(chain[0]) if chain else list(model.features)
    if missing := [name for name in needed if name not in table.frame.columns]:
        near = difflib.get_close_matches(missing[0], map(str, table.frame.columns), 1)
        like = f". Or is '{near[0]}' meant? Then rename it" if near else ""
        remedy = _REMEDIES[bool(chain)]
        raise NodeFailure(f"The model was fitted with {checks.named(missing)}, which the table has not: {remedy}{like}")
    features = _of_the_same_types(table.frame[needed], model.columns)
    try:
        for one in chain:
            for found in _unknown(one, features):
                if unknown is not None:
                    unknown.append(found)
            features = one.transform(features)
    except ValueError as error:
        raise NodeFailure(f"The rows cannot be prepared as the model's were: {error}") from error
    if model.task != "transformation":
        features = features[list(model.features)]
        checks.takes(model.estimator, features)
    return features


_REMEDIES = {
    True: "bring rows in that have all columns, as they were before the model's preparation",
    False: "send the rows through the preparation of the model's rows (the ports 'test'), or tie the pipeline",
}
"""By whether the model prepares rows itself."""


def _of_the_same_types(features: pd.DataFrame, fitted: Mapping[str, str]) -> pd.DataFrame:
    """The features, each a number, a text or a time as when the model was fitted.

    Raises :class:`NodeFailure` for others, with the first value that is none. What has no value at all may be anything.
    """
    for name in features.columns:
        column = features[name]
        was = _kind(pd.api.types.pandas_dtype(fitted[name])) if name in fitted else None
        now, there = _kind(column.dtype), column.dropna()
        if was is None or now is None or was == now or pd.api.types.infer_dtype(there) == "boolean":
            continue
        if not len(there):
            kind: Any = {"numbers": "float", "texts": "object"}.get(was, fitted[name])
            features = features.assign(**{name: column.astype(kind)})
            continue
        wrong = pd.to_numeric(there, errors="coerce").isna() if (was, now) == ("numbers", "texts") else there.notna()
        place = int(column.notna().to_numpy().nonzero()[0][int(wrong.to_numpy().argmax())])
        raise NodeFailure(
            f"The column '{name}' had {was} when the model was fitted and has {now} here, "
            f"'{column.iloc[place]}' in row {place + 1} for instance: "
            f"mend the data set, or put 'Change types' before this node"
        )
    return features


def _kind(dtype: Any) -> str | None:
    """What a column has; None for truths, which are texts where some are missing, and for other rarities."""
    if pd.api.types.is_bool_dtype(dtype):
        return None
    if pd.api.types.is_numeric_dtype(dtype):
        return "numbers"
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return "times"
    return "texts" if pd.api.types.is_object_dtype(dtype) else None


def _unknown(fitted: Any, features: pd.DataFrame) -> Iterator[Unknown]:
    """The categories that encoders of a ColumnTransformer do not know.

    Raises :class:`NodeFailure` where an encoder takes none.
    """
    for _, one, names in getattr(fitted, "transformers_", ()):
        for name, known in zip(names, getattr(one, "categories_", ()), strict=False):
            others = features[name][~features[name].isin(known)]
            if not len(others):
                continue
            counts = {None if pd.isna(key) else str(key): n for key, n in others.value_counts(dropna=False).items()}
            if getattr(one, "handle_unknown", None) == "error":
                shown = [NO_VALUE if key is None else key for key in counts]
                raise NodeFailure(
                    f"The column '{name}' has categories that the model was not fitted with, "
                    f"{checks.named(shown)} in {len(others)} rows: leave these rows out, or have the "
                    f"encoder of the model's job ignore what is unknown (handle_unknown) and run that job again"
                )
            yield Unknown(str(name), counts)


def _tell(task: Task, unknown: Sequence[Unknown]) -> None:
    rows = [(one.column, name, count) for one in unknown for name, count in one.rows.items()][:MOST_TOLD]
    columns, names, counts = zip(*rows, strict=True)
    task.figures("data").table({"column": columns, "unknown category": names, "rows": counts})


def labels(model: Model, features: pd.DataFrame) -> np.ndarray[Any, Any]:
    """The model's prediction for prepared rows."""
    if not hasattr(model.estimator, "predict"):
        name = type(model.estimator).__name__
        raise NodeFailure(
            f"{name} only finds clusters among the rows that it is fitted on: use its port 'data', which has them, "
            f"or take k-means or a Gaussian mixture"
        )
    found: np.ndarray[Any, Any] = model.estimator.predict(features)
    return found
