"""A fully automatic experiment on all flights: whether the search keeps its budget, and what it finds in it."""

from __future__ import annotations

from typing import Any

from benchmarks.http import Failed
from benchmarks.ours import Service
from benchmarks.processes import wait_until

BUDGET_S = 60
_DONE_WITHIN_S = 600.0
_ENDED = (3, 4, 5)
_SUCCEEDED = 4

Figures = dict[str, float | int]


def searching(service: Service) -> Figures:
    """Search, adopt what was found, and run that. Raises :class:`Failed`."""
    wanted = {"expName": "flights", "expPattern": 9, "learnType": 1, "frameId": 1}
    experiment = service.visual("POST", "/experiment", wanted)["expId"]
    automatic = {"preset": "flights", "timeBudget": BUDGET_S}
    added = service.visual("POST", "/job", {"expId": experiment, "automatic": automatic})
    job, search = added["jobId"], added["nodeIds"]["search"]
    _run(service, job)
    took = {node["nodeId"]: node["tookMs"] / 1000 for node in service.visual("GET", f"/job/{job}")["graph"]}
    shown = _figures(service, job, search, "search")
    course, by_estimator = shown["curve"][0], shown["table"][0]
    scores = _scores(service, job, search)
    adopted = service.visual("POST", "/job/adopt", {"jobId": job})
    _run(service, adopted["jobId"])
    differences = [
        abs(value - scores[name])
        for name, value in _scores(service, adopted["jobId"], adopted["nodeIds"]["judge"]).items()
    ]
    return {
        "search_flights_s": course["x"][-1],
        "search_flights_fit_s": took[search] - course["x"][-1],
        "search_flights_trials": sum(by_estimator["trials"]),
        "search_flights_roc_auc": scores["ROC AUC"],
        "search_flights_adopted_difference": max(differences),
    }


def _run(service: Service, job: int) -> None:
    service.visual("POST", "/job/run", {"jobId": job})
    status: dict[str, Any] = {}

    def ended() -> bool:
        nonlocal status
        status = service.visual("GET", f"/job/status/{job}")
        return status["jobStatus"] in _ENDED

    wait_until("the end of the experiment", ended, _DONE_WITHIN_S, poll_s=0.5)
    if status["jobStatus"] != _SUCCEEDED:
        raise Failed(f"the experiment did not succeed: {status['reason']}")


def _figures(service: Service, job: int, node: int, port: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in service.visual("GET", f"/job/index?jobId={job}&nodeId={node}&portName={port}"):
        found.setdefault(one["front"], []).append(one["data"])
    return found


def _scores(service: Service, job: int, node: int) -> dict[str, float]:
    table = _figures(service, job, node, "metrics")["table"][0]
    return dict(zip(table["metric"], table["value"], strict=True))
