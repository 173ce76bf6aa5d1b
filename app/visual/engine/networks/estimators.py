"""Networks in the form of scikit-learn's estimators, whatever framework computes: all that is no framework's own.

Training goes through the rows in batches, in an order that the seed decides; after each epoch the rows that are kept
for validation are told of, and with ``patience`` the weights of the best epoch stay.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split

from app.visual.engine import images
from app.visual.engine.networks import Network, size
from app.visual.engine.values import NodeFailure

Array = np.ndarray[Any, Any]
History = Mapping[str, Sequence[float]]
"""Of each epoch: ``loss`` and ``accuracy`` as they were while it learnt, ``validation loss`` and so on after it."""

NETWORK, WEIGHTS = "network.json", "weights.safetensors"
ROWS_AT_ONCE = 1024
"""So many rows go through a network at once when it only tells."""


class Machine(Protocol):
    """A network that a framework computes with, and what it learns by."""

    def learn(self, rows: Array, truth: Array) -> tuple[float, Array]:
        """Learn from one batch; its loss, and what came out for it before."""

    def outputs(self, rows: Array) -> Array:
        """What comes out for rows."""

    def loss(self, outputs: Array, truth: Array) -> float:
        """The mean loss of what came out."""

    def weights(self) -> dict[str, Array]:
        """A copy of all that was learnt."""

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """Compute with these from now on."""

    def export(self, folder: Path) -> None:
        """Write it in a form that other programs read: one file in a folder, which exists."""


class NetworkEstimator(BaseEstimator, ABC):
    """A network and how it learns.

    :param network: without the functions that belong to the loss: scores of classes come out, not probabilities.
    :param loss: ``auto`` is the usual one of the task.
    :param optimizer: ``sgd``, ``adam`` or ``adamw``.
    :param validation_share: the share of the rows that are kept back to tell how good it is; 0: none.
    :param patience: it ends when the validation loss was no better for so many epochs; 0: it never ends early.
    :param min_delta: what is less than this is no better.
    """

    takes_images = True

    def __init__(
        self,
        network: Network,
        *,
        loss: str = "auto",
        optimizer: str = "adam",
        learning_rate: float = 0.001,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        epochs: int = 20,
        batch_size: int = 32,
        validation_share: float = 0.1,
        patience: int = 5,
        min_delta: float = 0.0,
        random_state: int = 0,
    ) -> None:
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_share = validation_share
        self.patience = patience
        self.min_delta = min_delta
        self.random_state = random_state

    listener: Callable[[History], None] | None = None
    """Is told after each epoch."""
    validation: tuple[pd.DataFrame, pd.Series] | None = None
    """Rows and labels for validation, where there are some beside those that it is fitted on."""

    def fit(self, X: pd.DataFrame, y: pd.Series) -> Self:
        """Learn. Raises :class:`NodeFailure` where the network does not fit the rows."""
        self.n_features_in_ = len(X.columns)
        self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        self._begin(y)
        rows, truth = self._rows(X), self._truth(y)
        learnt, kept_rows, kept_truth = self._kept_back(rows, truth)
        self._machine = machine = self._made(learning=True)
        chance = np.random.default_rng(self.random_state)
        history: dict[str, list[float]] = {}
        best, best_weights, worse = math.inf, None, 0
        for epoch in range(1, self.epochs + 1):
            loss, right = self._epoch(machine, rows, truth, learnt[chance.permutation(len(learnt))])
            told = {"loss": loss} | ({} if right is None else {"accuracy": right})
            if kept_rows is not None and kept_truth is not None:
                outputs = self._outputs(kept_rows)
                told["validation loss"] = machine.loss(outputs, kept_truth)
                if right is not None:
                    told["validation accuracy"] = float(np.mean(self._chosen(outputs) == kept_truth))
            for name, value in told.items():
                history.setdefault(name, []).append(value)
            if not all(map(math.isfinite, told.values())):
                raise NodeFailure(
                    f"The loss is no number any more after epoch {epoch}: lower the learning rate, or scale the columns"
                )
            self.history_ = history
            if self.listener is not None:
                self.listener(history)
            if not self.patience or "validation loss" not in told:
                continue
            if told["validation loss"] < best - self.min_delta:
                best, best_weights, worse = told["validation loss"], machine.weights(), 0
                self.best_epoch_ = epoch
            else:
                worse += 1
            if worse >= self.patience:
                break
        if best_weights is not None:
            machine.set_weights(best_weights)
        return self

    def _epoch(self, machine: Machine, rows: Array, truth: Array, order: Array) -> tuple[float, float | None]:
        """Go through rows once, in this order; the mean loss, and the share that is right where there are classes."""
        lost, right, seen = 0.0, 0, 0
        for first in range(0, len(order), self.batch_size):
            batch = order[first : first + self.batch_size]
            if len(batch) == 1 and first:
                continue  # of one row there is no deviation, which batch normalization needs
            loss, outputs = machine.learn(rows[batch], truth[batch])
            lost += loss * len(batch)
            seen += len(batch)
            if truth.ndim == 1:
                right += int(np.sum(self._chosen(outputs) == truth[batch]))
        return lost / seen, right / seen if truth.ndim == 1 else None

    def _kept_back(self, rows: Array, truth: Array) -> tuple[Array, Array | None, Array | None]:
        """The places of the rows to learn from, and what it is validated on."""
        everything = np.arange(len(rows))
        if self.validation is not None:
            features, labels = self.validation
            return everything, self._rows(features), self._truth(labels)
        if not self.validation_share:
            return everything, None, None
        try:
            learnt, kept = train_test_split(everything, test_size=self.validation_share, random_state=self.random_state)
        except ValueError:
            raise NodeFailure(
                f"{len(rows)} rows are too few to keep some for validation: set validation_share to 0"
            ) from None
        return learnt, rows[kept], truth[kept]

    def _outputs(self, rows: Array) -> Array:
        parts = [
            self._machine.outputs(rows[first : first + ROWS_AT_ONCE]) for first in range(0, len(rows), ROWS_AT_ONCE)
        ]
        return np.concatenate(parts)

    def _rows(self, X: pd.DataFrame) -> Array:
        """Rows in the shape that the network takes. Raises :class:`NodeFailure`."""
        wanted = self.network.inputs
        if X.shape[1] == 1 and images.is_image(X.iloc[:, 0]):
            found = images.pixels(X.iloc[:, 0])
            if found.shape[1:] != wanted:
                raise NodeFailure(
                    f"The network was drawn for images of {size(wanted)} and these are of {size(found.shape[1:])} "
                    f"(channels x height x width): read them in the same size"
                )
            return found
        if X.shape[1] != math.prod(wanted):
            raise NodeFailure(
                f"The network was drawn for {math.prod(wanted)} columns and the table has {X.shape[1]}: tie the node "
                f"that it begins with to rows that went through the same preparation"
            )
        return X.to_numpy(dtype=np.float32).reshape(-1, *wanted)

    def _outputs_for(self, count: int, what: str) -> None:
        """Whether the network brings out so many numbers. Raises :class:`NodeFailure`."""
        if self.network.shape != (count,):
            raise NodeFailure(
                f"The network ends in '{self.network.last}', which brings out {size(self.network.shape)}, and {what}: "
                f"let it end in {self.dense} with {count} {'output' if count == 1 else 'outputs'}"
            )
        last = self.network.layers[-1] if self.network.layers else None
        if last is not None and "softmax" in (last.name.lower(), last.parameters.get("activation")):
            raise NodeFailure("The loss makes probabilities by itself: take the softmax at the end of the network out")

    dense = "a fully connected layer"

    @abstractmethod
    def _made(self, learning: bool) -> Machine:
        """The framework's network, its weights as the seed has them; with what it learns by, or to be used only."""

    @abstractmethod
    def _begin(self, labels: pd.Series) -> None:
        """Look at what is to be predicted. Raises :class:`NodeFailure` where the network does not end so."""

    @abstractmethod
    def _truth(self, labels: pd.Series) -> Array:
        """What is to come out: codes of classes, or numbers in a column."""

    @abstractmethod
    def _chosen(self, outputs: Array) -> Array:
        """What is predicted, in the form of the truth."""

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_machine")

    # On disk: a description and the weights, nothing that could run.

    def keep(self, folder: Path) -> None:
        """Write what :meth:`restore` reads."""
        from safetensors.numpy import save_file

        given = {**self.get_params(deep=False), "network": self.network.to_json()}
        found = {
            "features": [str(name) for name in self.feature_names_in_],
            "history": self.history_,
            "best_epoch": getattr(self, "best_epoch_", None),
            **self._learnt(),
        }
        (folder / NETWORK).write_text(json.dumps({"given": given, "found": found}, ensure_ascii=False))
        weights = self._machine.weights()
        save_file({name: np.ascontiguousarray(some) for name, some in weights.items()}, folder / WEIGHTS)

    @classmethod
    def restore(cls, folder: Path) -> Self:
        """A network that was kept."""
        from safetensors.numpy import load_file

        kept = json.loads((folder / NETWORK).read_text())
        given, found = kept["given"], kept["found"]
        made = cls(**{**given, "network": Network.from_json(given["network"])})
        made.feature_names_in_ = np.asarray(found["features"], dtype=object)
        made.n_features_in_ = len(made.feature_names_in_)
        made.history_ = found["history"]
        if found["best_epoch"] is not None:
            made.best_epoch_ = found["best_epoch"]
        made._set_learnt(found)
        made._machine = made._made(learning=False)
        made._machine.set_weights(load_file(folder / WEIGHTS))
        return made

    def export(self, folder: Path) -> None:
        """Write the network for other programs: rows in the shape of ``network.inputs`` go in, scores come out."""
        self._machine.export(folder)

    @abstractmethod
    def _learnt(self) -> dict[str, Any]:
        """What :meth:`_begin` found, as JSON has it."""

    @abstractmethod
    def _set_learnt(self, found: Mapping[str, Any]) -> None:
        """The same again."""


