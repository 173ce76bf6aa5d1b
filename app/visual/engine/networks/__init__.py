"""Networks as they are drawn: a description that grows by a layer at each node, which frameworks then compute with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# TensorFlow reads these when it is imported: the same sums come to the same, and only errors are told.
os.environ.update({"TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"})


@dataclass(frozen=True)
class Layer:
    """One layer, or a block of several."""

    of: str
    """Its class, as ``module.Class``."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """With which it is made, without the sizes that follow from the layer before."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.of.rpartition(".")[2]


@dataclass(frozen=True)
class Network:
    """Layers, one after the other."""

    inputs: tuple[int, ...]
    """The shape of one row that goes in: (columns,), or (channels, height, width) of an image."""
    shape: tuple[int, ...]
    """The shape of what comes out for one row, in the order of the framework."""
    layers: Sequence[Layer] = ()

    @property
    def last(self) -> str:
        """The name of what came last."""
        return self.layers[-1].name if self.layers else "Input"

    def to_json(self) -> str:
        """Read by :meth:`from_json`."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Network:
        """As it was written."""
        found = json.loads(text)
        return cls(tuple(found["inputs"]), tuple(found["shape"]), [Layer(**one) for one in found["layers"]])


def size(shape: Sequence[int]) -> str:
    """A shape for a message."""
    return " x ".join(map(str, shape))
