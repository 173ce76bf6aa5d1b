"""What flows between nodes, and how it is kept on disk: tables as Arrow, models as skops; never as pickles.

Estimators that are networks keep themselves: as a description and as safetensors. Graphs that nodes bring out are JSON,
which the service reads too (:class:`app.visual.engine.plan.Drawing`).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import feather

from app.visual.engine.networks import Network
from app.visual.engine.plan import ABOUT, TABLE, Drawing

_MODEL = "model.skops"


class NodeFailure(Exception):
    """A node cannot do its work for a reason that its user can mend: the message names it, and the remedy."""


@dataclass(frozen=True)
class Table:
    """Rows, and what is known of them."""

    frame: pd.DataFrame
    target: str | None = None
    """The column that models are to predict."""
    preparation: Sequence[tuple[str, Any]] = ()
    """The fitted transformers that its features went through since they were read, the first one first.

    Each takes the features' frame and gives one with names: a pipeline of them makes new rows into such a table.
    """
    columns: Mapping[str, str] = field(default_factory=dict)
    """Name -> type of the features before the preparation."""

    @property
    def features(self) -> pd.DataFrame:
        """The columns that are not the target."""
        return self.frame if self.target is None else self.frame.drop(columns=[self.target])

    @property
    def labels(self) -> pd.Series:
        """The target's column. Raises :class:`NodeFailure` without a target."""
        if self.target is None:
            raise NodeFailure("The table has no target column: set one at the node that reads the data")
        return self.frame[self.target]

    def with_features(self, features: pd.DataFrame, step: tuple[str, Any] | None = None) -> Table:
        """The same rows with other features, which ``step`` (a name and what was fitted) made of these."""
        frame = features if self.target is None else features.assign(**{self.target: self.frame[self.target]})
        return replace(self, frame=frame, preparation=[*self.preparation, *([step] if step else [])])

    def with_rows(self, frame: pd.DataFrame) -> Table:
        """Other rows of the same columns, whose types may be plainer now that some are gone."""
        return replace(self, frame=frame.reset_index(drop=True).infer_objects())

    def with_column(self, **columns: Any) -> Table:
        """With columns that no transformer made: the preparation of what comes after begins here."""
        table = replace(self, frame=self.frame.assign(**columns), preparation=())
        return replace(table, columns=types_of(table.features))


@dataclass(frozen=True)
class Model:
    """An estimator that was fitted, with all that it needs to be used on new rows."""

    estimator: Any
    task: str
    """``classification``, ``regression``, ``clustering`` or ``transformation``."""
    features: Sequence[str]
    """The columns that the estimator takes, in their order."""
    target: str | None = None
    preparation: Sequence[tuple[str, Any]] = ()
    """As of the table that it was fitted on."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Name -> type of the columns that it takes, before the preparation where there is one."""

    @property
    def pipeline(self) -> Any:
        """One fitted object of scikit-learn's, which takes the features as they were before the preparation."""
        from sklearn.pipeline import Pipeline

        return Pipeline([*self.preparation, ("model", self.estimator)])


Value = Table | Model | Network | Drawing


@runtime_checkable
class KeepsItself(Protocol):
    """An estimator that knows how it is kept on disk; its class has ``restore(folder)``, which reads it."""

    def keep(self, folder: Path) -> None:
        """Write it into a folder, which exists."""


def types_of(frame: pd.DataFrame) -> dict[str, str]:
    """Name -> type of a frame's columns."""
    return {str(name): str(kind) for name, kind in frame.dtypes.items()}


def save(value: Value, folder: Path) -> None:
    """Keep a value in a folder, which exists."""
    kept: Any = None
    if isinstance(value, Drawing):
        about: dict[str, Any] = {"kind": "graph"}
        value.write(folder)
    elif isinstance(value, Network):
        about = {"kind": "network", "network": value.to_json()}
    elif isinstance(value, Table):
        _save_frame(value.frame, folder / TABLE)
        about = {"kind": "table", "target": value.target, "columns": dict(value.columns)}
        kept = list(value.preparation)
    else:
        about = {
            "kind": "model",
            "task": value.task,
            "features": list(value.features),
            "target": value.target,
            "columns": dict(value.columns),
        }
        kept = {"estimator": value.estimator, "preparation": list(value.preparation)}
        if isinstance(value.estimator, KeepsItself):
            value.estimator.keep(folder)
            kind = type(value.estimator)
            about["restored_by"] = f"{kind.__module__}.{kind.__name__}"
            kept["estimator"] = None
    if kept:
        import skops.io

        skops.io.dump(kept, folder / _MODEL)
    (folder / ABOUT).write_text(json.dumps(about, ensure_ascii=False))


