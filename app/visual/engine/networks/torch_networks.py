"""Networks that PyTorch computes with."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from app.visual.engine.networks import Layer, Network, size
from app.visual.engine.networks.estimators import Array, NetworkClassifier, NetworkEstimator, NetworkRegressor
from app.visual.engine.steps import library_class
from app.visual.engine.values import NodeFailure


class ConvBlock(nn.Sequential):
    """Convolution, batch normalization, ReLU; with ``pool`` a maximum over squares of that size."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, pool: int = 1) -> None:
        padding = kernel_size // 2
        parts: list[nn.Module] = [
            nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        ]
        super().__init__(*parts, *([nn.MaxPool2d(pool)] if pool > 1 else []))


class ResidualBlock(nn.Module):
    """Two convolutions, to which what came in is added, as in ResNet-18; by 1 x 1 where its size changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.skip = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """The same rows, further on."""
        return functional.relu(self.body(rows) + self.skip(rows))


def begun(inputs: tuple[int, ...]) -> Network:
    """A network without layers."""
    return Network(inputs, inputs)


def extended(network: Network, layer: Layer) -> Network:
    """A network with one layer more. Raises :class:`NodeFailure` where it does not fit what comes before it."""
    kind = layer.name
    before = f"'{network.last}' before it brings out {size(network.shape)}"
    wanted = _DIMENSIONS.get(kind)
    if wanted is not None and len(network.shape) != wanted:
        raise NodeFailure(f"{kind} takes {_TAKEN[wanted]}, and {before}: {_REMEDIES[wanted]}")
    try:
        with torch.device("meta"):
            found = _module(layer, network.shape).eval()(torch.empty(1, *network.shape))
    except (RuntimeError, ValueError, TypeError) as error:
        raise NodeFailure(f"{kind} does not fit: {before}. {error}") from error
    return Network(network.inputs, tuple(found.shape[1:]), [*network.layers, layer])


def module_of(network: Network) -> nn.Sequential:
    """The network as PyTorch has it, its weights as the random numbers are now."""
    made = []
    grown = begun(network.inputs)
    for layer in network.layers:
        made.append(_module(layer, grown.shape))
        grown = extended(grown, layer)
    return nn.Sequential(*made)


class TorchMachine:
    """A module, and what it learns by."""

    def __init__(
        self,
        module: nn.Module,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        optimizer: Callable[[Any], torch.optim.Optimizer] | None,
        inputs: Sequence[int],
    ) -> None:
        self._module = module
        self._loss = loss
        parameters = list(module.parameters())
        # A network of functions only has nothing to learn.
        self._optimizer = optimizer(parameters) if optimizer is not None and parameters else None
        self._inputs = inputs

    def learn(self, rows: Array, truth: Array) -> tuple[float, Array]:
        """One step of the optimizer."""
        if self._optimizer is None:
            raise NodeFailure("The network has no layer that could learn: add Linear or Conv2d")
        self._module.train()
        self._optimizer.zero_grad()
        outputs = self._module(torch.from_numpy(rows))
        loss = self._loss(outputs, torch.from_numpy(truth))
        loss.backward()
        self._optimizer.step()
        return loss.item(), outputs.detach().numpy()

    def outputs(self, rows: Array) -> Array:
        """What comes out, with dropout and batch statistics off."""
        self._module.eval()
        with torch.no_grad():
            found: Array = self._module(torch.from_numpy(rows)).numpy()
        return found

    def loss(self, outputs: Array, truth: Array) -> float:
        """The mean over all rows."""
        return float(self._loss(torch.from_numpy(outputs), torch.from_numpy(truth)).item())

    def weights(self) -> dict[str, Array]:
        """The module's state by the names that PyTorch has for it."""
        return {name: some.detach().numpy().copy() for name, some in self._module.state_dict().items()}

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """All of the module's state."""
        # Numbers by themselves come back as arrays of one dimension from some readers: their shape is the module's.
        there = self._module.state_dict()
        self._module.load_state_dict(
            {name: torch.from_numpy(np.array(some)).reshape(there[name].shape) for name, some in weights.items()}
        )

    def export(self, folder: Path) -> None:
        """``model.onnx``, for any number of rows."""
        self._module.eval()
        example = torch.zeros(2, *self._inputs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                self._module,
                (example,),
                str(folder / "model.onnx"),
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=({0: torch.export.Dim("rows")},),
                external_data=False,
                dynamo=True,
                verbose=False,
            )


class _WithTorch(NetworkEstimator):
    dense = "Linear"

    def _made(self, learning: bool) -> TorchMachine:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(self.random_state)
        optimizer = self._optimizer if learning else None
        return TorchMachine(module_of(self.network), _LOSSES[self._loss_name()], optimizer, self.network.inputs)

    def _optimizer(self, parameters: Any) -> torch.optim.Optimizer:
        given: dict[str, Any] = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, momentum=self.momentum, **given)
        return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.optimizer](parameters, **given)

    def _loss_name(self) -> str:
        raise NotImplementedError


class TorchClassifier(NetworkClassifier, _WithTorch):
    """Classes."""

    def _loss_name(self) -> str:
        return "cross_entropy"


class TorchRegressor(NetworkRegressor, _WithTorch):
    """A number."""

    def _loss_name(self) -> str:
        return "mse" if self.loss == "auto" else self.loss


def _module(layer: Layer, shape: Sequence[int]) -> nn.Module:
    """The layer for what comes before it. Raises what its class raises."""
    sizes: dict[str, Any] = {}
    if named := _SIZES.get(layer.name):
        sizes[named] = list(shape) if named == "normalized_shape" else shape[0]
    made: nn.Module = library_class(layer.of)(**sizes, **_FIXED.get(layer.name, {}), **layer.parameters)
    return made


_SIZES: Mapping[str, str] = {
    "Linear": "in_features",
    "Conv2d": "in_channels",
    "BatchNorm1d": "num_features",
    "BatchNorm2d": "num_features",
    "LayerNorm": "normalized_shape",
    "ConvBlock": "in_channels",
    "ResidualBlock": "in_channels",
}
"""Layer -> its parameter that follows from what comes before it."""

_FIXED: Mapping[str, Mapping[str, Any]] = {"Softmax": {"dim": 1}}
"""Layer -> what is always the same: of a softmax, that each row has its own."""

_DIMENSIONS: Mapping[str, int] = {
    "Linear": 1,
    "BatchNorm1d": 1,
    "Conv2d": 3,
    "BatchNorm2d": 3,
    "Dropout2d": 3,
    "MaxPool2d": 3,
    "AvgPool2d": 3,
    "AdaptiveAvgPool2d": 3,
    "ConvBlock": 3,
    "ResidualBlock": 3,
}
"""Layer -> how many dimensions a row has that it takes; the others take any."""
_TAKEN = {1: "rows of numbers", 3: "images (channels x height x width)"}
_REMEDIES = {
    1: "put Flatten between them",
    3: "begin the network with images, or with channels, height and width for the columns",
}

_LOSSES: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cross_entropy": functional.cross_entropy,
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "huber": functional.huber_loss,
}
