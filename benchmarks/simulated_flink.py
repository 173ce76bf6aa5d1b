"""Flink clusters that only answer: ``python -m benchmarks.simulated_flink`` is many of them in one process.

They answer as Flink 2.3 does: every answer is one that a real cluster gave (``recorded/``), with the ids, times and
states of the simulated jobs in it. Jobs come from outside (``POST /simulation/jobs``) or by ``/jars/:id/run``, end by
cancel and stop-with-savepoint, whose folder gets the metadata of a real savepoint, and change when they are told to
(``POST /simulation/changes``), so that it is known since when what they show is true.

Each cluster has a port of its own; the first one also answers for the simulation as a whole. Every request is counted
by cluster and kind, and every submission is kept: one whose id another cluster has had, or whose job runs already
somewhere under another id, is told of as doubled.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import copy
import json
import re
import secrets
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from stream_jobs.local.ports import LOOPBACK

_RECORDED = Path(__file__).with_name("recorded")
ANSWERS: Mapping[str, Mapping[str, Any]] = json.loads((_RECORDED / "flink_2_3.json").read_text())
"""Name -> what a real cluster answered: ``status`` and ``body``."""
SAVEPOINT = _RECORDED / "savepoint_metadata"

ENDS = frozenset({"FINISHED", "FAILED", "CANCELED"})
_TASKS_OF = {"RUNNING": "running", "FINISHED": "finished", "CANCELED": "canceled", "FAILED": "failed"}
_JOB = r"/jobs/([0-9a-f]{32})"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Job:
    """A job of a simulated cluster; ``changed_at`` (epoch ms) is since when it is in its state."""

    id: str
    name: str
    state: str = "RUNNING"
    tasks: int = 2
    started_at: int = field(default_factory=now_ms)
    changed_at: int = field(default_factory=now_ms)

    def become(self, state: str) -> None:
        """Change now; an end stays."""
        if self.state not in ENDS:
            self.state, self.changed_at = state, now_ms()

    @property
    def ended(self) -> bool:
        return self.state in ENDS

    def summary(self, now: int) -> dict[str, Any]:
        """Its entry in ``/jobs/overview``."""
        counts = dict.fromkeys(_SUMMARY["tasks"], 0) | {"total": self.tasks}
        counts[_TASKS_OF.get(self.state, "scheduled")] = self.tasks
        return {
            **_SUMMARY,
            "jid": self.id,
            "name": self.name,
            "start-time": self.started_at,
            "end-time": self.changed_at if self.ended else -1,
            "duration": (self.changed_at if self.ended else now) - self.started_at,
            "state": self.state,
            "last-modification": self.changed_at,
            "tasks": counts,
        }


_SUMMARY: Mapping[str, Any] = ANSWERS["jobs_overview"]["body"]["jobs"][0]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long what is asked for takes, in seconds."""

    cancel_s: float = 0.05
    savepoint_s: float = 0.1


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    body: bytes

    def json(self) -> dict[str, Any]:
        sent: dict[str, Any] = json.loads(self.body or b"{}")
        return sent


Answer = tuple[int, Any]


