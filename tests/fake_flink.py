"""A double of a Flink cluster beneath its REST API, for simulations: it keeps Flink's promises and no more.

What it promises is what was seen of Flink: an id is taken once in a JobManager's life; an operation's trigger is
idempotent, also over operations; details are up to 3 s old; a restarted JobManager has forgotten everything, while
files stay. Everything else may go wrong: requests and answers are lost, late, garbage or delivered twice, jobs fail,
recover and are ended by others, savepoints come late or never.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

import httpx

from app.supervisor import Run
from app.supervisor.runners.base import (
    AlreadySubmitted,
    Inspection,
    LeftState,
    SubmissionRefused,
    SubmissionUncertain,
    Unreachable,
)
from stream_jobs.rest import Cluster, Clusters

ADDRESS = "http://flink:8081"
TIMEOUT_S = 5.0
PLANNER_TIMEOUT_S = 20.0

_CACHE_S = 3.0
_OPERATIONS_KEPT_S = 300.0
_CHECKPOINT_EVERY_S = 7.0
_BEGINS_S = 1.5
"""How long a job is being set up."""

SLOTS = 8

GONE, BACK = "gone with its JobManager", "recovered by another JobManager"
"""What is told of jobs beside their states."""

LIVE = ("INITIALIZING", "RUNNING", "RESTARTING", "CANCELLING")


class Fault(StrEnum):
    """What may happen to one request."""

    REFUSED = "its connection is refused"
    LOST = "it does not arrive, and nobody says so"
    BROKEN = "its connection breaks before it arrives"
    UNANSWERED = "it arrives, and its connection breaks before the answer"
    SILENT = "it arrives, and no answer comes"
    LATE = "its answer is what was so some seconds ago"
    TWICE = "it arrives twice"
    GARBAGE = "something else answers"
    NO_LEADER = "the cluster has no leader at the moment"


class SubmissionFault(StrEnum):
    """What may happen to one submission by the planner."""

    NOT_SENT = "the planner dies before it sends it"
    SENT = "the planner dies after it sent it"
    ARRIVES_LATE = "the planner dies, and what it sent arrives later"
    SLOW = "it takes long"


class SavepointFault(StrEnum):
    """What may become of one savepoint."""

    FAILS = "it fails, the job goes on"
    LATE = "it takes long"
    NEVER = "it never ends"
    NOT_YET = "not all tasks run yet"


@dataclass
class Job:
    """One job of this or of an earlier life of the cluster."""

    id: str
    subject: str
    life: int
    started_at: float
    restored_from: str | None
    state: str = "INITIALIZING"
    running_since: float | None = None
    ended_at: float | None = None
    changed_at: float = 0.0
    restarts: int = 0
    failure: str | None = None
    forgotten: bool = False
    """The cluster does not know it any more."""

    @property
    def is_live(self) -> bool:
        return self.state in LIVE and not self.forgotten


@dataclass
class Kept:
    """Files of a state; they outlive the cluster."""

    job: Job
    whole: bool = True
    at: float = 0.0


@dataclass
class Operation:
    """A savepoint, or a stop with one."""

    job_id: str
    began_at: float
    ended_at: float | None = None
    location: str | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Entry:
    """A line of the truth: what happened to a job, and when."""

    at: float
    job: Job
    what: str


@dataclass
class FakeFlink:
    """The cluster itself, for the simulation to look at and to disturb."""

    loop: asyncio.AbstractEventLoop
    """Whose time it goes by."""
    chance: random.Random
    life: int = 1
    jobs: dict[str, Job] = field(default_factory=dict)
    operations: dict[tuple[str, str], Operation] = field(default_factory=dict)
    disk: dict[str, Kept] = field(default_factory=dict)
    ledger: list[Entry] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)
    submission_faults: deque[SubmissionFault] = field(default_factory=deque)
    savepoint_faults: deque[SavepointFault] = field(default_factory=deque)
    slots: int = SLOTS
    """Each job that runs takes one; those that run already are not counted out when there are fewer."""
    cut: Fault | None = None
    """What happens to every request until it is healed."""
    cached: dict[str, tuple[float, Any]] = field(default_factory=dict)
    asked: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def now(self) -> float:
        return self.loop.time()

    # What happens to it

    def restart(self) -> None:
        """The JobManager dies and another one takes its place, which knows nothing."""
        self.life += 1
        for job in self.jobs.values():
            if job.is_live:
                self._tell(job, GONE)
            job.forgotten = True
        self.jobs.clear()
        self.operations.clear()
        self.cached.clear()

    def fail_over(self, seconds: float) -> None:
        """The JobManager dies; the one that takes its place answers at once and recovers the jobs only later."""
        away = self.live()
        self.restart()
        life = self.life

        def recover() -> None:
            if self.life != life:
                return
            for job in away:
                job.forgotten, job.life, job.state = False, life, "RESTARTING"
                self.jobs[job.id] = job
                self._tell(job, BACK)
                self._later(job, _BEGINS_S, partial(self._go_on, job))

        self.loop.call_later(seconds, recover)

    def _go_on(self, job: Job) -> None:
        if job.state == "RESTARTING":
            self._change(job, "RUNNING")
            self._later(job, _CHECKPOINT_EVERY_S, lambda: self._checkpoint(job, 1000 * self.life))

    def forget_ended(self) -> None:
        """Ended jobs expire from the cluster's memory; their ids stay taken."""
        for job in self.jobs.values():
            if not job.is_live:
                job.forgotten = True

    def fail(self, job: Job) -> None:
        self._end(job, "FAILED", "java.lang.RuntimeException: it broke")

    def recover(self, job: Job, seconds: float) -> None:
        """It fails and restarts by itself."""
        if job.state == "RUNNING":
            self._change(job, "RESTARTING")
            job.restarts += 1
            job.failure = "java.io.IOException: the TaskManager is gone"
            self._later(job, seconds, lambda: self._change(job, "RUNNING") if job.state == "RESTARTING" else None)

    def cancel(self, job: Job) -> None:
        """From Flink's own page, or by the service."""
        if job.state in ("INITIALIZING", "RUNNING", "RESTARTING"):
            self._change(job, "CANCELLING")
            for operation in self._operations_of(job):
                self._fail_operation(operation, "java.util.concurrent.CancellationException: the job was cancelled")
            self._later(job, self.chance.choice((0.02, 0.3, 2.0)), lambda: self._end(job, "CANCELED"))

    def finish(self, job: Job) -> None:
        """Its sources end."""
        if job.state == "RUNNING":
            self._end(job, "FINISHED")

    def heal(self) -> None:
        """No more faults; what never ends is given up."""
        self.cut = None
        self.slots = SLOTS
        self.faults.clear()
        self.submission_faults.clear()
        self.savepoint_faults.clear()
        for operation in self.operations.values():
            if operation.ended_at is None:
                self._fail_operation(operation, "org.apache.flink.runtime.checkpoint.CheckpointException: expired")

    def live(self) -> list[Job]:
        """The jobs that run now, or are about to."""
        return [job for job in self.jobs.values() if job.is_live]

    # Submissions

    def submit(self, job_id: str, subject: str, restore: str | None) -> bool:
        """Take a job; False when the id was taken before in this life."""
        if job_id in self.jobs:
            return False
        job = Job(job_id, subject, self.life, self.now(), restore, changed_at=self.now())
        self.jobs[job_id] = job
        self._tell(job, "started")
        self._later(job, _BEGINS_S * self.chance.random(), lambda: self._run(job))
        return True

    def checkpoints_of(self, job: Job) -> str | None:
        """The newest checkpoint of a job that its files have."""
        found = [path for path, kept in self.disk.items() if kept.job is job and "/chk-" in path]
        return found[-1] if found else None

    # Its REST API

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """One request, with what may happen to it."""
        fault = self.cut or (self.faults.popleft() if self.faults else None)
        await asyncio.sleep(self.chance.choice((0.001, 0.005, 0.02, 0.1)))
        match fault:
            case Fault.REFUSED:
                raise httpx.ConnectError("connection refused", request=request)
            case Fault.LOST:
                await asyncio.sleep(TIMEOUT_S)
                raise httpx.ReadTimeout("", request=request)
            case Fault.BROKEN:
                raise httpx.ReadError("connection reset", request=request)
            case Fault.GARBAGE:
                return httpx.Response(200, text="<html>welcome</html>")
            case Fault.NO_LEADER:
                return httpx.Response(503, json={"errors": ["Service temporarily unavailable"]})
        status, value = self._respond(request)
        match fault:
            case Fault.TWICE:
                status, value = self._respond(request)
            case Fault.UNANSWERED:
                raise httpx.ReadError("connection reset", request=request)
            case Fault.SILENT:
                await asyncio.sleep(TIMEOUT_S)
                raise httpx.ReadTimeout("", request=request)
            case Fault.LATE:
                text = json.dumps(value)
                await asyncio.sleep(self.chance.choice((0.5, 2.0, 4.5)))
                return httpx.Response(status, text=text)
        return httpx.Response(status, json=value)

    def _respond(self, request: httpx.Request) -> tuple[int, Any]:
        path = request.url.path
        self.asked[f"{request.method} {re.sub('[0-9a-f]{32}', ':id', path)}"] += 1
        if path == "/jobs/overview":
            return 200, {"jobs": [_summary(job) for job in self.jobs.values() if not job.forgotten]}
        if path == "/jobmanager/config":
            return 200, [
                {"key": "web.tmpdir", "value": f"/tmp/flink-web-{self.life}"},
                {"key": "execution.checkpointing.savepoint-dir", "value": "file:/savepoints"},
            ]
        if path == "/overview":
            free = max(0, self.slots - len(self.live()))
            slots = {"taskmanagers": min(1, self.slots), "slots-total": self.slots, "slots-available": free}
            counts = dict.fromkeys(("jobs-running", "jobs-finished", "jobs-cancelled", "jobs-failed"), 0)
            return 200, {"flink-version": "2.3.0", **slots, **counts}
        if path == "/savepoint-disposal":
            self.disk.pop(json.loads(request.content)["savepoint-path"], None)
            return 202, {"request-id": "d" * 32}
        if path.startswith("/savepoint-disposal/"):
            return 200, {"status": {"id": "COMPLETED"}, "operation": {}}
        found = re.fullmatch(r"/jobs/([0-9a-f]{32})(?:/(\w+)(?:/(\w+))?)?", path)
        assert found is not None, f"{request.method} {path} is not in the double"
        job_id, what, trigger = found.groups()
        body = json.loads(request.content) if request.content else {}
        job = self.jobs.get(job_id)
        if job is not None and job.forgotten:
            job = None
        if request.method == "POST" and what in ("stop", "savepoints"):
            return self._begin_operation(job_id, job, body, stops=what == "stop")
        if what == "savepoints":
            return self._operation(job_id, trigger)
        if job is None:
            trace = f"org.apache.flink.runtime.messages.FlinkJobNotFoundException: Could not find Flink job ({job_id})"
            return (500 if what == "status" else 404), {"errors": ["Internal server error.", trace]}
        if request.method == "PATCH":
            if not job.is_live:
                return 409, {"errors": ["Job cancellation failed because the job has already reached another state"]}
            self.cancel(job)
            return 202, {}
        if what == "status":
            return 200, {"status": job.state}
        return 200, self._from_cache(path, lambda: self._details(job, what))

    def _from_cache(self, path: str, make: Callable[[], Any]) -> Any:
        made_at, value = self.cached.get(path, (-_CACHE_S, None))
        if self.now() - made_at >= _CACHE_S:
            value = make()
            self.cached[path] = self.now(), value
        return value

    def _details(self, job: Job, what: str) -> Any:
        if what == "exceptions":
            at = round((job.ended_at or job.changed_at) * 1000)
            entry = {"exceptionName": "E", "stacktrace": job.failure, "timestamp": at}
            return {"exceptionHistory": {"entries": [entry] if job.failure else []}}
        if what == "metrics":
            return [{"id": "numRestarts", "value": str(job.restarts)}]
        assert what == "checkpoints", what
        newest = self.checkpoints_of(job)
        made = [path for path, kept in self.disk.items() if kept.job is job and "/chk-" not in path and kept.whole]
        latest: dict[str, Any] = {}
        if newest is not None:
            latest["completed"] = {"id": 1, "external_path": newest, "trigger_timestamp": round(self.now() * 1000)}
        if made:
            latest["savepoint"] = {"id": 2, "external_path": made[-1], "is_savepoint": True}
        return {"counts": {"completed": len(latest)}, "latest": latest}

    # Operations

    def _begin_operation(
        self, job_id: str, job: Job | None, body: dict[str, Any], *, stops: bool
    ) -> tuple[int, dict[str, Any]]:
        trigger = body["triggerId"]
        accepted = 202, {"request-id": trigger}
        if (job_id, trigger) in self.operations:
            return accepted
        operation = Operation(job_id, self.now())
        self.operations[job_id, trigger] = operation
        if job is None or not job.is_live:
            self._fail_operation(
                operation, f"org.apache.flink.runtime.messages.FlinkJobNotFoundException: no job {job_id}"
            )
            return accepted
        fault = self.savepoint_faults.popleft() if self.savepoint_faults else None
        if job.state != "RUNNING" or fault is SavepointFault.NOT_YET:
            self._fail_operation(operation, "CheckpointException: Not all required tasks are currently running.")
            return accepted
        folder = body["targetDirectory" if stops else "target-directory"]
        path = f"{folder}/savepoint-{job_id[:6]}-{self.chance.getrandbits(48):012x}"
        match fault:
            case SavepointFault.NEVER:
                self.disk[path] = Kept(job, whole=False, at=self.now())
                return accepted
            case SavepointFault.LATE:
                takes_s = self.chance.choice((8.0, 25.0))
            case _:
                takes_s = self.chance.choice((0.005, 0.05, 0.7, 2.0))

        def end() -> None:
            if operation.ended_at is not None:
                return
            if fault is SavepointFault.FAILS or job.state != "RUNNING":
                self._fail_operation(operation, "CheckpointException: the disk is full")
                return
            self.disk[path] = Kept(job, at=self.now())
            if stops:
                for one in [one for one, kept in self.disk.items() if kept.job is job and "/chk-" in one]:
                    del self.disk[one]
                # Which of the two is seen first is left to chance, as in Flink.
                lag = self.chance.choice((0.0, 0.4))
                self._later(job, lag, lambda: self._end(job, "FINISHED"))
                self._later(job, self.chance.choice((0.0, 0.4)), lambda: self._complete(operation, path))
            else:
                self._complete(operation, path)

        self._later(job, takes_s, end)
        return accepted

    def _operation(self, job_id: str, trigger: str) -> tuple[int, Any]:
        operation = self.operations.get((job_id, trigger))
        if operation is None or (
            operation.ended_at is not None and self.now() - operation.ended_at > _OPERATIONS_KEPT_S
        ):
            return 404, {"errors": [f"There is no savepoint operation with triggerId={trigger} for job {job_id}."]}
        if operation.ended_at is None:
            return 200, {"status": {"id": "IN_PROGRESS"}, "operation": None}
        result: dict[str, Any] = {"location": operation.location}
        if operation.failure is not None:
            result = {"failure-cause": {"class": "E", "stack-trace": operation.failure}}
        return 200, {"status": {"id": "COMPLETED"}, "operation": result}

    def _complete(self, operation: Operation, path: str) -> None:
        if operation.ended_at is None:
            operation.ended_at, operation.location = self.now(), path

    def _fail_operation(self, operation: Operation, cause: str) -> None:
        if operation.ended_at is None:
            operation.ended_at, operation.failure = self.now(), cause

    def _operations_of(self, job: Job) -> Iterator[Operation]:
        return (one for (job_id, _), one in self.operations.items() if job_id == job.id)

    # Lives of jobs

    def _run(self, job: Job) -> None:
        if job.state == "INITIALIZING":
            job.running_since = self.now()
            self._change(job, "RUNNING")
            self._later(job, _CHECKPOINT_EVERY_S, lambda: self._checkpoint(job, 1))

    def _checkpoint(self, job: Job, number: int) -> None:
        if not job.is_live:
            return
        if job.state == "RUNNING":
            before = self.checkpoints_of(job)
            self.disk[f"file:/checkpoints/{job.id}/chk-{number}"] = Kept(job, at=self.now())
            if before is not None:
                del self.disk[before]
        self._later(job, _CHECKPOINT_EVERY_S, lambda: self._checkpoint(job, number + 1))

    def _end(self, job: Job, state: str, failure: str | None = None) -> None:
        if not job.is_live:
            return
        job.ended_at = self.now()
        job.failure = failure or job.failure
        self._change(job, state)
        for operation in self._operations_of(job):
            if state != "FINISHED":
                self._fail_operation(operation, "CheckpointException: the job ended")

    def _change(self, job: Job, state: str) -> None:
        job.state, job.changed_at = state, self.now()
        self._tell(job, state)

    def _later(self, job: Job, seconds: float, do: Callable[[], object]) -> None:
        def act() -> None:
            if not job.forgotten:  # else its JobManager is gone
                do()

        self.loop.call_later(seconds, act)

    def _tell(self, job: Job, what: str) -> None:
        self.ledger.append(Entry(self.now(), job, what))


