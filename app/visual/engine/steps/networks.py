"""Steps that draw networks and have them learn; those of each framework differ in what computes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from app.visual.engine import checks, images
from app.visual.engine.networks import Layer, size
from app.visual.engine.networks.estimators import History, NetworkEstimator
from app.visual.engine.steps import Task, learning, library_class
from app.visual.engine.values import NodeFailure, Table, Value, types_of

Outputs = Mapping[str, Value]

DRAWN_EVERY_S = 0.5
"""Curves are drawn anew at most so often while a network learns."""

log = logging.getLogger("engine")


def read_images(task: Task) -> Outputs:
    """A set of images, all made of one size, with the folder of each as its ``label``."""
    archive = task.parameters.get("archive")
    if archive is None:
        raise NodeFailure("The data set has rows and no images: read it with the node 'Data set'")
    frame = images.read_archive(
        archive, task.parameters.get("mode", "colour"), task.parameters["height"], task.parameters["width"]
    )
    labelled = frame[images.LABEL].notna()
    if not labelled.any():
        return {"data": Table(frame[[images.IMAGE]], columns=types_of(frame[[images.IMAGE]]))}
    frame = frame[labelled].reset_index(drop=True)
    return {"data": Table(frame, images.LABEL, columns=types_of(frame[[images.IMAGE]]))}


def begin(task: Task) -> Outputs:
    """A network without layers, for the rows of a table: as they are, or as images of a height and a width."""
    features = task.table().features
    image = [task.parameters.get(name) for name in ("channels", "height", "width")]
    if len(features) and any(images.is_image(features[name]) for name in features.columns):
        checks.only_images(features)
        first: Any = features.iloc[0, 0]
        inputs: tuple[int, ...] = images.shape_of(first)
    elif any(image[1:]):
        if not all(image[1:]):
            raise NodeFailure("Only one of height and width is set: set both, or none where rows are no images")
        inputs = (int(image[0] or 1), int(image[1] or 0), int(image[2] or 0))
        if math.prod(inputs) != len(features.columns):
            raise NodeFailure(
                f"Images of {size(inputs)} (channels x height x width) are {math.prod(inputs)} numbers, and the table "
                f"has {len(features.columns)} columns beside the target: set other sizes, or choose columns"
            )
    else:
        checks.are_numbers(features)
        inputs = (len(features.columns),)
        if inputs == (0,):
            raise NodeFailure("The table has no column beside the target: there is nothing to learn from")
    return {"network": _of(task).begun(inputs)}


def layer(task: Task) -> Outputs:
    """One layer more, which has to fit the one before."""
    assert task.of is not None
    return {"network": _of(task).extended(task.network(), Layer(task.of, dict(task.parameters)))}


def classify(task: Task) -> Outputs:
    """Have a network learn classes."""
    return _learn(task, "classification", checks.classes)


def regress(task: Task) -> Outputs:
    """Have a network learn numbers."""
    return _learn(task, "regression", checks.numbers)


def _learn(task: Task, kind: str, labels: Any) -> Outputs:
    estimator: NetworkEstimator = task.make(network=task.network())
    if (kept := task.optional_table("validation")) is not None:
        own = Table(kept.frame, task.table().target)
        checks.columns(own.frame, [str(own.target), *map(str, task.table().features.columns)])
        features = own.frame[list(task.table().features.columns)]
        checks.takes(estimator, features)
        estimator.validation = features, labels(own)
    figures = task.figures("model")
    drawn_at = 0.0

    def draw(history: History) -> None:
        epochs = range(1, len(history["loss"]) + 1)
        with figures.replaced():
            for what in ("loss", "accuracy"):
                if what in history:
                    lines = {name: told for name, told in history.items() if name.endswith(what)}
                    figures.curves(what, epochs, lines, "epoch", what)

    def listen(history: History) -> None:
        nonlocal drawn_at
        told = ", ".join(f"{name} {values[-1]:.6g}" for name, values in history.items())
        log.info("%s: epoch %d of %d, %s", task.name, len(history["loss"]), estimator.epochs, told)
        if time.monotonic() - drawn_at >= DRAWN_EVERY_S:
            draw(history)
            drawn_at = time.monotonic()

    estimator.listener = listen
    fitted = learning.fit(task, kind, labels(task.table()), estimator)
    draw(estimator.history_)
    figures.table(_told(estimator))
    return fitted


def _told(estimator: NetworkEstimator) -> dict[str, list[Any]]:
    """The epoch whose weights stayed, and what was told of it."""
    history = estimator.history_
    epochs = len(history["loss"])
    best = getattr(estimator, "best_epoch_", epochs)
    told: dict[str, Any] = {"epochs": epochs, "best epoch": best}
    told |= {name: values[best - 1] for name, values in history.items()}
    return {"metric": list(told), "value": list(told.values())}


def _of(task: Task) -> Any:
    """The module of the framework whose class the component names."""
    assert task.of is not None
    library_class(task.of)
    if task.of.startswith(("keras.", "app.visual.engine.networks.keras")):
        from app.visual.engine.networks import keras_networks

        return keras_networks
    from app.visual.engine.networks import torch_networks

    return torch_networks
