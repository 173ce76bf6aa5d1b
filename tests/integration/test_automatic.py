"""Fully automatic experiments over HTTP: searched live within a budget, adopted as a graph that comes to the same."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import psutil
import pytest

from app.visual.choices import Status
from app.visual.family import family
from tests.graphs import Experiments, Json, node
from tests.services import Serve

pytestmark = pytest.mark.timeout(240)

# How jobs are kept is looked at elsewhere on both databases; what adopting holds is PostgreSQL's to show.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
async def lab(serve: Serve) -> Experiments:
    client, _ = await serve(family, tick_s=0.2, lease_s=2)
    return Experiments(client)


async def automatic(lab: Experiments, name: str, **search: object) -> tuple[int, dict[str, int]]:
    """A job of a fully automatic experiment; its id, and those of its nodes."""
    return await lab.job(await lab.experiment(name, expPattern=9), [], automatic={"preset": "breast_cancer", **search})


@on_sqlite
async def test_a_search_is_live_and_what_it_finds_is_a_graph_that_comes_to_the_same(lab: Experiments) -> None:
    job, nodes = await automatic(lab, "cancer", timeBudget=6, seed=5)
    assert set(nodes) == {"read", "search"}
    await lab.ok("POST", "/job/run", json={"jobId": job})
    seen = await _course_while_it_runs(lab, job, nodes["search"])
    ended = await lab.until(job, lambda status: status["jobStatus"] in (3, 4, 5))
    assert ended["jobStatus"] == Status.SUCCEEDED, ended
    assert len(seen) > 1
    assert seen == sorted(seen)

    found = await lab.figures(job, nodes["search"], "search")
    (course,) = found["curve"]
    by_estimator, trials, winner = found["table"]
    assert course["x"][-1] < 6 * 1.1
    assert sum(by_estimator["trials"]) >= len(trials["trial"]) > 3
    assert max(score for score in trials["score"] if score is not None) == course["y"][-1] > 0.9
    assert {"Split", "Evaluate a classification"} <= set(winner["winner"])
    log = (await lab.ok("GET", "/job/log", params={"jobId": job, "offset": 0}))["content"]
    assert "trial 1: hist_gradient_boosting on " in log

    adopted = await lab.ok("POST", "/job/adopt", json={"jobId": job})
    again = await lab.ok("POST", "/job/adopt", json={"jobId": job})
    assert (adopted["isNew"], again) == (True, {**adopted, "isNew": False})
    experiment = await lab.ok("GET", f"/experiment/{adopted['expId']}")
    assert (experiment["expName"], experiment["expPattern"]) == ("cancer (drawn)", 1)
    graph = (await lab.ok("GET", f"/job/{adopted['jobId']}"))["graph"]
    assert len(graph) == len(adopted["nodeIds"])
    assert all(one["cpntInfo"]["clazzname"] and one["cpntInfo"]["ports"]["out"] for one in graph)
    rerun = await lab.run(adopted["jobId"], seed=adopted["seed"])
    assert rerun["jobStatus"] == Status.SUCCEEDED, rerun
    reported = await lab.figures(job, nodes["search"], "metrics")
    assert _close(await lab.figures(adopted["jobId"], adopted["nodeIds"]["judge"], "metrics"), reported)


@on_postgresql
async def test_a_search_in_a_drawn_graph_is_adopted_with_what_comes_before_it(lab: Experiments) -> None:
    drawn = [
        node("read", "sklearn.dataset", {"dataset": 1}),
        node("some", "sklearn.sample", {"frac": 0.8}, data="read.data"),
        node(
            "search", "sklearn.auto_ml", {"max_trials": 1, "estimators": "decision_tree", "folds": 1}, data="some.data"
        ),
        node("other", "sklearn.k_means", data="some.data"),
    ]
    experiment = await lab.experiment("iris")
    job, nodes = await lab.job(experiment, drawn)
    status, said = await lab.refused("POST", "/job/adopt", json={"jobId": job})
    assert (status, said) == (409, f"Job {job} has not been run")
    ended = await lab.run(job, seed=4)
    assert ended["jobStatus"] == Status.SUCCEEDED, ended
    await lab.run(job, nodeId=nodes["other"], scope="only", seed=4)  # which leaves what was found as it was
    asked = [lab.ok("POST", "/job/adopt", json={"jobId": job}) for _ in range(4)]
    adopted, *others = sorted(await asyncio.gather(*asked), key=lambda one: not one["isNew"])

    assert (adopted["isNew"], others) == (True, [{**adopted, "isNew": False}] * 3)
    assert (adopted["expId"], adopted["seed"]) == (experiment, 4)
    assert set(adopted["nodeIds"]) == {str(nodes["read"]), str(nodes["some"]), "split", "learn", "judge"}
    await lab.ok("DELETE", f"/job/{adopted['jobId']}")
    elsewhere = await lab.experiment("elsewhere")
    anew = await lab.ok("POST", "/job/adopt", json={"jobId": job, "nodeId": nodes["search"], "expId": elsewhere})
    assert (anew["isNew"], anew["expId"]) == (True, elsewhere)
    status, said = await lab.refused("POST", "/job/adopt", json={"jobId": job, "nodeId": nodes["read"]})
    assert (status, f"node {nodes['read']} finds no graph" in said) == (400, True)


@on_sqlite
async def test_a_search_that_is_stopped_ends_with_all_its_trials(lab: Experiments, tmp_path: Path) -> None:
    job, nodes = await automatic(lab, "long", timeBudget=600)
    await lab.ok("POST", "/job/run", json={"jobId": job})
    await _course_while_it_runs(lab, job, nodes["search"])
    await lab.ok("POST", "/job/stop", json={"jobId": job})
    ended = await lab.until(job, lambda status: status["jobStatus"] == Status.STOPPED)

    assert {one["nodeId"]: one["nodeStatus"] for one in ended["graph"]}[nodes["search"]] == Status.STOPPED
    assert (await lab.figures(job, nodes["search"], "search"))["curve"]
    assert _engines(tmp_path) == []
    status, said = await lab.refused("POST", "/job/adopt", json={"jobId": job})
    assert (status, "has brought out nothing" in said) == (409, True)


@on_sqlite
async def test_searches_that_cannot_be_are_refused_and_nothing_is_made(lab: Experiments) -> None:
    experiment = await lab.experiment("refused", expPattern=9)
    refused: list[tuple[Json, str]] = [
        ({"timeBudget": 4}, "'time_budget' is 4.0; it must be at least 5"),
        ({"timeBudget": 86401}, "it must be at most 86400"),
        ({"timeBudget": "nan"}, "'time_budget' is nan"),
        ({"metric": "beauty"}, "'metric' is 'beauty', which is not one of auto, accuracy"),
        ({"estimators": ["xgboost"]}, "'estimators' is 'xgboost', which is not one of"),
        ({"preset": "cars"}, "there is no preset 'cars'"),
        ({"dataId": 1}, "a search is on one data set"),
        ({"preset": None}, "a search is on one data set"),
        ({"seed": -1}, "'random_state' is -1; it must be at least 0"),
    ]
    for search, said in refused:
        body = {"expId": experiment, "automatic": {"preset": "breast_cancer", **search}}
        status, message = await lab.refused("POST", "/job", json=body)
        assert (status, said in message) == (400, True), message
    assert (await lab.ok("GET", "/job/list", params={"expId": experiment}))["total"] == "0"


@on_sqlite
async def test_a_search_belongs_into_an_automatic_experiment(lab: Experiments) -> None:
    search = {"preset": "breast_cancer"}
    status, said = await lab.refused("POST", "/job", json={"expId": await lab.experiment("a"), "automatic": search})
    assert (status, "make an experiment with expPattern 9" in said) == (400, True)
    experiment = await lab.experiment("b", expPattern=9, learnType=2, frameId=4)
    status, said = await lab.refused("POST", "/job", json={"expId": experiment, "automatic": search})
    assert (status, "pytorch has no automatic search" in said) == (400, True)
    both = {"expId": await lab.experiment("c", expPattern=9), "automatic": search, "graph": [node("a", "sklearn.pca")]}
    status, said = await lab.refused("POST", "/job", json=both)
    assert (status, "send one of the two" in said) == (400, True)


@on_sqlite
async def test_a_target_that_is_not_there_is_told_before_anything_runs(lab: Experiments) -> None:
    job, _ = await automatic(lab, "no target", target="targte")
    status, said = await lab.refused("POST", "/job/run", json={"jobId": job})

    assert (status, "names 'targte', a column that is not there" in said) == (400, True), said


@on_sqlite
async def test_a_budget_that_no_experiment_may_use_is_told_before_anything_runs(serve: Serve) -> None:
    client, _ = await serve(family, visual_time_s=60)
    lab = Experiments(client)
    job, _ = await automatic(lab, "too long", timeBudget=60)
    status, said = await lab.refused("POST", "/job/run", json={"jobId": job})

    assert (status, "'time_budget' is 60 s, and an experiment may run 60 s here" in said) == (400, True), said


async def _course_while_it_runs(lab: Experiments, job: int, search: int) -> list[float]:
    """The best scores so far as they were told while the node ran, several times."""
    deadline = time.monotonic() + 120
    while True:
        status = await lab.ok("GET", f"/job/status/{job}")
        state = {one["nodeId"]: one["nodeStatus"] for one in status["graph"]}[search]
        curves = (await lab.figures(job, search, "search")).get("curve") if state == Status.RUNNING else None
        if curves and len(curves[0]["y"]) > 1:
            return list(curves[0]["y"])
        assert state in (Status.WAITING, Status.RUNNING), status
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.1)


def _close(found: object, wanted: object) -> bool:
    """Whether two answers are the same, numbers to 1e-9."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_close(found[key], wanted[key]) for key in found)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_close, found, wanted))
    if isinstance(found, float) and isinstance(wanted, float):
        return abs(found - wanted) <= 1e-9
    return found == wanted


def _engines(home: Path) -> list[int]:
    """The processes that run graphs of this service."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if "app.visual.engine" in command and str(home) in command and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found