class FakeSubmitter:
    """The planner's part: brings runs to the double, and looks into the files of states.

    Of a run's spec it reads ``refuse`` (why Flink would never take it).
    """

    def __init__(self, flink: FakeFlink) -> None:
        self._flink = flink

    async def submit(self, run: Run) -> None:
        flink = self._flink
        fault = flink.submission_faults.popleft() if flink.submission_faults else None
        await asyncio.sleep(flink.chance.choice((0.01, 0.1, 0.5)))
        if "refuse" in run.spec:
            raise SubmissionRefused(run.spec["refuse"])
        if flink.cut is not None or fault is SubmissionFault.NOT_SENT:
            await asyncio.sleep(flink.chance.choice((0.0, PLANNER_TIMEOUT_S)))
            raise SubmissionUncertain("the planner ended before it answered")
        if fault is SubmissionFault.SLOW:
            await asyncio.sleep(PLANNER_TIMEOUT_S * 0.9)
        restore = self._whole(run.spec.get("restore"))
        send = self._sending(run, restore)
        if fault is SubmissionFault.ARRIVES_LATE:
            flink.loop.call_later(flink.chance.choice((1.0, 8.0, 20.0)), send)
            raise SubmissionUncertain("the planner ended before it answered")
        taken = send()
        if fault is SubmissionFault.SENT:
            raise SubmissionUncertain("the planner ended before it answered")
        await asyncio.sleep(flink.chance.choice((0.0, 0.05)))
        if not taken:
            raise AlreadySubmitted

    async def inspect(self, path: str) -> Inspection:
        if self._flink.chance.random() < 0.1:
            raise Unreachable("no planner is ready")
        kept = self._flink.disk.get(path)
        return Inspection(True, size=1) if kept and kept.whole else Inspection(False, "its metadata cannot be read")

    async def savepoint_in(self, folder: str) -> str | None:
        """The whole savepoint in a folder of its own."""
        return next((path for path, kept in self._flink.disk.items() if kept.whole and f"{folder}/" in path), None)

    async def remove_savepoint(self, folder: str) -> str | None:
        """Delete what is in a folder of its own."""
        for path in [path for path in self._flink.disk if f"{folder}/" in path]:
            del self._flink.disk[path]
        return None

    async def left_state(self, run: Run, path: str | None) -> LeftState | None:
        """What a run left; of a checkpoint that was noted the newest of the same job."""
        flink = self._flink
        if flink.chance.random() < 0.1:
            raise Unreachable("no planner is ready")
        folder = f"/checkpoints/{run.external_id}" if path is None else path.rpartition("/")[0]
        if path is None or "/chk-" in path:
            path = next((one for one in reversed(flink.disk) if one.rpartition("/")[0].endswith(folder)), path)
        if path is None:
            return None
        kept = flink.disk.get(path)
        return LeftState(path, True) if kept and kept.whole else LeftState(path, False, "it is not there, or not whole")

    def _sending(self, run: Run, restore: str | None) -> Callable[[], bool | None]:
        life = self._flink.life

        def send() -> bool | None:
            if self._flink.life != life:
                return None  # it was on its way to a JobManager that is gone
            return self._flink.submit(run.external_id, run.subject, restore)

        return send

    def _whole(self, path: str | None) -> str | None:
        """What a run goes on from: of a checkpoint that was noted the newest of the same job, as Flink keeps one."""
        if path is None:
            return None
        folder, _, name = path.rpartition("/")
        if name.startswith("chk-"):
            path = next((one for one in reversed(self._flink.disk) if one.startswith(f"{folder}/")), path)
        kept = self._flink.disk.get(path)
        if kept is None or not kept.whole:
            raise SubmissionRefused(f"The state at {path} is not whole")
        return path


class FakeClusters(Clusters):
    """Connections that lead to a double."""

    def __init__(self, flink: Callable[[], FakeFlink]) -> None:
        super().__init__(TIMEOUT_S)
        self._flink = flink

    def forget(self) -> None:
        """What was learnt of the double of another world."""
        for cluster in self._known.values():
            cluster._incarnation = None

    def at(self, address: str) -> Cluster:
        if address in self._known:
            return self._known[address]
        cluster = super().at(address)

        async def answer(request: httpx.Request) -> httpx.Response:
            return await self._flink().answer(request)

        cluster._http = httpx.AsyncClient(base_url=address, transport=httpx.MockTransport(answer))
        return cluster


def _summary(job: Job) -> dict[str, Any]:
    running = 2 if job.state == "RUNNING" else 0
    return {
        "jid": job.id,
        "name": job.subject,
        "state": job.state,
        "start-time": round(job.started_at * 1000),
        "end-time": -1 if job.ended_at is None else round(job.ended_at * 1000),
        "last-modification": round(job.changed_at * 1000),
        "tasks": {"total": 2, "running": running},
    }
