"""Graphs run over HTTP, each in a process of its own: figures, partial runs, stops, and what is said of failures."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
import skops.io
from sklearn import datasets, linear_model, metrics, model_selection, preprocessing

from app.supervisor.runners import keeper
from app.visual.choices import Status
from app.visual.family import family
from app.visual.jobs.folders import RUNS
from tests.graphs import WITHIN_S, Experiments, Json, node
from tests.run_processes import Part, RunProcess, of_runs
from tests.services import Serve

pytestmark = [
    pytest.mark.timeout(240),
    # What differs between databases is not used here; that runs survive is tried on both.
    pytest.mark.parametrize("database_url", ["postgresql"], indirect=True),
]


@pytest.fixture
async def lab(serve: Serve) -> Experiments:
    client, _ = await serve(family, tick_s=0.2, lease_s=2)
    return Experiments(client)


def breast_cancer(**classifier: object) -> list[Json]:
    """Read, split, scale, classify, evaluate."""
    return [
        node("read", "sklearn.dataset", {"dataset": 3, "target": "target"}),
        node("split", "sklearn.train_test_split", {"test_size": "0.3"}, data="read.data"),
        node("scale", "sklearn.standard_scaler", data="split.train", test="split.test"),
        node("learn", "sklearn.logistic_regression", classifier, data="scale.data"),
        node("judge", "sklearn.evaluate_classification", model="learn.model", data="scale.test"),
    ]


async def test_a_graphs_figures_are_those_of_the_same_lines_of_scikit_learn(lab: Experiments) -> None:
    job, nodes = await lab.job(await lab.experiment("cancer"), breast_cancer(C=0.5))
    ended = await lab.run(job, seed=7)

    assert ended["jobStatus"] == Status.SUCCEEDED, ended
    assert {one["nodeStatus"] for one in ended["graph"]} == {Status.SUCCEEDED}
    features, labels = datasets.load_breast_cancer(return_X_y=True, as_frame=True)
    train, test, train_labels, test_labels = model_selection.train_test_split(
        features, labels, test_size=0.3, random_state=7
    )
    scaler = preprocessing.StandardScaler().fit(train)
    learnt = linear_model.LogisticRegression(C=0.5, random_state=7).fit(scaler.transform(train), train_labels)
    scores = learnt.predict_proba(scaler.transform(test))
    (table, *_) = (await lab.figures(job, nodes["judge"], "metrics"))["table"]
    found = dict(zip(table["metric"], table["value"], strict=True))
    assert found["ROC AUC"] == pytest.approx(metrics.roc_auc_score(test_labels, scores[:, 1]), abs=1e-9)
    assert found["log loss"] == pytest.approx(metrics.log_loss(test_labels, scores), abs=1e-9)


async def test_a_second_run_reuses_what_is_as_before(lab: Experiments) -> None:
    job, nodes = await lab.job(await lab.experiment("cancer"), breast_cancer(C=0.5))
    await lab.run(job)
    change = {**node("", "sklearn.logistic_regression", {"C": 2.0}), "nodeId": nodes["learn"], "isDelete": False}
    change["nodeEdge"] = [{"from_id": nodes["scale"], "from_port": "data", "to_id": nodes["learn"], "to_port": "data"}]
    await lab.ok("PUT", "/job", json={"jobId": job, "graph": [change]})
    await lab.run(job)

    graph = (await lab.ok("GET", f"/job/{job}"))["graph"]
    reused = {one["nodeId"] for one in graph if one["reused"]}
    assert reused == {nodes[name] for name in ("read", "split", "scale")}


async def test_a_node_that_fails_says_why_and_stops_only_what_needs_it(lab: Experiments) -> None:
    graph = [
        node("read", "sklearn.dataset", {"dataset": 3}),
        node("scale", "sklearn.standard_scaler", data="read.data"),
        node("learn", "sklearn.multinomial_nb", data="scale.data"),  # which takes no numbers below zero
        node("judge", "sklearn.evaluate_classification", model="learn.model", data="scale.data"),
        node("groups", "sklearn.k_means", {"n_clusters": 2}, data="scale.data"),
    ]
    job, nodes = await lab.job(await lab.experiment("below zero"), graph)
    ended = await lab.run(job)

    states = {one["nodeId"]: one["nodeStatus"] for one in ended["graph"]}
    assert ended["jobStatus"] == Status.FAILED
    assert "egative" in ended["reason"]
    assert states == {
        nodes["read"]: Status.SUCCEEDED,
        nodes["scale"]: Status.SUCCEEDED,
        nodes["learn"]: Status.FAILED,
        nodes["judge"]: Status.STOPPED,
        nodes["groups"]: Status.SUCCEEDED,
    }


async def test_a_run_that_is_stopped_leaves_no_process_and_says_so(lab: Experiments) -> None:
    job, nodes = await lab.job(await lab.experiment("slow"), slow())
    await lab.ok("POST", "/job/run", json={"jobId": job})
    await lab.until(job, lambda status: _state(status, nodes["learn"]) == Status.RUNNING)
    await lab.ok("POST", "/job/stop", json={"jobId": job})
    ended = await lab.until(job, lambda status: status["jobStatus"] == Status.STOPPED)

    assert _state(ended, nodes["learn"]) == Status.STOPPED
    assert await lab.refused("POST", "/job/stop", json={"jobId": job}) == (409, f"Job {job} does not run")


async def test_a_node_whose_process_is_killed_is_a_failure_that_says_so(lab: Experiments, tmp_path: Path) -> None:
    job, nodes = await lab.job(await lab.experiment("killed"), slow())
    await lab.ok("POST", "/job/run", json={"jobId": job})
    await lab.until(job, lambda status: _state(status, nodes["learn"]) == Status.RUNNING)
    (at_work,) = await _nodes_at_work(tmp_path / RUNS)
    at_work.kill()
    ended = await lab.until(job, lambda status: status["jobStatus"] == Status.FAILED)

    assert ended["reason"] == "'Random forest': It was ended by signal 9"
    assert _state(ended, nodes["read"]) == Status.SUCCEEDED
    assert {one.part for one in of_runs(tmp_path / RUNS)} <= {Part.KEEPER}, "which may just be ending"


async def test_the_end_of_a_run_is_seen_long_before_the_next_tick(serve: Serve, tmp_path: Path) -> None:
    client, _ = await serve(family, tick_s=40, lease_s=80)
    lab = Experiments(client)
    job, _ = await lab.job(await lab.experiment("short"), breast_cancer()[:1])
    ended = await lab.run(job)

    assert ended["jobStatus"] == Status.SUCCEEDED, ended
    (end,) = (tmp_path / RUNS).glob(f"*/{keeper.END}")
    assert keeper.now_ms() - json.loads(end.read_bytes())["at"] < 10_000


async def test_its_log_can_be_read_on_and_ends(lab: Experiments) -> None:
    job, _ = await lab.job(await lab.experiment("log"), breast_cancer())
    await lab.run(job)

    first = await lab.ok("GET", "/job/log", params={"jobId": job, "offset": 0})
    rest = await lab.ok("GET", "/job/log", params={"jobId": job, "offset": first["offset"]})
    assert "'Logistic regression': done" in first["content"]
    assert (rest["content"], rest["isEnd"]) == ("", True)


async def test_a_model_and_its_pipeline_can_be_taken_away(lab: Experiments, tmp_path: Path) -> None:
    job, nodes = await lab.job(await lab.experiment("taken away"), breast_cancer())
    await lab.run(job, seed=3)

    asked = {"jobId": job, "nodeId": nodes["learn"], "portName": "pipeline"}
    answer = await lab.client.get("/visualmodule/job/download/pipeline", params=asked)
    file = tmp_path / "pipeline.skops"
    file.write_bytes(answer.content)
    pipeline = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    features, labels = datasets.load_breast_cancer(return_X_y=True, as_frame=True)
    assert pipeline.score(features, labels.map({0: "malignant", 1: "benign"})) > 0.97
    status, said = await lab.refused("GET", "/job/download/model", params=asked)
    assert (status, "is of type pipeline_model, not sklearn_model" in said) == (400, True)


async def test_statistics_of_a_table(lab: Experiments) -> None:
    job, nodes = await lab.job(await lab.experiment("statistic"), breast_cancer())
    await lab.run(job)

    asked = {"jobId": job, "nodeId": nodes["read"], "portName": "data"}
    columns = {one["name"]: one for one in await lab.ok("GET", "/job/statistic", params=asked)}
    frame = datasets.load_breast_cancer(as_frame=True).frame
    assert columns["mean radius"]["mean"] == pytest.approx(frame["mean radius"].mean())
    assert columns["mean radius"]["missing"] == 0


def slow() -> list[Json]:
    return [
        node("read", "sklearn.dataset", {"dataset": 3, "target": "target"}),
        node("learn", "sklearn.random_forest_classifier", {"n_estimators": 10000}, data="read.data"),
    ]


def _state(status: Json, node_id: int) -> int:
    return next(one["nodeStatus"] for one in status["graph"] if one["nodeId"] == node_id)


async def _nodes_at_work(runs: Path) -> list[RunProcess]:
    """The processes of nodes; a node is called running a moment before it has one."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        found = [one for one in of_runs(runs) if one.part is Part.NODE]
        if found or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.05)
