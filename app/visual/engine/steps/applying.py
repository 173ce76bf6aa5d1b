"""Steps that use what was fitted on other rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from app.visual.engine import checks
from app.visual.engine.steps import Task
from app.visual.engine.values import Model, NodeFailure, Table, Value

PREDICTION, PROBABILITY = "prediction", "probability_"


def apply(task: Task) -> Mapping[str, Value]:
    """Rows with the model's ``prediction``, and ``probability_<class>`` where it tells them.

    A model alone takes rows that went through the same preparation; a pipeline takes rows as they were read. A fitted
    preparation transforms them.
    """
    model, table = task.model(), task.table()
    features = prepared(model, table)
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


def prepared(model: Model, table: Table) -> pd.DataFrame:
    """The table's rows as the model's estimator takes them. Raises :class:`NodeFailure` where it cannot."""
    chain = [one for _, one in model.preparation] + ([model.estimator] if model.task == "transformation" else [])
    needed = checks.needed_by(chain[0]) if chain else list(model.features)
    if missing := [name for name in needed if name not in table.frame.columns]:
        remedy = _REMEDIES[bool(chain)]
        raise NodeFailure(f"The model was fitted with {checks.named(missing)}, which the table has not: {remedy}")
    features = table.frame[needed]
    try:
        for one in chain:
            features = one.transform(features)
    except ValueError as error:
        raise NodeFailure(f"The rows cannot be prepared as the model's were: {error}") from error
    if model.task != "transformation":
        features = features[list(model.features)]
        checks.takes(model.estimator, features)
    return features


_REMEDIES = {
    True: "tie rows as they were before the model's preparation",
    False: "send the rows through the preparation of the model's rows (the ports 'test'), or tie the pipeline",
}
"""By whether the model prepares rows itself."""


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
