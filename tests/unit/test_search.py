"""The search for pipelines: what is tried, on which rows, and what is said where nothing can be found."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FixedTrial
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from app.visual.catalogue import Component, Framework, catalogue
from app.visual.engine.figures import Figures
from app.visual.engine.plan import Drawing
from app.visual.engine.search import pipelines, rows
from app.visual.engine.search.attempts import Attempts
from app.visual.engine.search.columns import look_at
from app.visual.engine.search.space import ESTIMATOR, LEARNERS, Algorithm, Space
from app.visual.engine.steps import Task, library_class, parameters_of, searching, step
from app.visual.engine.values import Model, NodeFailure, Table
from app.visual.jobs.graph import Edge, Node, check, read_parameters

Json = dict[str, Any]

SEED = 11
KNOWN = catalogue(Framework.SKLEARN)


def component(uuid: str = "sklearn.auto_ml") -> Component:
    found = KNOWN.find(uuid)
    assert found is not None
    return found


def choices(name: str) -> list[str]:
    parameter = component().parameter(name)
    assert parameter is not None
    assert parameter.choices is not None
    return list(parameter.choices)


def search(table: Table, tmp_path: Path, **parameters: Any) -> tuple[Mapping[str, Any], dict[str, list[Json]]]:
    """What the step brings out, and its figures by port."""
    figures: dict[str, Figures] = {}

    def of(port: str) -> Figures:
        return figures.setdefault(port, Figures(tmp_path / f"{port}.json"))

    task = Task("search", None, component().completed(parameters), {"data": table}, SEED, of, 2, tmp_path)
    return step(component().step)(task), {port: one.all for port, one in figures.items()}


def scores(figures: list[Json]) -> dict[str, float]:
    """The table of an evaluation."""
    table = next(one["data"] for one in figures if one["front"] == "table")
    return dict(zip(table["metric"], table["value"], strict=True))


def mixed(count: int = 240) -> Table:
    """Rows with all that can come: texts, times, holes, columns of no use."""
    chance = np.random.default_rng(3)
    amount = chance.normal(size=count)
    colour = chance.choice(np.asarray(["red", "green", "blue"], dtype=object), count)
    frame = pd.DataFrame(
        {
            "amount": np.where(chance.random(count) < 0.1, np.nan, amount),
            "colour": np.where(chance.random(count) < 0.1, np.nan, colour),
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(chance.integers(0, 365, count), "D"),
            "same": 1.0,
            "nothing": np.nan,
            "name": [f"row {number}" for number in range(count)],
            "late": np.where((amount > 0) ^ (colour == "red"), "yes", "no"),
        }
    )
    return Table(frame, "late")


@pytest.mark.parametrize("name", LEARNERS)
def test_given_an_algorithm_when_compared_with_its_components_then_they_allow_all_that_is_tried(name: str) -> None:
    learner = LEARNERS[name]
    for algorithm in (learner.classes, learner.numbers):
        known = component(algorithm.uuid)
        assert set(algorithm.first) == set(algorithm.ranges)
        for values in (algorithm.first, algorithm.fixed, *_ends(algorithm)):
            assert read_parameters(known, values)[1] == []


def _ends(algorithm: Algorithm) -> list[Json]:
    def end(of: BaseDistribution, last: bool) -> Any:
        options = of.choices if isinstance(of, CategoricalDistribution) else (of.low, of.high)  # type: ignore[attr-defined]
        return options[-1] if last else options[0]

    return [{key: end(of, last) for key, of in algorithm.ranges.items()} for last in (False, True)]


def test_given_the_component_when_compared_with_the_step_then_it_offers_what_there_is() -> None:
    assert choices("estimators") == list(LEARNERS)
    assert choices("metric")[1:] == list(searching.METRICS)


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("classes", [True, False])
def test_given_any_pipeline_when_drawn_then_its_graph_can_be_run_and_nodes_get_the_same_parameters(
    name: str, classes: bool
) -> None:
    space = Space(look_at(mixed().features), classes, [name], True, SEED)
    first = {ESTIMATOR: name, f"{name}.encoding": "target", f"{name}.fill": "mean", **space.first()[0]}
    drawn = [pipelines.split(0.2, classes, SEED), *space.suggest(FixedTrial(first))]
    ids = {node.name: number for number, node in enumerate(drawn, 1)} | {Drawing.INPUT: 0}
    nodes = [Node(0, "sklearn.dataset", {"dataset": 1})]
    nodes += [Node(ids[node.name], node.component, json.loads(json.dumps(node.parameters))) for node in drawn]
    edges = [
        Edge(ids[source], output, ids[node.name], port)
        for node in drawn
        for port, (source, output) in node.inputs.items()
    ]
    ready, problems = check(nodes, edges, KNOWN)

    assert problems == []
    given = {one.id: one.parameters for one in ready}
    for node in drawn:
        of = component(node.component)
        assert given[ids[node.name]] == of.completed(node.parameters)
        by_chance = of.of is not None and "random_state" in parameters_of(library_class(of.of))
        assert node.parameters.get("random_state", SEED if not by_chance else None) == SEED


def test_given_columns_when_looked_at_then_those_of_no_use_are_told() -> None:
    found = look_at(mixed().features)
    assert set(found.dropped) == {"same", "nothing", "name"}
    assert found.dropped["name"] == "has 240 different texts in 240 rows"
    assert (found.texts, found.times, found.missing) == (["colour"], ["day"], True)


@pytest.mark.parametrize("count", [1, 5])
def test_given_rare_classes_when_divided_then_every_model_learns_all_that_it_is_compared_on(count: int) -> None:
    labels = ["often"] * 80 + ["seldom"] * 7 + ["once"]
    frame = pd.DataFrame({"x": np.arange(len(labels)), "y": labels}).sample(frac=1, random_state=SEED)
    table = Table(frame.reset_index(drop=True), "y")
    for fold in rows.folds(table, True, count, 0.2):
        assert set(fold.learnt.frame["x"]) | set(fold.checked.frame["x"]) == set(range(len(labels)))
        assert set(fold.learnt.frame["x"]) & set(fold.checked.frame["x"]) == set()
        assert set(fold.checked.labels) <= set(fold.first(3).labels) == {"often", "seldom", "once"}


def test_given_numbers_when_divided_then_each_row_is_compared_on_at_most_once() -> None:
    table = Table(pd.DataFrame({"x": np.arange(100), "y": np.arange(100.0)}), "y")
    checked = [row for fold in rows.folds(table, False, 5, 0.2) for row in fold.checked.frame["x"]]
    assert len(checked) == len(set(checked)) == 99


def test_given_many_rows_when_tried_then_trials_begin_with_few_of_them() -> None:
    assert rows.stages(240_000, 16) == [15_000, 60_000, 240_000]
    assert rows.stages(500, 30) == [500]


def test_given_attempts_when_one_fails_or_is_killed_then_the_others_answer() -> None:
    def fails() -> float:
        raise ValueError("not so")

    def dies() -> float:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0.0

    found = {}
    with Attempts() as running:
        for name, work in (("works", lambda: 2.0), ("fails", fails), ("dies", dies)):
            running.begin(name, work)
        while len(running):
            for attempt in running.ended(10):
                outcome = attempt.outcome()
                found[attempt.of] = outcome.value if outcome.reason is None else outcome.reason
    assert found == {"works": 2.0, "fails": "ValueError: not so", "dies": "It was ended by signal 9"}


def test_given_attempts_when_their_process_is_killed_then_they_end_too(tmp_path: Path) -> None:
    program = (
        "import time\n"
        "from app.visual.engine.search.attempts import Attempts\n"
        "with Attempts() as running:\n"
        "    running.begin('a', lambda: time.sleep(600))\n"
        "    running.begin('b', lambda: time.sleep(600))\n"
        "    print('begun', flush=True)\n"
        "    running.ended(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"begun\n"
    children = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert (len(gone), alive) == (2, [])


def test_given_rows_of_all_kinds_when_searched_then_the_winner_is_drawn_and_comes_to_the_same_again(
    tmp_path: Path,
) -> None:
    table = mixed()
    outputs, figures = search(table, tmp_path, max_trials=4, folds=2, estimators=["linear", "decision_tree"])
    drawing, pipeline = outputs["graph"], outputs["pipeline"]
    assert isinstance(drawing, Drawing)
    assert isinstance(pipeline, Model)
    again = Figures(None)
    pipelines.carry_out(drawing.nodes, {Drawing.INPUT: {"data": table}}, SEED + 1, lambda _: again)

    assert scores(again.all) == pytest.approx(scores(figures["metrics"]), abs=1e-9)
    assert pipeline.pipeline.predict(table.features.head()).shape == (5,)
    told = [one["data"] for one in figures["search"] if one["front"] == "table"]
    assert sum(told[0]["trials"]) == 4
    assert told[-1]["column"] == ["same", "nothing", "name"]
    assert list(tmp_path.glob("tmp*")) == []


def test_given_one_process_and_so_many_trials_when_searched_twice_then_it_finds_the_same(tmp_path: Path) -> None:
    frame = load_diabetes(as_frame=True).frame

    def once() -> Any:
        parameters = component().completed({"max_trials": 3, "estimators": ["linear"], "folds": 2})
        task = Task("search", None, parameters, {"data": Table(frame, "target")}, SEED, lambda _: Figures(None))
        return step(component().step)(task)["graph"]

    assert once() == once()


def test_given_a_budget_when_searched_then_it_is_kept(tmp_path: Path) -> None:
    frame = load_breast_cancer(as_frame=True).frame
    began = time.monotonic()
    _, figures = search(Table(frame, "target"), tmp_path, time_budget=5.0, estimators=["linear"])
    assert time.monotonic() - began < 5.0 * 1.1 + 2.0  # what was found is fitted after it
    course = figures["search"][0]["data"]
    assert course["y"] == sorted(course["y"])
    assert 4.5 < course["x"][-1] < 5.5


def one_class() -> Table:
    return Table(pd.DataFrame({"x": np.arange(50.0), "y": "a"}), "y")


def many_classes() -> Table:
    return Table(pd.DataFrame({"x": np.arange(1000.0), "y": [f"class {i % 500}" for i in range(1000)]}), "y")


def only_names() -> Table:
    frame = pd.DataFrame({"name": [f"{i}" for i in range(100_000)], "void": np.nan, "y": ["a", "b"] * 50_000})
    return Table(frame, "y")


def iris(**columns: Any) -> Table:
    return Table(load_iris(as_frame=True).frame.assign(**columns), "target")


@pytest.mark.parametrize(
    ("table", "parameters", "said"),
    [
        (one_class(), {}, "All 50 rows have the class 'a' in the target 'y'"),
        (many_classes(), {}, "has 500 classes, and 100 are the most"),
        (only_names(), {}, "'name' has 100,000 different texts in 100,000 rows; 'void' has no values"),
        (Table(pd.DataFrame({"y": ["a", "b"] * 20}), "y"), {}, "There is no column to learn from beside the target"),
        (Table(pd.DataFrame({"x": [1.0], "y": ["a"]}), "y"), {}, "1 rows are too few to search on"),
        (Table(pd.DataFrame({"x": np.arange(30.0)})), {}, "The table has no target column"),
        (iris(target=[*range(149), None]), {}, "1 rows have no value in the target"),
        (iris(), {"metric": "rmse"}, "The metric rmse is of numbers, and the target 'target' is taken for classes"),
        (iris(), {"task": "regression", "metric": "f1"}, "take one of mae, mse"),
        (
            iris(other=[np.inf, 1.0] * 75),
            {"max_trials": 2},
            "No pipeline came to a score: There are infinite values in 'other'",
        ),
    ],
)
def test_given_rows_that_nothing_can_be_found_with_when_searched_then_it_is_said_why(
    tmp_path: Path, table: Table, parameters: Json, said: str
) -> None:
    with pytest.raises(NodeFailure, match=re.escape(said)):
        search(table, tmp_path, **parameters)
