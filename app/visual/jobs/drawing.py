"""Graphs that the service draws itself, in the form in which clients send theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import InvalidInput, Problem
from app.visual.catalogue import Component, Framework, catalogue
from app.visual.components import as_published
from app.visual.datasets.presets import BY_NAME
from app.visual.jobs.graph import read_parameters
from app.visual.jobs.wire import AttributeView, AutomaticSearch, ComponentInfo, EdgeView, NodeBody

READ, SEARCH = "read", "search"
"""The nodes of a fully automatic experiment."""

TOP_PX, LEFT_PX, STEP_PX = 40, 40, 120


def described(component: Component) -> ComponentInfo:
    """A component as clients have it at its nodes."""
    return ComponentInfo.model_validate(as_published(component))


def drawn(
    name: str,
    component: ComponentInfo,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, tuple[str, str]],
    place: tuple[int, int],
) -> NodeBody:
    """A node. ``inputs`` are input port -> name and output port of the node that it is tied to, ``place`` top, left."""
    return NodeBody(
        name=name,
        top=place[0],
        left=place[1],
        edges=[
            EdgeView(from_id=source, from_port=output, to_id=name, to_port=port)
            for port, (source, output) in inputs.items()
        ],
        attributes=[AttributeView(key=key, value=value) for key, value in parameters.items()],
        component=component,
    )


def automatic(wanted: AutomaticSearch, framework: Framework) -> list[NodeBody]:
    """A reader, and the search for what its rows have.

    Raises:
        InvalidInput: there is no search in this framework, no data set is named, or a value is out of bounds.
    """
    known = catalogue(framework)
    reader, search = known.find("sklearn.dataset"), known.find("sklearn.auto_ml")
    if reader is None or search is None:
        raise InvalidInput(
            Problem(
                f"{framework.name.lower()} has no automatic search",
                field="automatic",
                remedy="make an experiment with frameId 1 (sklearn)",
            )
        )
    of_reader = _given({"dataset": _data_set(wanted), "target": wanted.target})
    of_search = _given(
        {
            "task": wanted.task,
            "metric": wanted.metric,
            "time_budget": wanted.time_budget,
            "estimators": wanted.estimators,
            "test_size": wanted.test_size,
            "validation": wanted.validation,
            "folds": wanted.folds,
            "max_trials": wanted.max_trials,
            "random_state": wanted.seed,
        }
    )
    wrong = [one for of, given in ((reader, of_reader), (search, of_search)) for one in read_parameters(of, given)[1]]
    if wrong:
        raise InvalidInput(*(Problem(f"the search: {one}", field="automatic") for one in wrong))
    return [
        drawn(READ, described(reader), of_reader, {}, (TOP_PX, LEFT_PX)),
        drawn(SEARCH, described(search), of_search, {"data": (READ, "data")}, (TOP_PX + STEP_PX, LEFT_PX)),
    ]


def _data_set(wanted: AutomaticSearch) -> int:
    if (wanted.data_id is None) == (wanted.preset is None):
        raise InvalidInput(
            Problem(
                "a search is on one data set",
                field="automatic.dataId",
                remedy=f"name one by dataId, or a preset: {', '.join(BY_NAME)}",
            )
        )
    if wanted.data_id is not None:
        return wanted.data_id
    name = (wanted.preset or "").strip()
    if name not in BY_NAME:
        raise InvalidInput(
            Problem(f"there is no preset {name!r}", field="automatic.preset", remedy=f"use one of {', '.join(BY_NAME)}")
        )
    return BY_NAME[name].id


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