class Cluster:
    """One cluster: its jobs, jars and savepoints, and what it was asked."""

    def __init__(self, number: int, world: World) -> None:
        self.number = number
        self.world = world
        self.address = ""
        self.jobs: dict[str, Job] = {}
        self.operations: dict[tuple[str, str], Answer] = {}
        self.jars: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        self.life = secrets.token_hex(8)
        self._routes: Sequence[tuple[str, str, Callable[..., Answer]]] = (
            ("GET", "/jobs/overview", self._overview_of_jobs),
            ("GET", "/overview", self._overview),
            ("GET", "/config", lambda _: _recorded("config")),
            ("GET", "/jobmanager/config", self._configuration),
            ("GET", "/jobmanager/environment", lambda _: _recorded("environment")),
            ("GET", "/taskmanagers", lambda _: _recorded("taskmanagers")),
            ("GET", "/jars", self._list_jars),
            ("POST", "/jars/upload", self._upload),
            ("POST", r"/jars/([^/]+)/run", self._run),
            ("DELETE", r"/jars/([^/]+)", self._delete_jar),
            ("GET", f"{_JOB}/status", self._status),
            ("GET", f"{_JOB}/checkpoints", lambda _, job: self._of(job, "checkpoints")),
            ("GET", f"{_JOB}/exceptions", self._exceptions),
            ("GET", f"{_JOB}/metrics", lambda _, job: self._of(job, "metrics")),
            ("GET", f"{_JOB}/savepoints/([0-9a-f]+)", self._operation),
            ("POST", f"{_JOB}/savepoints", self._savepoint),
            ("POST", f"{_JOB}/stop", self._stop),
            ("GET", _JOB, self._job),
            ("PATCH", _JOB, self._cancel),
        )

    def answer(self, request: Request) -> Answer:
        """What Flink would say; counted."""
        for method, pattern, handler in self._routes:
            if request.method == method and (match := re.fullmatch(pattern, request.path)):
                self.asked[f"{method} {re.sub(r'[0-9a-f]{32}', ':id', request.path)}"] += 1
                return handler(request, *match.groups())
        self.asked["unknown"] += 1
        return 404, {"errors": ["Not found: " + request.path]}

    # Jobs

    def _overview_of_jobs(self, _: Request) -> Answer:
        now = now_ms()
        return 200, {"jobs": [job.summary(now) for job in self.jobs.values()]}

    def _overview(self, _: Request) -> Answer:
        states = Counter(job.state for job in self.jobs.values())
        running = sum(not job.ended for job in self.jobs.values())
        return 200, {
            **ANSWERS["overview"]["body"],
            "slots-total": self.world.slots,
            "slots-available": max(0, self.world.slots - running),
            "jobs-running": states["RUNNING"],
            "jobs-finished": states["FINISHED"],
            "jobs-cancelled": states["CANCELED"],
            "jobs-failed": states["FAILED"],
        }

    def _configuration(self, _: Request) -> Answer:
        status, entries = _recorded("jobmanager_config")
        changed = {"web.tmpdir": f"/flink/{self.life}", "execution.checkpointing.savepoint-dir": self.world.folder}
        return status, [one for one in entries if one["key"] not in changed] + [
            {"key": key, "value": value} for key, value in changed.items()
        ]

    def _status(self, _: Request, job_id: str) -> Answer:
        job = self.jobs.get(job_id)
        return _recorded("status_unknown", job_id) if job is None else (200, {"status": job.state})

    def _job(self, _: Request, job_id: str) -> Answer:
        status, body = self._of(job_id, "job")
        if status == 200:
            job = self.jobs[job_id]
            body = {**body, "jid": job.id, "name": job.name, "state": job.state, "start-time": job.started_at}
        return status, body

    def _exceptions(self, _: Request, job_id: str) -> Answer:
        job = self.jobs.get(job_id)
        if job is None or job.state != "FAILED":
            return self._of(job_id, "exceptions")
        status, body = _recorded("exceptions_failed")
        body["exceptionHistory"]["entries"][0]["timestamp"] = job.changed_at
        return status, body

    def _of(self, job_id: str, name: str) -> Answer:
        return _recorded(name) if job_id in self.jobs else _recorded("job_unknown", job_id)

    def _cancel(self, _: Request, job_id: str) -> Answer:
        job = self.jobs.get(job_id)
        if job is None:
            return _recorded("cancel_unknown", job_id)
        if job.ended:
            return _recorded("cancel_ended")
        job.become("CANCELLING")
        _later(self.world.pace.cancel_s, job.become, "CANCELED")
        return 202, {}

    # Savepoints

    def _savepoint(self, request: Request, job_id: str) -> Answer:
        sent = request.json()
        return self._begin(job_id, sent["triggerId"], sent["target-directory"], ends=False)

    def _stop(self, request: Request, job_id: str) -> Answer:
        sent = request.json()
        return self._begin(job_id, sent["triggerId"], sent["targetDirectory"], ends=True)

    def _begin(self, job_id: str, token: str, target: str, *, ends: bool) -> Answer:
        status, _ = _recorded("savepoint_accepted")
        if (job_id, token) not in self.operations:
            self.operations[job_id, token] = _recorded("savepoint_in_progress")
            _later(self.world.pace.savepoint_s, self._complete, job_id, token, target, ends)
        return status, {"request-id": token}

    def _complete(self, job_id: str, token: str, target: str, ends: bool) -> None:
        job = self.jobs.get(job_id)
        if job is None or job.state != "RUNNING":
            self.operations[job_id, token] = _recorded("savepoint_failed")
            return
        folder = Path(target.removeprefix("file://")) / f"savepoint-{job_id[:6]}-{token[:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAVEPOINT, folder / "_metadata")
        status, body = _recorded("savepoint_completed")
        body["operation"]["location"] = f"file:{folder}"
        self.operations[job_id, token] = status, body
        if ends:
            job.become("FINISHED")

    def _operation(self, _: Request, job_id: str, token: str) -> Answer:
        if (found := self.operations.get((job_id, token))) is not None:
            return found
        return _recorded("savepoint_unknown") if job_id in self.jobs else _recorded("job_unknown", job_id)

    # Programs in jars

    def _list_jars(self, _: Request) -> Answer:
        (entry,) = ANSWERS["jars"]["body"]["files"]
        files = [{**entry, "id": jar_id, "name": name} for jar_id, name in self.jars.items()]
        return 200, {"address": self.address, "files": files}

    def _upload(self, request: Request) -> Answer:
        named = re.search(rb'filename="([^"]+)"', request.body)
        name = named.group(1).decode() if named else "program.jar"
        jar_id = f"{secrets.token_hex(8)}_{name}"
        self.jars[jar_id] = name
        return 200, {**ANSWERS["jar_uploaded"]["body"], "filename": f"/flink/uploads/{jar_id}"}

    def _delete_jar(self, _: Request, jar_id: str) -> Answer:
        self.jars.pop(jar_id, None)
        return _recorded("jar_delete")

    def _run(self, request: Request, jar_id: str) -> Answer:
        if jar_id not in self.jars:
            return _recorded("jar_run_unknown")
        sent = request.json()
        job_id = str(sent["jobId"])
        if job_id in self.jobs:
            return _recorded("jar_run_again")
        name = sent["flinkConfiguration"].get("pipeline.name", "")
        self.world.note_submission(self, job_id, name)
        self.jobs[job_id] = Job(job_id, name)
        return 200, {"jobid": job_id, "applicationId": job_id}


