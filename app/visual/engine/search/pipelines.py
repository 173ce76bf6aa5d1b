"""Pipelines as nodes of a graph, and how nodes are carried out within one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.visual.catalogue import Component, Framework, catalogue
from app.visual.engine import values
from app.visual.engine.figures import Figures
from app.visual.engine.plan import Drawing, Drawn
from app.visual.engine.search.columns import Columns
from app.visual.engine.steps import Task, step
from app.visual.engine.values import Model, Table, Value

SPLIT, LEARN, JUDGE = "split", "learn", "judge"
"""Nodes that every pipeline has: rows to learn from and to test with, the estimator, its evaluation."""

Brought = Mapping[str, Mapping[str, Value]]
"""Node -> output port -> what came out there."""

_JUDGES = {True: "sklearn.evaluate_classification", False: "sklearn.evaluate_regression"}
MOST_CATEGORIES = 20
"""Of a column that becomes a column a category: the rarest are taken together."""


def component(uuid: str) -> Component:
    """A component that pipelines are made of."""
    found = catalogue(Framework.SKLEARN).find(uuid)
    assert found is not None, uuid
    return found


def split(test_size: float, stratify: bool, seed: int) -> Drawn:
    """The node that keeps rows for the winner's evaluation."""
    parameters = {"test_size": test_size, "stratify": stratify}
    return _node(SPLIT, "sklearn.train_test_split", parameters, seed, data=(Drawing.INPUT, "data"))


def pipeline(
    columns: Columns,
    estimator: str,
    found: Mapping[str, Any],
    *,
    encoding: str,
    fill: str | None,
    scaled: bool,
    classes: bool,
    seed: int,
) -> list[Drawn]:
    """The nodes from the split rows to the evaluation.

    :param encoding: how texts become numbers: ordinal, target or one_hot.
    :param fill: the strategy by which missing numbers are filled in; None: they stay missing.
    :param found: the estimator's parameters.
    """
    steps: list[tuple[str, str, Mapping[str, Any]]] = []
    if columns.dropped:
        steps.append(("drop", "sklearn.drop_columns", {"columns": list(columns.dropped)}))
    if columns.times:
        steps.append(("dates", "sklearn.date_parts", {"columns": list(columns.times)}))
    if columns.texts:
        steps.append(("encode", *_encoder(encoding, columns.texts, classes)))
    if fill is not None:
        steps.append(("fill", "sklearn.simple_imputer", {"strategy": fill}))
    if scaled:
        steps.append(("scale", "sklearn.standard_scaler", {}))
    nodes: list[Drawn] = []
    rows, checked = (SPLIT, "train"), (SPLIT, "test")
    for name, uuid, parameters in steps:
        nodes.append(_node(name, uuid, parameters, seed, data=rows, test=checked))
        rows, checked = (name, "data"), (name, "test")
    nodes.append(_node(LEARN, estimator, found, seed, data=rows))
    nodes.append(_node(JUDGE, _JUDGES[classes], {}, seed, model=(LEARN, "model"), data=checked))
    return nodes


def carry_out(
    nodes: Sequence[Drawn],
    known: Brought,
    seed: int,
    figures: Callable[[str], Figures] | None = None,
    kept: Path | None = None,
) -> Brought:
    """Run nodes one after the other; what all of them brought out, and what was ``known``.

    :param figures: of the nodes' output ports; None where nobody is to see them.
    :param kept: a folder through which all goes that comes out: so each node is given the very bytes that it would be
        given in a run of the graph, where its arithmetic does not depend on how its rows lie in memory.
    """
    brought = dict(known)
    drawn: Callable[[str], Figures] = figures or (lambda _: Figures(None))
    for node in nodes:
        of = component(node.component)
        inputs = {port: brought[source][output] for port, (source, output) in node.inputs.items()}
        outputs = step(of.step)(Task(of.label.en, of.of, of.completed(node.parameters), inputs, seed, drawn))
        brought[node.name] = outputs if kept is None else _through(kept / node.name, outputs)
    return brought


def judged(nodes: Sequence[Drawn], brought: Brought) -> tuple[Model, Table]:
    """What the evaluation of carried-out nodes is given: the model, and the rows to hold it against."""
    judge = next(node for node in nodes if node.name == JUDGE)
    model, table = (brought[node][port] for node, port in (judge.inputs["model"], judge.inputs["data"]))
    assert isinstance(model, Model)
    assert isinstance(table, Table)
    return model, table


def _encoder(encoding: str, columns: Sequence[str], classes: bool) -> tuple[str, Mapping[str, Any]]:
    # Named, as in some of the rows a column of texts may look like one of numbers: all of its values may be missing.
    named: dict[str, Any] = {"columns": list(columns)}
    match encoding:
        case "ordinal":
            return "sklearn.ordinal_encoder", named
        case "target":
            return "sklearn.target_encoder", named | {"task": "classification" if classes else "regression"}
        case _:
            rare = {"handle_unknown": "infrequent_if_exist", "max_categories": MOST_CATEGORIES}
            return "sklearn.one_hot_encoder", named | rare


def _node(name: str, uuid: str, parameters: Mapping[str, Any], seed: int, **inputs: tuple[str, str]) -> Drawn:
    # Said at the node, so that it comes to the same in a run with another seed.
    chance = {"random_state": seed} if component(uuid).parameter("random_state") is not None else {}
    return Drawn(name, uuid, {**parameters, **chance}, inputs)


def _through(folder: Path, outputs: Mapping[str, Value]) -> dict[str, Value]:
    kept = {}
    for port, value in outputs.items():
        (folder / port).mkdir(parents=True)
        values.save(value, folder / port)
        kept[port] = values.load(folder / port)
    return kept
