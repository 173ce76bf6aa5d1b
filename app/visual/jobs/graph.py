"""A graph, checked before anything runs: pure functions over the nodes as they were drawn."""

from __future__ import annotations

import difflib
import graphlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import Problem
from app.visual.catalogue import Catalogue, Component, Parameter, ParameterType, PortType


@dataclass(frozen=True)
class Edge:
    """From an output to an input; nodes by their ids."""

    source: int
    output: str
    target: int
    input: str


@dataclass(frozen=True)
class Node:
    """A node as it was drawn."""

    id: int
    component: str
    parameters: Mapping[str, Any]
    """As they were sent: text may stand for a number."""


@dataclass(frozen=True)
class Ready:
    """A node that was checked."""

    id: int
    name: str
    component: Component
    parameters: Mapping[str, Any]
    """All that have a value, of their own types."""
    inputs: Mapping[str, tuple[int, str]]
    """Input port -> node and output port."""


def check(
    nodes: Sequence[Node], edges: Iterable[Edge], catalogue: Catalogue
) -> tuple[Sequence[Ready], Sequence[Problem]]:
    """The nodes in an order in which they can be run, and everything that is wrong with the graph."""
    problems: list[Problem] = []
    if not nodes:
        return (), [Problem("the graph has no nodes", field="graph", remedy="draw one that reads data, and go on")]
    known: dict[int, Component] = {}
    for node in nodes:
        component = catalogue.find(node.component)
        if component is None:
            problems.append(
                Problem(
                    f"node {node.id} is of the component {node.component!r}, which does not exist", field="cpntInfo"
                )
            )
        else:
            known[node.id] = component
    names = _names(nodes, known)
    inputs: dict[int, dict[str, tuple[int, str]]] = {node.id: {} for node in nodes}
    for edge in dict.fromkeys(edges):
        if wrong := _tie(edge, known, names, inputs):
            problems.append(Problem(wrong, field="nodeEdge"))
    ready: dict[int, Ready] = {}
    for node in nodes:
        if (component := known.get(node.id)) is None:
            continue
        name = names[node.id]
        for port in component.inputs:
            if not port.optional and port.name not in inputs[node.id]:
                problems.append(Problem(f"{name}: nothing is tied to its input '{port.name}'", field="nodeEdge"))
        parameters, wrong_ones = read_parameters(component, node.parameters)
        problems += [Problem(f"{name}: {one}", field="nodeAttr") for one in wrong_ones]
        ready[node.id] = Ready(node.id, name, component, parameters, inputs[node.id])
    needs = {node: {source for source, _ in tied.values()} for node, tied in inputs.items()}
    try:
        order = list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as cycle:
        around = " -> ".join(names.get(node, str(node)) for node in cycle.args[1])
        return (), [*problems, Problem(f"the graph goes round in a circle: {around}", field="nodeEdge")]
    return [ready[node] for node in order if node in ready], problems


def read_parameters(component: Component, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The parameters that have a value, each of its own type, and what is wrong with those that were given."""
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for name in given:
        if component.parameter(name) is None:
            near = difflib.get_close_matches(name, [one.name for one in component.parameters], 1)
            wrong.append(f"it has no parameter '{name}'" + (f"; is '{near[0]}' meant?" if near else ""))
    for parameter in component.parameters:
        value = read_value(parameter, given.get(parameter.name))
        if value is None:
            value = parameter.default
        if value is None:
            if parameter.required:
                wrong.append(f"its parameter '{parameter.name}' is required")
        elif problem := parameter.problem(value):
            wrong.append(f"its parameter '{parameter.name}' {problem}")
        else:
            values[parameter.name] = float(value) if parameter.type is ParameterType.NUMBER else value
    return values, wrong


def read_value(parameter: Parameter, given: Any) -> Any:
    """A value of the parameter's type where ``given`` is text for one; empty text is none."""
    if not isinstance(given, str):
        return given
    text = given.strip()
    if not text:
        return None
    try:
        match parameter.type:
            case ParameterType.INTEGER | ParameterType.DATASET:
                return int(text)
            case ParameterType.NUMBER:
                return float(text)
            case ParameterType.BOOLEAN:
                return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), given)
            case ParameterType.MODEL:
                return json.loads(text)
            case ParameterType.COLUMNS:
                return [one.strip() for one in text.split(",") if one.strip()]
            case ParameterType.LIST:
                items = [one.strip() for one in text.strip("[]()").split(",") if one.strip()]
                return [_ITEMS[parameter.item_type](one) if parameter.item_type in _ITEMS else one for one in items]
    except ValueError:
        return given  # of no use, and named as such
    return given


