"""The steps of graphs, run one by one in the test's own process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from app.visual.catalogue import Component, Framework, catalogue
from app.visual.engine import presets, values
from app.visual.engine.figures import Figures
from app.visual.engine.steps import Task, step
from app.visual.engine.values import Table

SEED = 7
COLOURS = np.asarray(["red", "green", "blue"], dtype=object)
COMPONENTS = catalogue(Framework.SKLEARN)


class Run(dict[str, Any]):
    """What a node brings out, and its figures by port."""

    figures: dict[str, Figures]

    def scores(self) -> dict[str, float]:
        """The first table of metrics."""
        table = next(one["data"] for one in self.figures["metrics"].all if one["front"] == "table")
        return dict(zip(table["metric"], table["value"], strict=True))

    def fronts(self) -> list[str]:
        return [one["front"] for one in self.figures["metrics"].all]


def node(tmp_path: Path, uuid: str, inputs: Mapping[str, Any] | None = None, **parameters: Any) -> Run:
    """Run one component, with its defaults where nothing else is set."""
    component = component_of(uuid)
    figures: dict[str, Figures] = {}

    def figures_of(port: str) -> Figures:
        return figures.setdefault(port, Figures(tmp_path / f"{uuid}.{port}.json"))

    task = Task(uuid, component.of, defaults(component) | parameters, inputs or {}, SEED, figures_of)
    outputs = Run(step(component.step)(task))
    outputs.figures = figures
    return outputs


def component_of(uuid: str) -> Component:
    found = COMPONENTS.find(f"sklearn.{uuid}")
    assert found is not None, uuid
    return found


def defaults(component: Component) -> dict[str, Any]:
    return {one.name: one.default for one in component.parameters if one.default is not None}


def algorithms(group: str) -> list[str]:
    return [
        component.uuid.removeprefix("sklearn.")
        for component in COMPONENTS.components
        if (component.stage, component.group) == ("algorithm", group)
    ]


def transformers() -> list[str]:
    return [
        component.uuid.removeprefix("sklearn.")
        for component in COMPONENTS.components
        if component.step.startswith("preparing.")
    ]


def kept(value: Any, folder: Path) -> Any:
    """A value as the next node gets it."""
    folder.mkdir(exist_ok=True)
    values.save(value, folder)
    return values.load(folder)


def table(target: str | None = "y", **columns: Any) -> Table:
    frame = pd.DataFrame(columns)
    made = Table(frame, target)
    return replace(made, columns=values.types_of(made.features))


def mixed_table() -> Table:
    """Numbers, texts, a truth and a time, with holes, and classes that can be told."""
    chance = np.random.default_rng(SEED)
    size = chance.normal(size=60)
    frame = pd.DataFrame(
        {
            "size": np.where(chance.random(60) < 0.1, np.nan, size),
            "weight": chance.random(60) * 10 + 1,
            "colour": np.where(chance.random(60) < 0.1, np.nan, chance.choice(COLOURS, 60)),
            "new": chance.random(60) < 0.5,
            "at": pd.Timestamp("2024-02-28 12:00") + pd.to_timedelta(np.arange(60), unit="D"),
            "y": np.where(size > 0, "large", "small"),
        }
    )
    return replace(Table(frame, "y"), columns=values.types_of(frame.drop(columns="y")))


ON_MIXED: Mapping[str, Mapping[str, Any]] = {
    "drop_columns": {"columns": ["new"]},
    "change_type": {"columns": ["new"], "to": "text"},
    "arithmetic": {"left": "size", "right": "weight", "operation": "divide"},
    "lda_transformer": {"n_components": 1},
    "select_k_best": {"k": 2},
    "kernel_pca": {"n_components": 2},
    "fast_ica": {"n_components": 2, "max_iter": 1000, "tol": 0.01},
    "truncated_svd": {"n_components": 2},
    "quantile_transformer": {"n_quantiles": 20},
    "select_from_model": {"estimator": "extra_trees"},
    "nmf": {"n_components": 2, "columns": ["weight", "new"], "max_iter": 1000},
    "rfe": {"estimator": "linear"},
}


def preset(tmp_path: Path, name: str) -> dict[str, str]:
    """How a preset is read."""
    file = tmp_path / f"{name}.csv"
    presets.main(name, file)
    return {"path": str(file), "usual_target": presets.TARGETS[name]}
