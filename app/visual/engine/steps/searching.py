"""The step that searches for the best pipeline by itself."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.visual.engine import checks
from app.visual.engine.plan import Drawing, Drawn
from app.visual.engine.search import pipelines, rows
from app.visual.engine.search.columns import Columns, look_at
from app.visual.engine.search.search import Limits, Search, Tried
from app.visual.engine.search.space import LEARNERS, MOST_CLASSES_BY_TARGET, Space
from app.visual.engine.steps import Task, evaluating, preparing
from app.visual.engine.values import NodeFailure, Table, Value

LEAST_ROWS = 20
MOST_CLASSES = 100
"""Boosting grows a tree a class and round: with more, no budget would be enough."""

METRICS: Mapping[str, str] = {
    name.lower().replace(" ", "_"): name for name in (*evaluating.CLASSIFICATION, *evaluating.REGRESSION)
}
"""What the parameter ``metric`` may be -> the score of an evaluation."""


def automatic(task: Task) -> Mapping[str, Value]:
    """The best pipeline that is found within the budget, fitted on all rows but those that are kept for its evaluation.

    The port ``search`` shows how the search goes, ``metrics`` is the winner's evaluation, and ``graph`` its nodes: the
    figures are those that a run of these nodes comes to.
    """
    began, parameters, seed = time.monotonic(), task.parameters, task.random_state
    table = task.table()
    classes = _is_classification(task)
    metric = _metric(task, classes)
    columns = look_at(table.features)
    test_size = parameters["test_size"]
    first = pipelines.split(test_size, classes and _in_both_parts(table, test_size), seed)
    given: pipelines.Brought = {Drawing.INPUT: {"data": table}}
    train = pipelines.carry_out([first], given, seed)[pipelines.SPLIT]["train"]
    assert isinstance(train, Table)
    if classes:
        checks.classes(train)
    folds = rows.folds(train, classes, parameters.get("folds"), parameters["validation"])
    stages = rows.stages(min(len(fold.learnt.frame) for fold in folds), len(train.features.columns))
    by_target = not classes or _can_be_encoded_by_target(folds, stages[0])
    estimators = [name for name in LEARNERS if name in parameters["estimators"]] or list(LEARNERS)
    space = Space(columns, classes, estimators, by_target, seed)
    limits = Limits(began, parameters["time_budget"], task.processors, parameters["max_trials"])
    winner = Search(space, folds, stages, metric, limits, task.figures("search")).run()
    nodes = [first, *winner.nodes]
    with tempfile.TemporaryDirectory(dir=task.scratch) as folder:
        try:
            brought = pipelines.carry_out(nodes, given, seed, task.figures, Path(folder))
        except NodeFailure as failure:
            raise NodeFailure(
                f"What was found ({winner.estimator}) cannot be fitted on all rows: {failure}"
            ) from failure
    _tell(task, winner, metric, nodes, columns)
    learnt = brought[pipelines.LEARN]
    return {"model": learnt["model"], "pipeline": learnt["pipeline"], "graph": Drawing(nodes)}


def _is_classification(task: Task) -> bool:
    table = task.table()
    if len(table.frame) < LEAST_ROWS:
        raise NodeFailure(f"{len(table.frame)} rows are too few to search on: {LEAST_ROWS} at least are needed")
    if not preparing.is_classification(task):
        checks.numbers(table)
        return False
    count = checks.classes(table).nunique()
    if count > MOST_CLASSES:
        raise NodeFailure(
            f"The target '{table.target}' has {count:,} classes, and {MOST_CLASSES} are the most that are searched "
            f"with: choose another target, or put rare classes together before"
        )
    return True


def _metric(task: Task, classes: bool) -> str:
    chosen = task.parameters.get("metric", "auto")
    if chosen == "auto":
        if not classes:
            return "R2"
        return "ROC AUC" if task.table().labels.nunique() == 2 else "log loss"
    known = evaluating.CLASSIFICATION if classes else evaluating.REGRESSION
    if METRICS[chosen] not in known:
        kind, other = ("classes", "numbers") if classes else ("numbers", "classes")
        others = ", ".join(name for name, score in METRICS.items() if score in known)
        raise NodeFailure(
            f"The metric {chosen} is of {other}, and the target '{task.table().target}' is taken for {kind}: "
            f"take one of {others}, or set the task"
        )
    return METRICS[chosen]


def _in_both_parts(table: Table, test_size: float) -> bool:
    """Whether there can be rows of every class in both parts."""
    sizes, tested = table.labels.value_counts(), math.ceil(test_size * len(table.frame))
    return int(sizes.min()) > 1 and len(sizes) <= min(tested, len(table.frame) - tested)


def _can_be_encoded_by_target(folds: Sequence[rows.Fold], first: int) -> bool:
    least = int(pipelines.component("sklearn.target_encoder").completed({})["cv"])
    counts = [fold.first(first).labels.value_counts() for fold in folds]
    return all(len(of) <= MOST_CLASSES_BY_TARGET and of.min() >= least for of in counts)


def _tell(task: Task, winner: Tried, metric: str, nodes: Sequence[Drawn], columns: Columns) -> None:
    """What won, node by node, below what the search has shown; and what of the columns was of no use."""
    figures = task.figures("search")
    assert winner.score is not None
    said: list[tuple[str, str, Any]] = [
        ("", "trial", winner.number),
        ("", f"{metric}, compared on rows kept for that", f"{winner.score:.6g}"),
    ]
    for node in nodes:
        name = pipelines.component(node.component).label.en
        said += [(name, key, value) for key, value in node.parameters.items()] or [(name, "", "")]
    figures.table(dict(zip(("winner", "parameter", "value"), map(list, zip(*said, strict=True)), strict=True)))
    if columns.dropped:
        figures.table({"column": list(columns.dropped), "left out because it": list(columns.dropped.values())})
