"""Runs side by side: what differs, which is best, and curves that are read at the same places."""

from __future__ import annotations

from typing import Any

import pytest

from app.visual.comparison.curves import MOST_POINTS, overlaid
from app.visual.comparison.table import Better, NodeOfRun, RunOfJob, better, differing, metrics, named


def run(number: int, *nodes: NodeOfRun) -> RunOfJob:
    return RunOfJob(number, named(nodes))


def curve(x: list[Any], y: list[Any], front: str = "curve") -> dict[str, Any]:
    return {"front": front, "data": {"x": x, "y": y, "x_label": "x", "y_label": "y", "title": "t"}}


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("ROC AUC", Better.HIGHER), ("f1 macro", Better.HIGHER), ("R2", Better.HIGHER), ("log loss", Better.LOWER),
        ("median absolute error", Better.LOWER), ("Davies-Bouldin", Better.LOWER), ("rows of no cluster", None),
    ],
)  # fmt: skip
def test_given_a_metric_when_judged_then_its_words_say_which_value_is_better(metric: str, expected: Better) -> None:
    assert better(metric) is expected


def test_given_two_nodes_of_one_component_when_named_then_they_are_told_apart() -> None:
    assert list(named([NodeOfRun(7, "a"), NodeOfRun(3, "a"), NodeOfRun(5, "b")])) == ["a", "b", "a#2"]


def test_given_runs_when_compared_then_only_what_differs_or_was_set_is_shown() -> None:
    runs = [
        run(1, NodeOfRun(1, "tree", {"depth": 3, "leaf": 1, "set": 1})),
        run(2, NodeOfRun(2, "tree", {"depth": 3, "leaf": 2, "set": 1}), NodeOfRun(3, "tree", {"depth": 9})),
        run(3, NodeOfRun(4, "bayes", {"smoothing": 1})),
    ]
    shown = [column.id for column in differing(runs, lambda _, key: {"depth": 3, "smoothing": 1}.get(key))]
    assert shown == ["tree.leaf", "tree.set", "tree#2.depth"]


def test_given_equal_values_when_the_best_is_looked_for_then_all_are() -> None:
    runs = [
        run(number, NodeOfRun(1, "judge", scores={"m": {"accuracy": value}}))
        for number, value in ((1, 0.5), (2, 0.9), (3, 0.9))
    ]
    (column,) = metrics(runs)
    assert (column.id, column.best) == ("judge.m.accuracy", [2, 3])


def test_given_curves_of_other_places_when_overlaid_then_each_is_read_between_its_own() -> None:
    first, second = curve([0, 0, 2], [0, 1, 3]), curve([1, 3], [5, None])
    (figure,) = overlaid({"1": [first], "2": [second]})
    assert figure["data"]["x"] == [0, 1, 2]
    assert figure["data"]["y"] == {"1": [1, 2.0, 3], "2": [None, 5, None]}


def test_given_lines_with_names_when_overlaid_then_they_are_called_by_run_and_name() -> None:
    lines = {"front": "multi_curve", "data": {**curve([1], [])["data"], "y": {"train": [1], "validation": [2]}}}
    (figure,) = overlaid({"7": [lines, {"front": "table", "data": {}}]})
    assert figure["data"]["y"] == {"7 train": [1], "7 validation": [2]}


def test_given_many_places_when_overlaid_then_some_that_are_spread_are_read() -> None:
    (figure,) = overlaid({str(k): [curve([n + k / 10 for n in range(1000)], list(range(1000)))] for k in range(3)})
    x = figure["data"]["x"]
    assert (len(x), x[0], x[-1]) == (MOST_POINTS, 0, 999.2)
