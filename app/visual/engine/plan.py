"""What an engine is to do, and what it says of each node: files that the service and the engine share.

``plan.json`` (:class:`Plan`) is written by the service before the engine is started; ``nodes/<id>.json``
(:class:`Progress`) by the engine. What a node brings out lies under the key of its contents, in a folder that all
runs share: ``<outputs>/<key>/<port>/``.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

PLAN = "plan.json"
NODES = "nodes"
FIGURES, STATISTIC = "figures.json", "statistic.json"
"""Of a port: what is drawn of it, and what is known of its columns."""
TABLE, ABOUT = "table.arrow", "about.json"
"""Of a port: its rows where it is a table, and what else is known of its value."""
DRAWING = "graph.json"
"""Of a port that brings out a graph (:class:`Drawing`)."""
PARTIAL = "partial"
"""The folder, beside the nodes', of the run's own figures, which grow while their node runs: ``<node>/<port>.json``.

They stay when what the node brought out is not kept any more.
"""
OWN_FILE, OWN_NAME, OWN_OUTPUTS = "own.file", "own.name", "own.outputs"
"""How a step is told of somebody's own code: its file, what that was called, its output ports and their types.

They stand among parameters, none of which has a dot in its name.
"""


class NodeState(StrEnum):
    """Where a node is."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    """It was ended before it was done, or never begun, because the run ended or what it needs failed."""
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Step:
    """A node, ready to be run."""

    id: int
    name: str
    """For people, in messages; in quotes where it needs them."""
    component: str
    version: int
    step: str
    of: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    """Input port -> node and output port that it is tied to."""
    outputs: Sequence[str] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    """How it reads a data set: given to the step like a parameter, and no part of what names its outputs."""
    contents: str = ""
    """The digest of what it reads."""


@dataclass(frozen=True)
class Plan:
    """A run of a graph. Paths are absolute."""

    steps: Sequence[Step]
    outputs: str
    """The folder of what nodes have brought out."""
    seed: int
    processors: int
    """How many nodes run at a time."""
    anew: Sequence[int] = ()
    """Nodes that are run even where an earlier run has done the same."""

    def write(self, folder: Path) -> None:
        """Leave it in a run's folder."""
        write_json(folder / PLAN, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan of a run's folder."""
        found = json.loads((folder / PLAN).read_bytes())
        steps = [
            Step(**{**one, "inputs": {port: (node, out) for port, (node, out) in one["inputs"].items()}})
            for one in found["steps"]
        ]
        return cls(**{**found, "steps": steps})


@dataclass(frozen=True)
class Progress:
    """What became of a node. Times are epoch milliseconds by this machine's clock."""

    state: NodeState
    key: str | None = None
    """Where its outputs are; known as soon as its inputs are."""
    reason: str | None = None
    began_at: int | None = None
    ended_at: int | None = None
    reused: bool = False
    """Whether an earlier run had done the same."""
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Port -> metric -> value: what its figures say in single numbers."""

    def write(self, folder: Path, node: int) -> None:
        """Leave it in a run's folder."""
        (folder / NODES).mkdir(exist_ok=True)
        write_json(folder / NODES / f"{node}.json", asdict(self))

    @classmethod
    def read(cls, folder: Path, node: int) -> Progress:
        """What is said of a node; WAITING where nothing is."""
        try:
            found = json.loads((folder / NODES / f"{node}.json").read_bytes())
        except FileNotFoundError:
            return cls(NodeState.WAITING)
        return cls(**{**found, "state": NodeState(found["state"])})


@dataclass(frozen=True)
class Drawn:
    """A node of a graph that a node brought out."""

    name: str
    """What the others call it."""
    component: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, tuple[str, str]]
    """Input port -> node and output port that it is tied to; :data:`Drawing.INPUT` stands for what is around it."""


@dataclass(frozen=True)
class Drawing:
    """A graph that a node brought out, for people to go on with: nodes in an order in which they can be run.

    Where they leave something to chance, they say their seed.
    """

    INPUT: ClassVar[str] = ""
    """In place of a node: what is tied to the input of the node that brought the graph out."""

    nodes: Sequence[Drawn]

    def write(self, folder: Path) -> None:
        """Leave it in a port's folder."""
        write_json(folder / DRAWING, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Drawing:
        """The drawing of a port's folder. Raises ``FileNotFoundError``."""
        found = json.loads((folder / DRAWING).read_bytes())
        nodes = [
            Drawn(**{**one, "inputs": {port: (node, out) for port, (node, out) in one["inputs"].items()}})
            for one in found["nodes"]
        ]
        return cls(nodes)


def write_json(path: Path, value: Any) -> None:
    """Write a file that is seen whole or not at all."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    beside.write_text(json.dumps(value, ensure_ascii=False))
    os.replace(beside, path)


def copy_figures(source: Path, target: Path) -> None:
    """Copy one port's figures to a file that is seen whole or not at all; nothing where there are none."""
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, beside)
    except FileNotFoundError:
        return
    os.replace(beside, target)
