"""How the steps that fit estimators are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from app.visual.engine.scripts.program import Fitted, Rows, Section
from app.visual.engine.steps import library_class
from app.visual.engine.steps.learning import CLUSTER
from app.visual.engine.values import NodeFailure

Outputs = Mapping[str, Rows | Fitted]


def classify(section: Section) -> Outputs:
    """A classifier."""
    _labels_required(section)
    return _fitted(section, "classification", section.features_and_labels(section.rows()))


def regress(section: Section) -> Outputs:
    """A regression; a target of truths counts as 0 and 1."""
    _labels_required(section)
    return _fitted(section, "regression", f"{section.features_and_labels(section.rows())}.astype(float)")


def cluster(section: Section) -> Outputs:
    """A clustering; its rows come out with their clusters."""
    rows = section.rows()
    section.set("features", rows.features)
    fitted = _fitted(section, "clustering", "features")
    keeps_labels = "labels_" in (library_class(section.node.of or "").__doc__ or "")
    found = f"{section.name}.labels_" if keeps_labels else f"{section.name}.predict(features)"
    made = replace(rows, name=section.output("data"), preparation=())
    section.set(made.name, f"{rows.name}.assign({CLUSTER}={found})")
    return {**fitted, "data": made}


def _labels_required(section: Section) -> None:
    if section.rows().target is None:
        raise NodeFailure(f"'{section.node.label}': the table has no target column: set one where the data is read")


def _fitted(section: Section, task: str, given: str) -> dict[str, Rows | Fitted]:
    rows = section.rows()
    section.set(section.name, section.make())
    section.line(f"{section.name}.fit({given})")
    made = Fitted(section.name, task, rows.target, (), section.tells_probabilities(), task == "classification")
    return {"model": made, "pipeline": replace(made, preparation=rows.preparation)}