class World:
    """All clusters of the process.

    :param folder: where savepoints go that are given no folder.
    :param slots: how many slots each cluster has; a job holds one.
    """

    def __init__(self, clusters: int, folder: str, slots: int, pace: Pace | None = None) -> None:
        self.folder = folder
        self.slots = slots
        self.pace = pace or Pace()
        self.clusters = [Cluster(number, self) for number in range(clusters)]
        self.submissions: list[dict[str, Any]] = []
        self.doubled: list[str] = []

    def note_submission(self, cluster: Cluster, job_id: str, name: str) -> None:
        """Keep an accepted submission, and see whether it doubles something."""
        if any(one["id"] == job_id for one in self.submissions):
            self.doubled.append(f"the id {job_id} was submitted to a second cluster")
        self.doubled += [
            f"{name!r} runs as {job.id} and was started as {job_id}"
            for other in self.clusters
            for job in other.jobs.values()
            if name and job.name == name and not job.ended
        ]
        self.submissions.append({"at": now_ms(), "cluster": cluster.number, "id": job_id, "name": name})

    def answer(self, request: Request) -> Answer:
        """The simulation's own requests."""
        match request.method, request.path:
            case "POST", "/simulation/jobs":
                for one in request.json()["jobs"]:
                    since = one.get("since", now_ms())
                    made = Job(one["id"], one["name"], started_at=since, changed_at=since)
                    self.clusters[one["cluster"]].jobs[made.id] = made
                return 200, {}
            case "POST", "/simulation/changes":
                told = []
                for one in request.json()["changes"]:
                    job = self.clusters[one["cluster"]].jobs[one["id"]]
                    job.become(one["state"])
                    told.append({"id": job.id, "state": job.state, "at": job.changed_at})
                return 200, {"changes": told}
            case "GET", "/simulation/asked":
                return 200, {"clusters": [dict(cluster.asked) for cluster in self.clusters]}
            case "GET", "/simulation/jobs":
                jobs = [
                    {"cluster": cluster.number, "id": job.id, "name": job.name, "state": job.state}
                    for cluster in self.clusters
                    for job in cluster.jobs.values()
                ]
                return 200, {"jobs": jobs, "submissions": self.submissions, "doubled": self.doubled}
        return 404, {"errors": [f"There is no {request.method} {request.path}"]}


