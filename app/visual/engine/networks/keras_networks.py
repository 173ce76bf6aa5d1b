"""Networks that TensorFlow computes with, through Keras. Images are (height, width, channels) there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow

from app.visual.engine.networks import Layer, Network, size
from app.visual.engine.networks.estimators import Array, NetworkClassifier, NetworkEstimator, NetworkRegressor
from app.visual.engine.steps import library_class
from app.visual.engine.values import NodeFailure

# Said once, before anything computes: later it cannot be changed.
tensorflow.config.threading.set_intra_op_parallelism_threads(1)
tensorflow.config.threading.set_inter_op_parallelism_threads(1)
tensorflow.config.experimental.enable_op_determinism()


def begun(inputs: tuple[int, ...]) -> Network:
    """A network without layers."""
    return Network(inputs, _in_order(inputs))


def extended(network: Network, layer: Layer) -> Network:
    """A network with one layer more. Raises :class:`NodeFailure` where it does not fit what comes before it."""
    kind = layer.name
    before = f"'{network.last}' before it brings out {size(network.shape)}"
    wanted = _DIMENSIONS.get(kind)
    if wanted is not None and len(network.shape) != wanted:
        raise NodeFailure(f"{kind} takes {_TAKEN[wanted]}, and {before}: {_REMEDIES[wanted]}")
    try:
        # Only the sizes: nothing computes yet, and no thread of TensorFlow's begins.
        shape = tuple(_layer(layer).compute_output_shape((None, *network.shape))[1:])
    except (ValueError, TypeError) as error:
        raise NodeFailure(f"{kind} does not fit: {before}. {error}") from error
    if not all(one is not None and one > 0 for one in shape):
        raise NodeFailure(f"{kind} does not fit: {before}, of which nothing would be left over")
    return Network(network.inputs, shape, [*network.layers, layer])


def _in_order(inputs: tuple[int, ...]) -> tuple[int, ...]:
    return (*inputs[1:], inputs[0]) if len(inputs) == 3 else inputs


def _layer(layer: Layer) -> Any:
    return library_class(layer.of)(**layer.parameters)


class KerasMachine:
    """A model of Keras's, and what it learns by."""

    def __init__(self, network: Network, loss: Callable[[Any, Any], Any], optimizer: Any) -> None:
        made = [_layer(one) for one in network.layers]
        self._module = keras.Sequential([keras.Input(_in_order(network.inputs)), *made])
        self._loss = loss
        self._optimizer = optimizer
        self._step = tensorflow.function(self._learn, reduce_retracing=True)

    def learn(self, rows: Array, truth: Array) -> tuple[float, Array]:
        """One step of the optimizer."""
        if not self._module.trainable_variables:
            raise NodeFailure("The network has no layer that could learn: add Dense or Conv2D")
        loss, outputs = self._step(_ordered(rows), truth)
        return float(loss), outputs.numpy()

    def _learn(self, rows: Any, truth: Any) -> tuple[Any, Any]:
        with tensorflow.GradientTape() as tape:
            outputs = self._module(rows, training=True)
            loss = self._loss(truth, outputs)
        variables = self._module.trainable_variables
        self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss, outputs

    def outputs(self, rows: Array) -> Array:
        """What comes out, with dropout and batch statistics off."""
        found: Array = self._module(_ordered(rows), training=False).numpy()
        return found

    def loss(self, outputs: Array, truth: Array) -> float:
        """The mean over all rows."""
        return float(self._loss(truth, outputs))

    def weights(self) -> dict[str, Array]:
        """The weights by their places."""
        return {f"{place:04}": np.array(some) for place, some in enumerate(self._module.get_weights())}

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """All weights, in the order of their places."""
        self._module.set_weights([weights[name] for name in sorted(weights)])

    def export(self, folder: Path) -> None:
        """``model.keras``, Keras's own archive of a description and weights: what makes ONNX of it is older than it."""
        self._module.save(folder / "model.keras")


class _WithKeras(NetworkEstimator):
    dense = "Dense"

    def _made(self, learning: bool) -> KerasMachine:
        keras.utils.set_random_seed(self.random_state)
        return KerasMachine(self.network, self._loss_function(), self._optimizer() if learning else None)

    def _optimizer(self) -> Any:
        given = {"learning_rate": self.learning_rate, "weight_decay": self.weight_decay or None}
        if self.optimizer == "sgd":
            return keras.optimizers.SGD(momentum=self.momentum, **given)
        return {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[self.optimizer](**given)

    def _loss_function(self) -> Callable[[Any, Any], Any]:
        raise NotImplementedError


class KerasClassifier(NetworkClassifier, _WithKeras):
    """Classes."""

    def _loss_function(self) -> Callable[[Any, Any], Any]:
        made: Callable[[Any, Any], Any] = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return made


class KerasRegressor(NetworkRegressor, _WithKeras):
    """A number."""

    def _loss_function(self) -> Callable[[Any, Any], Any]:
        made: Callable[[Any, Any], Any] = _LOSSES["mse" if self.loss == "auto" else self.loss]()
        return made


def _ordered(rows: Array) -> Array:
    return np.ascontiguousarray(rows.transpose(0, 2, 3, 1)) if rows.ndim == 4 else rows


_DIMENSIONS: Mapping[str, int] = {
    "Dense": 1,
    "Conv2D": 3,
    "MaxPooling2D": 3,
    "AveragePooling2D": 3,
    "GlobalAveragePooling2D": 3,
}
"""Layer -> how many dimensions a row has that it takes; the others take any."""
_TAKEN = {1: "rows of numbers", 3: "images (height x width x channels)"}
_REMEDIES = {
    1: "put Flatten between them",
    3: "begin the network with images, or with channels, height and width for the columns",
}

_LOSSES: Mapping[str, Callable[[], Any]] = {
    "mse": keras.losses.MeanSquaredError,
    "mae": keras.losses.MeanAbsoluteError,
    "huber": keras.losses.Huber,
}
