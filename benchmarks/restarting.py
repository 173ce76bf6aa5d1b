"""How long a job is down while it is restarted with its state: by one call of our API, and by hand.

By hand means the quickest that a person has who prepared everything: the same job, its plan compiled beforehand
(``COMPILE PLAN``) in a warm session of the SQL Gateway; the stop with a savepoint asked of Flink's REST API and polled
every 5 ms to its end; then ``SET`` of the savepoint's path and ``EXECUTE PLAN``. Nothing is checked in between. Our
call plans nothing either, but looks into the savepoint's files before it starts anything from them.

Both jobs run side by side and are restarted in turns. The downtime is Flink's own: from the moment in which the last
task of the old job ended to the moment in which the last task of the new one ran, by the JobManager's clock.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gateway import Session
from benchmarks.http import Failed, Http
from benchmarks.latency import Sides
from benchmarks.processes import wait_until
from benchmarks.report import p50, ratio
from benchmarks.statements import Statement

_POLL_S = 0.005
_RUNS_WITHIN_S = 60.0
_CACHED_S = 3.5
"""Flink answers for a job's tasks from a cache of 3 s."""

Figures = dict[str, float | int]


@dataclass
class _Ours:
    """A job of the service."""

    sides: Sides
    job: int
    flink_id: str

    def restart(self) -> str:
        self.flink_id = self.sides.service.restart(self.job)
        return self.flink_id

    def end(self) -> None:
        self.sides.cluster.cancel(self.flink_id)


@dataclass
class _ByHand:
    """The same job, in a session of the gateway."""

    flink: Http
    session: Session
    plan: Path
    savepoints: Path
    flink_id: str = ""

    def start(self) -> str:
        rows = self.session.execute(f"EXECUTE PLAN 'file://{self.plan}'")
        self.flink_id = str(rows[0]["fields"][0])
        return self.flink_id

    def restart(self) -> str:
        trigger = secrets.token_hex(16)
        body = {"targetDirectory": f"file://{self.savepoints}", "formatType": "CANONICAL", "triggerId": trigger}
        self.flink.json("POST", f"/jobs/{self.flink_id}/stop", body)
        while (told := self.flink.json("GET", f"/jobs/{self.flink_id}/savepoints/{trigger}"))["status"][
            "id"
        ] != "COMPLETED":
            time.sleep(_POLL_S)
        if "location" not in told["operation"]:
            raise Failed(f"the stop by hand failed: {told['operation']}")
        self.session.execute(f"SET 'execution.state-recovery.path' = '{told['operation']['location']}'")
        return self.start()

    def end(self) -> None:
        self.flink.json("PATCH", f"/jobs/{self.flink_id}?mode=cancel")


def restarting(sides: Sides, flink: Http, pairs: int) -> Figures:
    """Downtimes of as many restarts of each side, in turns; two more at first do not count."""
    statement = next(one for one in sides.statements if one.name == "window")
    ours, by_hand = _start_ours(sides, statement), _start_by_hand(sides, flink, statement)
    samples: dict[str, list[float]] = {"ours": [], "by_hand": []}

    try:
        for pair in range(-2, pairs):
            turn: list[tuple[str, Callable[[], str], str]] = [
                ("ours", ours.restart, ours.flink_id),
                ("by_hand", by_hand.restart, by_hand.flink_id),
            ]
            for name, restart, before in turn if pair % 2 == 0 else reversed(turn):
                downtime = _downtime_ms(flink, before, restart())
                if pair >= 0:
                    samples[name].append(downtime)
    finally:
        ours.end()
        by_hand.end()
        by_hand.session.close()
    sides.cluster.wait_until_idle()
    return {
        "restart_downtime_p50_ms": p50(samples["ours"]),
        "restart_downtime_most_ms": max(samples["ours"]),
        "hand_made_restart_downtime_p50_ms": p50(samples["by_hand"]),
        "hand_made_restart_downtime_most_ms": max(samples["by_hand"]),
        "restart_pairs": pairs,
        "restart_vs_hand_made": ratio(samples["ours"], samples["by_hand"]),
    }


def _start_ours(sides: Sides, statement: Statement) -> _Ours:
    _, job = sides.service.add(statement, sides.literal())
    _, flink_id = sides.service.run(job)
    return _Ours(sides, job, flink_id)


def _start_by_hand(sides: Sides, flink: Http, statement: Statement) -> _ByHand:
    plan = sides.scratch.absolute() / "by-hand.json"
    plan.parent.mkdir(parents=True, exist_ok=True)
    plan.unlink(missing_ok=True)
    session = sides.gateway.session(statement.settings("by hand"))
    for ddl in statement.ddl():
        session.execute(ddl)
    session.execute(f"COMPILE PLAN 'file://{plan}' FOR {statement.insert_with(sides.literal())}")
    made = _ByHand(flink, session, plan, plan.parent / "savepoints")
    made.start()
    return made


def _downtime_ms(flink: Http, before: str, after: str) -> float:
    """From the end of the old job's last task until the new job's last task ran."""

    def runs() -> bool:
        jobs = {job["jid"]: job for job in flink.json("GET", "/jobs/overview")["jobs"]}
        state, tasks = jobs[after]["state"], jobs[after]["tasks"]
        if state in ("FAILED", "CANCELED"):
            raise Failed(f"job {after} is {state} after its restart")
        return bool(state == "RUNNING" and tasks["running"] == tasks["total"])

    wait_until(f"the tasks of job {after}", runs, _RUNS_WITHIN_S)
    time.sleep(_CACHED_S)
    ended = max(task["end-time"] for _, task in _tasks(flink, before))
    running = max(now - task["status-duration"]["RUNNING"] for now, task in _tasks(flink, after))
    return float(running - ended)


def _tasks(flink: Http, job: str) -> list[tuple[int, dict[str, Any]]]:
    """All tasks of a job, each with the time at which Flink told of it."""
    found = []
    for vertex in flink.json("GET", f"/jobs/{job}")["vertices"]:
        answer = flink.json("GET", f"/jobs/{job}/vertices/{vertex['id']}")
        found += [(int(answer["now"]), task) for task in answer["subtasks"]]
    return found