def load(folder: Path) -> Value:
    """A value that was kept. Raises :class:`NodeFailure` where none was."""
    try:
        about = json.loads((folder / ABOUT).read_text())
    except FileNotFoundError:
        raise NodeFailure(
            f"Nothing came out of the port '{folder.name}' that this node is tied to: "
            f"tie the input '{folder.name}' of the node before, too"
        ) from None
    kind = about.pop("kind")
    if kind == "graph":
        return Drawing.read(folder)
    if kind == "network":
        return Network.from_json(about["network"])
    restored_by = about.pop("restored_by", None)
    kept: Any = _load_model(folder / _MODEL) if (folder / _MODEL).exists() else []
    if kind == "table":
        frame = missing_as_nan(feather.read_feather(folder / TABLE))
        return Table(frame, preparation=[tuple(one) for one in kept], **about)
    estimator = kept["estimator"] if restored_by is None else _restored(restored_by, folder)
    return Model(estimator, preparation=[tuple(one) for one in kept["preparation"]], **about)


def _restored(name: str, folder: Path) -> Any:
    module, _, kind = name.rpartition(".")
    try:
        kept = getattr(importlib.import_module(module), kind)
    except ModuleNotFoundError as error:
        raise NodeFailure(
            f"The model is a network that computes with {error.name}, which this experiment has not: "
            f"use it in an experiment of its own framework"
        ) from error
    return kept.restore(folder)


def some_rows(folder: Path, count: int) -> Table | None:
    """Some rows of a table that was kept, from all over it, without its preparation; None where it is gone."""
    try:
        about = json.loads((folder / ABOUT).read_text())
        with pa.memory_map(str(folder / TABLE)) as file, pa.ipc.open_file(file) as kept:
            if not kept.num_record_batches:
                return None
            # A batch at a time: what was kept may be larger than memory.
            batches = sorted({round(one) for one in np.linspace(0, kept.num_record_batches - 1, 4)})
            share = max(1, count // len(batches))
            parts = [_spread(kept.get_batch(one), share) for one in batches]
    except (OSError, pa.ArrowInvalid):
        return None
    frame = missing_as_nan(pa.Table.from_batches(parts).to_pandas())
    return Table(frame, about["target"], columns=about["columns"])


def is_prepared(folder: Path) -> bool:
    """Whether the rows of a table that was kept went through transformers."""
    return (folder / _MODEL).exists()


def _spread(batch: Any, count: int) -> Any:
    places = np.unique(np.linspace(0, batch.num_rows - 1, min(count, batch.num_rows)).astype(int))
    return batch.take(pa.array(places))


def missing_as_nan(frame: pd.DataFrame) -> pd.DataFrame:
    """Arrow gives None for a text that is missing, which scikit-learn's imputers do not know."""
    for name in frame.select_dtypes("object").columns:
        if (missing := frame[name].isna()).any():
            frame[name] = frame[name].mask(missing, np.nan)
    return frame


def _save_frame(frame: pd.DataFrame, path: Path) -> None:
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except pa.ArrowException as error:
        raise NodeFailure(f"A column has values of several types, or of one that cannot be kept: {error}") from error
    if nested := [field.name for field in table.schema if pa.types.is_nested(field.type)]:
        raise NodeFailure(f"The column '{nested[0]}' has values of a type that cannot be kept: a value is one thing")
    feather.write_feather(table, str(path), compression="lz4")


def _load_model(path: Path) -> Any:
    import skops.io

    unknown = skops.io.get_untrusted_types(file=path)
    # The folder is the engine's own; what users bring in from outside never comes this way.
    return skops.io.load(path, trusted=unknown)