def _recorded(name: str, job_id: str | None = None) -> Answer:
    answer = ANSWERS[name]
    if job_id is None:
        return answer["status"], copy.deepcopy(answer["body"])
    return answer["status"], json.loads(json.dumps(answer["body"]).replace("f" * 32, job_id))


def _later(seconds: float, what: Callable[..., None], *arguments: Any) -> None:
    asyncio.get_running_loop().call_later(seconds, what, *arguments)


async def _converse(
    answer: Callable[[Request], Answer], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """HTTP/1.1 with connections that stay: no more of it than Flink's clients use."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, target, _ = head.split(" ", 2)
            length = re.search(r"(?im)^content-length: *(\d+)", head)
            body = await reader.readexactly(int(length.group(1))) if length else b""
            parts = urlsplit(target)
            status, value = answer(Request(method, parts.path, parse_qs(parts.query), body))
            content = json.dumps(value, separators=(",", ":")).encode()
            writer.write(
                b"HTTP/1.1 %d X\r\nContent-Type: application/json; charset=UTF-8\r\nContent-Length: %d\r\n\r\n%b"
                % (status, len(content), content)
            )
            await writer.drain()
    writer.close()


async def serve(world: World) -> None:
    """Open the ports, print the addresses as one line of JSON, and answer until standard input ends."""
    servers = []
    for cluster in world.clusters:

        def answer(request: Request, cluster: Cluster = cluster) -> Answer:
            whole = cluster.number == 0 and request.path.startswith("/simulation/")
            return world.answer(request) if whole else cluster.answer(request)

        async def converse(
            reader: asyncio.StreamReader,
            writer: asyncio.StreamWriter,
            answer: Callable[[Request], Answer] = answer,
        ) -> None:
            await _converse(answer, reader, writer)

        server = await asyncio.start_server(converse, LOOPBACK, 0, limit=2**20)
        cluster.address = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        servers.append(server)
    print(json.dumps([cluster.address for cluster in world.clusters]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for server in servers:
        server.close()


def main() -> None:
    reader = argparse.ArgumentParser(
        prog="python -m benchmarks.simulated_flink", description="Simulate Flink clusters."
    )
    reader.add_argument("folder", type=Path, help="where savepoints go")
    reader.add_argument("--clusters", type=int, default=10)
    reader.add_argument("--slots", type=int, default=1000, help="slots of each cluster (default 1000)")
    given = reader.parse_args()
    asyncio.run(serve(World(given.clusters, f"file://{given.folder.absolute()}", given.slots)))


if __name__ == "__main__":
    main()
