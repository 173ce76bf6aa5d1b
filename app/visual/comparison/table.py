"""Runs as a table: which of their parameters differ, which metrics they have, and which run is best by each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Better(StrEnum):
    """Which value of a metric is the better one."""

    HIGHER = "higher"
    LOWER = "lower"


_LOWER = {"loss", "error", "mae", "mse", "rmse", "mape", "davies-bouldin"}
_HIGHER = {"accuracy", "precision", "recall", "f1", "auc", "r2", "silhouette", "calinski-harabasz", "score"}


def better(metric: str) -> Better | None:
    """By the words of the metric's name; None where nothing is known of it."""
    words = set(metric.lower().split())
    if words & _LOWER:
        return Better.LOWER
    return Better.HIGHER if words & _HIGHER else None


@dataclass(frozen=True, slots=True)
class NodeOfRun:
    """A node as it was run."""

    id: int
    component: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Port -> metric -> value."""


@dataclass(frozen=True, slots=True)
class RunOfJob:
    """A run with the nodes that it had. ``nodes`` are named by :func:`named`."""

    id: int
    nodes: Mapping[str, NodeOfRun]


@dataclass(frozen=True, slots=True)
class ParameterColumn:
    """A parameter that differs between runs."""

    node: str
    key: str

    @property
    def id(self) -> str:
        """Its name among all columns."""
        return f"{self.node}.{self.key}"


@dataclass(frozen=True, slots=True)
class MetricColumn:
    """A metric that runs have, and which runs have the best value of it."""

    node: str
    port: str
    metric: str
    better: Better | None = None
    best: Sequence[int] = ()

    @property
    def id(self) -> str:
        """Its name among all columns."""
        return f"{self.node}.{self.port}.{self.metric}"


def named(nodes: Sequence[NodeOfRun]) -> dict[str, NodeOfRun]:
    """Nodes by names under which other runs have nodes that do the same: their component, numbered where several are
    of one, in the order in which they were drawn.
    """
    found: dict[str, NodeOfRun] = {}
    seen: Counter[str] = Counter()
    for node in sorted(nodes, key=lambda one: one.id):
        seen[node.component] += 1
        number = seen[node.component]
        found[node.component if number == 1 else f"{node.component}#{number}"] = node
    return found


def component_of(name: str) -> str:
    """The component of a node that is named so."""
    return name.partition("#")[0]


def differing(runs: Sequence[RunOfJob], default: Callable[[str, str], Any]) -> list[ParameterColumn]:
    """The parameters that differ between runs that have their node.

    Where some runs lack the node, also those that are not as the component has them (``default(component, key)``): they
    may be what makes the difference.
    """
    values: dict[ParameterColumn, set[str]] = {}
    having = Counter(name for run in runs for name in run.nodes)
    for run in runs:
        for name, node in run.nodes.items():
            for key, value in node.parameters.items():
                values.setdefault(ParameterColumn(name, key), set()).add(_comparable(value))
    for column, seen in values.items():
        if any(column.key not in run.nodes[column.node].parameters for run in runs if column.node in run.nodes):
            seen.add("")
        if having[column.node] < len(runs):
            seen.add(_comparable(default(component_of(column.node), column.key)))
    return [column for column, seen in values.items() if len(seen) > 1]


def metrics(runs: Sequence[RunOfJob]) -> list[MetricColumn]:
    """The metrics that runs have, with the best of them; the order is that of the newest run."""
    found: dict[MetricColumn, list[tuple[float, int]]] = {}
    for run in runs:
        for name, node in run.nodes.items():
            for port, scores in node.scores.items():
                for metric, value in scores.items():
                    found.setdefault(MetricColumn(name, port, metric), []).append((value, run.id))
    columns = []
    for column, values in found.items():
        which = better(column.metric)
        best: list[int] = []
        if which is not None:
            numbers = [value for value, _ in values]
            top = max(numbers) if which is Better.HIGHER else min(numbers)
            best = [run for value, run in values if value == top]
        columns.append(MetricColumn(column.node, column.port, column.metric, which, best))
    return columns


def _comparable(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