class NetworkClassifier(ClassifierMixin, NetworkEstimator):
    """Scores of classes come out of the network; the loss is their cross-entropy."""

    def predict(self, X: pd.DataFrame) -> Array:
        """The class of each row."""
        found: Array = self.classes_[self._chosen(self._outputs(self._rows(X)))]
        return found

    def predict_proba(self, X: pd.DataFrame) -> Array:
        """The probability of each class: (rows, classes)."""
        scores = self._outputs(self._rows(X)).astype(float)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        found: Array = powers / powers.sum(axis=1, keepdims=True)
        return found

    def _begin(self, labels: pd.Series) -> None:
        self.classes_ = np.unique(labels.to_numpy())
        self._outputs_for(len(self.classes_), f"'{labels.name}' has {len(self.classes_)} classes")

    def _truth(self, labels: pd.Series) -> Array:
        codes = labels.map({name: code for code, name in enumerate(self.classes_)})
        if codes.isna().any():
            unknown = labels[codes.isna()].iloc[0]
            raise NodeFailure(f"The rows for validation have the class '{unknown}', which the others have not")
        return codes.to_numpy(dtype=np.int64)

    def _chosen(self, outputs: Array) -> Array:
        found: Array = outputs.argmax(axis=1)
        return found

    def _learnt(self) -> dict[str, Any]:
        return {"classes": self.classes_.tolist(), "dtype": str(self.classes_.dtype)}

    def _set_learnt(self, found: Mapping[str, Any]) -> None:
        self.classes_ = np.asarray(found["classes"], dtype=found["dtype"])


class NetworkRegressor(RegressorMixin, NetworkEstimator):
    """One number comes out. It is learnt with mean 0 and deviation 1, and told as it was."""

    def predict(self, X: pd.DataFrame) -> Array:
        """The number of each row."""
        found: Array = self._outputs(self._rows(X))[:, 0].astype(float) * self.deviation_ + self.mean_
        return found

    def _begin(self, labels: pd.Series) -> None:
        self._outputs_for(1, f"'{labels.name}' is one number")
        self.mean_ = float(labels.mean())
        self.deviation_ = float(labels.std(ddof=0)) or 1.0

    def _truth(self, labels: pd.Series) -> Array:
        scaled = (labels.to_numpy(dtype=float) - self.mean_) / self.deviation_
        return scaled.astype(np.float32)[:, None]

    def _chosen(self, outputs: Array) -> Array:
        return outputs

    def _learnt(self) -> dict[str, Any]:
        return {"mean": self.mean_, "deviation": self.deviation_}

    def _set_learnt(self, found: Mapping[str, Any]) -> None:
        self.mean_, self.deviation_ = found["mean"], found["deviation"]