_ITEMS: Mapping[ParameterType | None, type[int | float]] = {ParameterType.INTEGER: int, ParameterType.NUMBER: float}


def needed_for(nodes: Sequence[Ready], wanted: Iterable[int]) -> set[int]:
    """The wanted nodes with all that they need."""
    sources = {node.id: {source for source, _ in node.inputs.values()} for node in nodes}
    found: set[int] = set()
    left = list(wanted)
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += sources[node]
    return found


def after(nodes: Sequence[Ready], start: int) -> set[int]:
    """A node with all that need it, directly or not; ``nodes`` are in an order in which they can be run."""
    found = {start}
    for node in nodes:
        if any(source in found for source, _ in node.inputs.values()):
            found.add(node.id)
    return found


def _names(nodes: Sequence[Node], known: Mapping[int, Component]) -> dict[int, str]:
    """What messages call the nodes: by their component, with the id where several are of one."""
    labels = {node.id: known[node.id].label.en if node.id in known else node.component for node in nodes}
    several = {label for label in labels.values() if list(labels.values()).count(label) > 1}
    return {node: f"'{label}' ({node})" if label in several else f"'{label}'" for node, label in labels.items()}


def _tie(
    edge: Edge,
    known: Mapping[int, Component],
    names: Mapping[int, str],
    inputs: dict[int, dict[str, tuple[int, str]]],
) -> str | None:
    """Note an edge at the node where it ends; what is wrong with it."""
    for node in (edge.source, edge.target):
        if node not in names:
            return f"an edge names the node {node}, which is not in the graph"
    if edge.source not in known or edge.target not in known:
        return None  # its component is named already
    source, target = known[edge.source].output(edge.output), known[edge.target].input(edge.input)
    if source is None:
        there = ", ".join(port.name for port in known[edge.source].outputs) or "none"
        return f"{names[edge.source]} has no output '{edge.output}'; it has {there}"
    if target is None:
        there = ", ".join(port.name for port in known[edge.target].inputs) or "none"
        return f"{names[edge.target]} has no input '{edge.input}'; it has {there}"
    if source.type is not target.type:
        return (
            f"the output '{source.name}' of {names[edge.source]} is of type {source.type}, the input '{target.name}' "
            f"of {names[edge.target]} takes {target.type}"
        )
    before = inputs[edge.target].get(edge.input)
    if before is not None and before != (edge.source, edge.output):
        return f"two edges end at the input '{edge.input}' of {names[edge.target]}"
    inputs[edge.target][edge.input] = (edge.source, edge.output)
    return None


def unknown_columns(order: Sequence[Ready], read: Mapping[int, Sequence[str]]) -> list[Problem]:
    """Parameters that name columns which their tables cannot have.

    ``order`` is that of a graph without problems, ``read`` the columns of the tables that nodes read; they are known
    as far down as components keep them.
    """
    problems: list[Problem] = []
    columns: dict[int, Sequence[str] | None] = {}
    for node in order:
        table = next((port.name for port in node.component.inputs if port.type is PortType.TABLE), None)
        if node.id in read:
            available: Sequence[str] | None = read[node.id]
        elif table is not None and table in node.inputs:
            available = columns.get(node.inputs[table][0])
        else:
            available = None
        # Of what is read some columns may be chosen: those that are named must be among all.
        columns[node.id] = available if node.component.keeps_columns or node.id in read else None
        if available is None:
            continue
        for parameter in node.component.parameters:
            named = node.parameters.get(parameter.name)
            asked = {ParameterType.COLUMN: [named], ParameterType.COLUMNS: named}.get(parameter.type) if named else None
            for name in asked or ():
                if name not in available:
                    near = difflib.get_close_matches(name, available, 1)
                    problems.append(
                        Problem(
                            f"{node.name}: its parameter '{parameter.name}' names {name!r}, a column that is not there",
                            field="nodeAttr",
                            remedy=f"is {near[0]!r} meant?" if near else f"there are {', '.join(available[:20])}",
                        )
                    )
    return problems
