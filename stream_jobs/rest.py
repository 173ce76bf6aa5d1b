"""Flink's REST API, typed. Verified on Flink 2.3; fields that we do not know are ignored.

One :class:`Cluster` per address, which keeps its connections. Everything raises :class:`ClusterUnreachable` when no
answer comes, :class:`JobNotFound` when the cluster says that it does not know the job, and :class:`ClusterError` for
every other answer that is not the expected one, including answers of something that is not Flink.

Source: https://nightlies.apache.org/flink/flink-docs-release-2.3/docs/ops/rest_api/
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, NamedTuple, Self, TypeVar

import httpx
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from stream_jobs import causes


class FlinkRestError(Exception):
    """Base of what this module raises. ``address`` is the cluster's, without credentials."""

    def __init__(self, address: str, message: str) -> None:
        super().__init__(message)
        self.address = address


class ClusterUnreachable(FlinkRestError):
    """No answer: nothing is known about the cluster's jobs, and nothing follows about them."""

    def __init__(self, address: str, cause: str) -> None:
        super().__init__(address, f"Flink at {address} does not answer: {cause}. Check that it runs and the address")
        self.cause = cause


class ClusterError(FlinkRestError):
    """An answer that is not the expected one. ``status`` is HTTP's; ``message`` the root cause that Flink gave."""

    def __init__(self, address: str, status: int, message: str) -> None:
        super().__init__(address, f"Flink at {address} answered {status}: {message}")
        self.status = status
        self.message = message


class LoginRefused(ClusterError):
    """What stands before the cluster does not let us in: 401 or 403, whoever answers it."""

    def __init__(self, address: str, status: int) -> None:
        super().__init__(address, status, "the cluster, or the proxy before it, does not accept the login")


class JobNotFound(FlinkRestError):
    """The cluster answers and does not know the job: never had it, forgot it, or was restarted."""

    def __init__(self, address: str, job_id: str) -> None:
        super().__init__(address, f"Flink at {address} does not know the job {job_id}")
        self.job_id = job_id


def _number(value: object) -> object:
    """Flink writes NaN as a string, or leaves the value out, where it has not measured yet."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


Measured = Annotated[float | None, BeforeValidator(_number)]
"""A measurement; None while there is none."""

EpochMs = int
"""Milliseconds since 1970; -1 or 0 for "not yet"."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class ClusterOverview(_Answer):
    """``/overview``"""

    flink_version: str = Field(alias="flink-version")
    flink_commit: str = Field("", alias="flink-commit")
    task_managers: int = Field(alias="taskmanagers")
    slots_total: int = Field(alias="slots-total")
    slots_available: int = Field(alias="slots-available")
    jobs_running: int = Field(alias="jobs-running")
    jobs_finished: int = Field(alias="jobs-finished")
    jobs_canceled: int = Field(alias="jobs-cancelled")
    jobs_failed: int = Field(alias="jobs-failed")

    @property
    def slots_running(self) -> int:
        """Slots that hold a task."""
        return self.slots_total - self.slots_available


class TaskCounts(_Answer):
    """How many of a job's tasks are in which state."""

    total: int = 0
    running: int = 0
    scheduled: int = 0
    deploying: int = 0
    initializing: int = 0
    finished: int = 0
    canceled: int = 0
    failed: int = 0


class JobSummary(_Answer):
    """A job in ``/jobs/overview``. RUNNING does not mean that its tasks run: see ``tasks``."""

    id: str = Field(alias="jid")
    name: str
    state: str
    start_time: EpochMs = Field(alias="start-time")
    end_time: EpochMs = Field(-1, alias="end-time")
    last_modification: EpochMs = Field(0, alias="last-modification")
    tasks: TaskCounts = TaskCounts()


class JobState(NamedTuple):
    """What of ``/jobs/overview`` is looked at again and again: no model, because there may be thousands of them."""

    id: str
    state: str
    last_modification: EpochMs
    end_time: EpochMs
    tasks_running: int
    tasks_total: int


_TYPES_OF_JOB_STATE = (str, str, int, int, int, int)


class VertexMetrics(_Answer):
    """What a vertex has moved since it started; records count only between Flink's own operators."""

    read_bytes: Measured = Field(None, alias="read-bytes")
    write_bytes: Measured = Field(None, alias="write-bytes")
    read_records: Measured = Field(None, alias="read-records")
    write_records: Measured = Field(None, alias="write-records")


class Vertex(_Answer):
    """One box of a job's graph: a chain of operators."""

    id: str
    name: str
    parallelism: int
    max_parallelism: int = Field(-1, alias="maxParallelism")
    status: str
    tasks: Mapping[str, int] = Field(default_factory=dict)
    metrics: VertexMetrics = VertexMetrics()


class PlanInput(_Answer):
    """An edge of the graph, from the vertex ``id``."""

    id: str
    ship_strategy: str = ""


class PlanNode(_Answer):
    """A vertex in the graph that was submitted."""

    id: str
    parallelism: int
    description: str = ""
    inputs: Sequence[PlanInput] = ()


class Plan(_Answer):
    """The graph that was submitted."""

    name: str = ""
    nodes: Sequence[PlanNode] = ()


class JobDetail(_Answer):
    """``/jobs/:id``: up to 3 s old (``web.refresh-interval``), also after a stop; see :meth:`Cluster.status`."""

    id: str = Field(alias="jid")
    name: str
    state: str
    start_time: EpochMs = Field(alias="start-time")
    end_time: EpochMs = Field(-1, alias="end-time")
    duration: int = 0
    now: EpochMs = 0
    timestamps: Mapping[str, EpochMs] = Field(default_factory=dict)
    vertices: Sequence[Vertex] = ()
    plan: Plan = Plan()


class Checkpoint(_Answer):
    """One checkpoint or savepoint."""

    id: int
    status: str = ""
    is_savepoint: bool = False
    checkpoint_type: str = ""
    trigger_timestamp: EpochMs = 0
    latest_ack_timestamp: EpochMs = 0
    state_size: int = 0
    end_to_end_duration: int = 0
    external_path: str | None = None
    discarded: bool = False
    failure_message: str | None = None


class LatestCheckpoints(_Answer):
    """The newest of each sort."""

    completed: Checkpoint | None = None
    savepoint: Checkpoint | None = None
    failed: Checkpoint | None = None


class CheckpointCounts(_Answer):
    """How many there were since the job started."""

    restored: int = 0
    total: int = 0
    in_progress: int = 0
    completed: int = 0
    failed: int = 0


class Checkpoints(_Answer):
    """``/jobs/:id/checkpoints``"""

    counts: CheckpointCounts
    latest: LatestCheckpoints = LatestCheckpoints()
    history: Sequence[Checkpoint] = ()

    @property
    def newest_usable(self) -> Checkpoint | None:
        """The newest complete checkpoint, unless it has been deleted; None without one."""
        newest = self.latest.completed
        return newest if newest is not None and not newest.discarded else None


class JobException(_Answer):
    """One failure of a job."""

    name: str = Field("", alias="exceptionName")
    stacktrace: str = ""
    timestamp: EpochMs = 0
    task_name: str | None = Field(None, alias="taskName")
    task_manager: str | None = Field(None, alias="taskManagerId")

    @property
    def root_cause(self) -> str:
        """See :func:`root_cause`."""
        return root_cause(self.stacktrace) or self.name

    @property
    def told(self) -> str:
        """What it means and what helps, with the root cause; see :mod:`stream_jobs.causes`."""
        return causes.told(self.stacktrace, self.root_cause)


class Spread(_Answer):
    """A metric over a vertex's subtasks."""

    sum: Measured = None
    min: Measured = None
    max: Measured = None


class SubtaskPressure(_Answer):
    """How busy one subtask is; ratios from 0 to 1, None where not measured."""

    subtask: int
    backpressure_level: str = Field("", alias="backpressureLevel")
    ratio: Measured = None
    idle_ratio: Measured = Field(None, alias="idleRatio")
    busy_ratio: Measured = Field(None, alias="busyRatio")


class BackPressure(_Answer):
    """``/jobs/:id/vertices/:vertex/backpressure``; ``status`` is ``deprecated`` while the first sample is taken."""

    status: str
    level: str | None = Field(None, alias="backpressureLevel")
    subtasks: Sequence[SubtaskPressure] = ()


class TaskManager(_Answer):
    """One of the cluster's workers."""

    id: str
    path: str = ""
    slots: int = Field(0, alias="slotsNumber")
    free_slots: int = Field(0, alias="freeSlots")
    last_heartbeat: EpochMs = Field(0, alias="timeSinceLastHeartbeat")


class UploadedJar(_Answer):
    """A jar on the cluster: ``name`` is what it was uploaded as, ``id`` the cluster's own."""

    id: str
    name: str


class SavepointState(StrEnum):
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class SavepointStatus(_Answer):
    """How far a savepoint has come: ``location`` when completed, ``failure`` (the root cause) when failed."""

    state: SavepointState
    location: str | None = None
    failure: str | None = None


class SavepointFormat(StrEnum):
    """CANONICAL can be restored by another state backend; NATIVE is faster."""

    CANONICAL = "CANONICAL"
    NATIVE = "NATIVE"


def root_cause(stacktrace: str) -> str:
    """The deepest cause of a Java stack trace, with its message.

    That is the last ``Caused by:`` at the beginning of a line (indented ones belong to suppressed exceptions), or
    the first line without one. Empty for an empty trace.
    """
    lines = stacktrace.strip().splitlines()
    if lines and lines[0].startswith("<Exception on server side:"):
        lines = lines[1:]
    start = 0
    for number, line in enumerate(lines):
        if line.startswith("Caused by: "):
            start = number
    cause: list[str] = []
    for line in lines[start:]:
        if line.startswith(("\tat ", "\t...", "\tSuppressed: ", "End of exception on server side")) or (
            cause and line.startswith("Caused by: ")
        ):
            break
        cause.append(line.removeprefix("Caused by: "))
    return "\n".join(cause).strip()


A = TypeVar("A", bound=BaseModel)

_JAR = "application/java-archive"

Authorization = Callable[[str], Awaitable[str | None]]
"""Finds what to send to the cluster at an address as the header ``Authorization``; None: nothing."""


class _Login(httpx.Auth):
    """Sends what ``find`` found. It is asked at first, and again when that is refused: it may have been changed."""

    def __init__(self, address: str, find: Authorization) -> None:
        self._address = address
        self._find = find
        self._found: str | None = None
        self._asked = False

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        if not self._asked:
            self._found, self._asked = await self._find(self._address), True
        response = yield self._with_header(request)
        if response.status_code in _REFUSED:
            before, self._found = self._found, await self._find(self._address)
            if self._found != before:
                yield self._with_header(request)

    def _with_header(self, request: httpx.Request) -> httpx.Request:
        request.headers.pop("Authorization", None)
        if self._found is not None:
            request.headers["Authorization"] = self._found
        return request


_REFUSED = (401, 403)


class Cluster:
    """A Flink cluster by its REST address. Use as ``async with``, or :meth:`close` it.

    The address may have a path, under which a proxy has the cluster; ``authorization`` finds what that proxy asks for.

    ``timeout_s`` bounds each request. Every request here may be repeated (what changes something carries an id by
    which Flink knows the repetition), so one that dies with its connection is sent once more; one that runs into
    the time-out is not. Raises :class:`ClusterUnreachable` for what cannot be an address.
    """

    def __init__(self, address: str, timeout_s: float = 5.0, authorization: Authorization | None = None) -> None:
        try:
            url = httpx.URL(address if "://" in address else f"http://{address}")
        except httpx.InvalidURL as wrong:
            raise ClusterUnreachable(address.rpartition("@")[2], f"this is not an address: {wrong}") from None
        self.address = str(url.copy_with(userinfo=b"")).rstrip("/")
        # trust_env: a proxy for the internet must not stand between the service and its cluster.
        self._http = httpx.AsyncClient(
            base_url=url,
            timeout=timeout_s,
            trust_env=False,
            limits=httpx.Limits(max_connections=16),
            auth=None if authorization is None else _Login(address, authorization),
        )
        self._timeout_s = timeout_s
        self._incarnation: tuple[float, str | None] | None = None
        """When it was asked for (monotonic seconds), and the answer."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # The cluster

    async def overview(self) -> ClusterOverview:
        """Slots, workers, numbers of jobs, version."""
        return self._read(ClusterOverview, await self._get("/overview"))

    async def configuration(self) -> dict[str, str]:
        """The JobManager's configuration as it runs; Flink masks what looks like a secret."""
        answer = await self._get("/jobmanager/config")
        try:
            return {str(entry["key"]): str(entry["value"]) for entry in answer}
        except (TypeError, KeyError):
            raise self._garbage("/jobmanager/config") from None

    async def libraries(self) -> frozenset[str]:
        """The file names of the jars on the JobManager's class path: those that a job need not bring."""
        answer = await self._get("/jobmanager/environment")
        try:
            return frozenset(str(entry).replace("\\", "/").rpartition("/")[2] for entry in answer["classpath"])
        except (TypeError, KeyError):
            raise self._garbage("/jobmanager/environment") from None

    async def incarnation(self, max_age_s: float = 0.0) -> str | None:
        """Names this life of the JobManager: another value means that it was restarted and has forgotten its jobs.

        It is the folder that each JobManager process makes for itself at start (``web.tmpdir``, with a random name);
        None where Flink runs without one, as in a test's mini cluster. With ``max_age_s`` an answer may be so old.
        """
        now = time.monotonic()
        if self._incarnation is None or now - self._incarnation[0] >= max_age_s:
            self._incarnation = now, (await self.configuration()).get("web.tmpdir")
        return self._incarnation[1]

    async def jobmanager_metrics(self, names: Sequence[str]) -> dict[str, float | None]:
        """Metrics of the JobManager by name, for instance ``Status.JVM.Memory.Heap.Used`` (bytes)."""
        return self._metrics(await self._get("/jobmanager/metrics", get=",".join(names)), "value")

    async def task_managers(self) -> list[TaskManager]:
        """The workers; one that died is listed for up to 50 s more."""
        answer = await self._get("/taskmanagers")
        return [self._read(TaskManager, one) for one in self._list(answer, "taskmanagers")]

    # Jobs

    async def jobs(self) -> list[JobSummary]:
        """All jobs that the cluster remembers, ended ones for an hour (``jobstore.expiration-time``); not cached."""
        answer = await self._get("/jobs/overview")
        return [self._read(JobSummary, one) for one in self._list(answer, "jobs")]

    async def job_states(self) -> list[JobState]:
        """The same jobs as :meth:`jobs`, as little of each as the status needs."""
        return [self._job_state(one) for one in self._list(await self._get("/jobs/overview"), "jobs")]

    async def status(self, job_id: str) -> str:
        """The job's state, fresh, in Flink's words."""
        answer = await self._get(f"/jobs/{job_id}/status", job_id=job_id)
        if not isinstance(answer, dict) or not isinstance(answer.get("status"), str):
            raise self._garbage(f"/jobs/{job_id}/status")
        return str(answer["status"])

    async def job(self, job_id: str) -> JobDetail:
        """The job with its graph; up to 3 s old."""
        return self._read(JobDetail, await self._get(f"/jobs/{job_id}", job_id=job_id))

    async def checkpoints(self, job_id: str) -> Checkpoints:
        """The job's checkpoints and savepoints; up to 3 s old."""
        return self._read(Checkpoints, await self._get(f"/jobs/{job_id}/checkpoints", job_id=job_id))

    async def exceptions(self, job_id: str, most: int = 20) -> list[JobException]:
        """The job's failures, newest first; up to 3 s old."""
        answer = await self._get(f"/jobs/{job_id}/exceptions", job_id=job_id, maxExceptions=str(most))
        history = answer.get("exceptionHistory") if isinstance(answer, dict) else None
        return [self._read(JobException, one) for one in self._list(history, "entries")]

    async def job_metrics(self, job_id: str, names: Sequence[str]) -> dict[str, float | None]:
        """Metrics of the job by name, for instance ``numRestarts``.

        Flink answers with what it last fetched and fetches anew (10 s apart at most), so the first answer may be
        old or empty, and an ended job has none.
        """
        return self._metrics(await self._get(f"/jobs/{job_id}/metrics", job_id=job_id, get=",".join(names)), "value")

    async def vertex_metrics(
        self, job_id: str, vertex_id: str, names: Sequence[str], aggregate: str = "sum"
    ) -> dict[str, float | None]:
        """Metrics of a vertex by name, over its subtasks (``sum``, ``min``, ``max``, ``avg``)."""
        path = f"/jobs/{job_id}/vertices/{vertex_id}/subtasks/metrics"
        return self._metrics(await self._get(path, job_id=job_id, get=",".join(names), agg=aggregate), aggregate)

    async def vertex_metric_names(self, job_id: str, vertex_id: str) -> list[str]:
        """The names of a vertex's metrics, as ``vertex_metrics`` takes them."""
        path = f"/jobs/{job_id}/vertices/{vertex_id}/subtasks/metrics"
        answer = await self._get(path, job_id=job_id)
        try:
            return [str(metric["id"]) for metric in answer]
        except (TypeError, KeyError):
            raise self._garbage(path) from None

    async def vertex_spreads(self, job_id: str, vertex_id: str, names: Sequence[str]) -> dict[str, Spread]:
        """Metrics of a vertex by name, each with its sum, minimum and maximum over the subtasks, in one request.

        The names must be among :meth:`vertex_metric_names`: for one that is not, Flink answers with nothing at all.
        """
        path = f"/jobs/{job_id}/vertices/{vertex_id}/subtasks/metrics"
        answer = await self._get(path, job_id=job_id, get=",".join(names), agg="sum,min,max")
        if not isinstance(answer, list) or not all(isinstance(one, dict) and "id" in one for one in answer):
            raise self._garbage(path)
        return {str(one["id"]): self._read(Spread, one) for one in answer}

    async def back_pressure(self, job_id: str, vertex_id: str) -> BackPressure:
        """How busy and how held up a vertex is."""
        path = f"/jobs/{job_id}/vertices/{vertex_id}/backpressure"
        return self._read(BackPressure, await self._get(path, job_id=job_id))

    async def watermarks(self, job_id: str, vertex_id: str) -> list[int]:
        """The watermark of each subtask (epoch ms); empty for a source, and before the first one came."""
        path = f"/jobs/{job_id}/vertices/{vertex_id}/watermarks"
        found = self._metrics(await self._get(path, job_id=job_id), "value").values()
        # Flink's "none yet" is the smallest long
        return [int(value) for value in found if value is not None and value > -9e18]

    # Changes

    async def cancel(self, job_id: str) -> None:
        """Ask for the end of a job. Accepted is not done; asking again, or for an ended job, is harmless."""
        try:
            await self._send("PATCH", f"/jobs/{job_id}", job_id=job_id, params={"mode": "cancel"})
        except ClusterError as error:
            if error.status != 409:  # it has ended
                raise

    async def stop_with_savepoint(
        self,
        job_id: str,
        trigger_id: str,
        target_directory: str | None = None,
        *,
        drain: bool = False,
        savepoint_format: SavepointFormat = SavepointFormat.CANONICAL,
    ) -> None:
        """Ask for a savepoint and the job's end after it. See :meth:`savepoint_status` for how it goes.

        ``trigger_id`` (32 hex digits) must be new for each operation: Flink answers a known one with what that one
        did, also when it was another operation. ``target_directory`` None takes the cluster's own.
        """
        await self._send(
            "POST",
            f"/jobs/{job_id}/stop",
            job_id=job_id,
            body={
                "targetDirectory": target_directory,
                "drain": drain,
                "formatType": savepoint_format,
                "triggerId": trigger_id,
            },
        )

    async def savepoint(
        self,
        job_id: str,
        trigger_id: str,
        target_directory: str | None = None,
        *,
        savepoint_format: SavepointFormat = SavepointFormat.CANONICAL,
    ) -> None:
        """Ask for a savepoint; the job goes on. ``trigger_id`` as in :meth:`stop_with_savepoint`."""
        await self._send(
            "POST",
            f"/jobs/{job_id}/savepoints",
            job_id=job_id,
            body={
                "target-directory": target_directory,
                "cancel-job": False,
                "formatType": savepoint_format,
                "triggerId": trigger_id,
            },
        )

    async def savepoint_status(self, job_id: str, trigger_id: str) -> SavepointStatus | None:
        """How far an operation has come; None when the cluster does not know it.

        Results are kept for 5 minutes (``rest.async.store-duration``) and end with the JobManager.
        """
        path = f"/jobs/{job_id}/savepoints/{trigger_id}"
        try:
            answer = await self._get(path, job_id=job_id)
        except ClusterError as error:
            if error.status == 404:
                return None
            raise
        return self._savepoint_status(path, answer)

    async def dispose_savepoint(self, path: str) -> str:
        """Ask the cluster to delete a savepoint's files; returns the id of the request."""
        answer = await self._send("POST", "/savepoint-disposal", body={"savepoint-path": path})
        if not isinstance(answer, dict) or "request-id" not in answer:
            raise self._garbage("/savepoint-disposal")
        return str(answer["request-id"])

    async def disposal_status(self, request_id: str) -> SavepointStatus:
        """How far the deletion of a savepoint has come; ``failure`` when its files could not be deleted."""
        path = f"/savepoint-disposal/{request_id}"
        answer = await self._get(path)
        operation = answer.get("operation") if isinstance(answer, dict) else None
        if operation is not None and "failure-cause" not in operation:
            return SavepointStatus(state=SavepointState.COMPLETED)
        return self._savepoint_status(path, answer)

    # Programs in jars

    async def jars(self) -> list[UploadedJar]:
        """The jars that the cluster has; it may forget them when it is restarted."""
        return [self._read(UploadedJar, one) for one in self._list(await self._get("/jars"), "files")]

    async def upload_jar(self, file: Path, name: str, timeout_s: float) -> str:
        """Bring a jar to the cluster; returns its id there, which ends with ``name``. Twice makes two of it."""
        answer = await self._send("POST", "/jars/upload", file=(name, file), timeout_s=timeout_s)
        if not isinstance(answer, dict) or not isinstance(answer.get("filename"), str):
            raise self._garbage("/jars/upload")
        return str(answer["filename"]).rpartition("/")[2]

    async def run_jar(self, jar_id: str, body: Mapping[str, Any], timeout_s: float) -> None:
        """Run a jar's program, which submits a job; returns when it has. ``body["jobId"]`` makes repeating harmless.

        A program that fails is a :class:`ClusterError` with its root cause; it may have submitted its job before.
        """
        await self._send("POST", f"/jars/{jar_id}/run", body=body, timeout_s=timeout_s)

    async def delete_jar(self, jar_id: str) -> None:
        """Take a jar away from the cluster; the jobs that run from it go on."""
        await self._send("DELETE", f"/jars/{jar_id}")

    # Parts

    async def _get(self, path: str, *, job_id: str | None = None, **params: str) -> Any:
        return await self._send("GET", path, job_id=job_id, params=params)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        job_id: str | None = None,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        file: tuple[str, Path] | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        with ExitStack() as opened:
            request: dict[str, Any] = {"params": params or None, "json": body, "timeout": timeout_s or self._timeout_s}
            if file is not None:
                name, path_of_file = file
                request["files"] = {"jarfile": (name, opened.enter_context(path_of_file.open("rb")), _JAR)}
            response = await self._answer(method, path, request)
        if response.status_code in (502, 503, 504):  # no leader yet, or a gateway before a cluster that is down
            raise ClusterUnreachable(self.address, f"status {response.status_code}")
        if response.status_code in _REFUSED:
            raise LoginRefused(self.address, response.status_code)
        try:
            answer = from_json(response.content)
        except ValueError:
            raise self._garbage(path, response.status_code) from None
        if response.is_success:
            return answer
        texts = self._errors(answer)
        if job_id is not None and any(
            "FlinkJobNotFoundException" in text or f"Job {job_id} not found" in text for text in texts
        ):
            raise JobNotFound(self.address, job_id)
        told = next((cause for text in texts if text != "Internal server error." and (cause := root_cause(text))), "")
        raise ClusterError(self.address, response.status_code, told or "without saying why")

    async def _answer(self, method: str, path: str, request: Mapping[str, Any]) -> httpx.Response:
        again = True
        while True:
            try:
                return await self._http.request(method, path, **request)
            except httpx.TimeoutException as late:
                raise ClusterUnreachable(
                    self.address, f"{type(late).__name__} after {request['timeout']:g} s ({method} {path})"
                ) from late
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as broken:
                if not again:  # the first may have been a kept connection that the cluster has closed
                    raise ClusterUnreachable(self.address, str(broken) or type(broken).__name__) from broken
                again = False
            except (httpx.HTTPError, httpx.InvalidURL) as failed:
                raise ClusterUnreachable(self.address, str(failed) or type(failed).__name__) from failed

    def _read(self, model: type[A], answer: object) -> A:
        try:
            return model.model_validate(answer)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole answer"
            raise ClusterError(
                self.address, 200, f"this is not a {model.__name__} of Flink's: {where}: {first['msg']}"
            ) from None

    def _job_state(self, answer: Any) -> JobState:
        try:
            tasks = answer["tasks"]
            found = JobState(
                answer["jid"],
                answer["state"],
                answer["last-modification"],
                answer["end-time"],
                tasks["running"],
                tasks["total"],
            )
            if tuple(map(type, found)) == _TYPES_OF_JOB_STATE:
                return found
        except (KeyError, TypeError):
            pass
        # The model fills in what another version leaves out, or says what is wrong.
        job = self._read(JobSummary, answer)
        return JobState(job.id, job.state, job.last_modification, job.end_time, job.tasks.running, job.tasks.total)

    def _list(self, answer: object, name: str) -> list[object]:
        found = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(found, list):
            raise ClusterError(self.address, 200, f"an answer of Flink's would have a list {name!r}")
        return found

    def _metrics(self, answer: object, value: str) -> dict[str, float | None]:
        if not isinstance(answer, list) or not all(isinstance(one, dict) and "id" in one for one in answer):
            raise ClusterError(self.address, 200, "these are not metrics of Flink's")
        found: dict[str, float | None] = {}
        for one in answer:
            number = _number(one.get(value))
            found[str(one["id"])] = number if isinstance(number, float) else None
        return found

    def _savepoint_status(self, path: str, answer: object) -> SavepointStatus:
        try:
            state = answer["status"]["id"]  # type: ignore[index]
            operation = answer.get("operation") or {}  # type: ignore[attr-defined]
            if state == "IN_PROGRESS":
                return SavepointStatus(state=SavepointState.IN_PROGRESS)
            if operation.get("location"):
                return SavepointStatus(state=SavepointState.COMPLETED, location=str(operation["location"]))
            failure = operation["failure-cause"]  # Flink calls this COMPLETED, too
            trace = failure.get("stack-trace", "") if isinstance(failure, dict) else str(failure)
            return SavepointStatus(state=SavepointState.FAILED, failure=root_cause(trace) or json.dumps(failure)[:500])
        except (TypeError, KeyError, AttributeError):
            raise self._garbage(path) from None

    @staticmethod
    def _errors(answer: object) -> list[str]:
        errors = answer.get("errors") if isinstance(answer, dict) else None
        return [text for text in errors if isinstance(text, str)] if isinstance(errors, list) else []

    def _garbage(self, path: str, status: int = 200) -> ClusterError:
        return ClusterError(self.address, status, f"what came for {path} is not an answer of Flink's; is it Flink?")


class Clusters:
    """A :class:`Cluster` for each address, made when it is first asked for and kept."""

    def __init__(self, timeout_s: float = 5.0, authorization: Authorization | None = None) -> None:
        self._timeout_s = timeout_s
        self._authorization = authorization
        self._known: dict[str, Cluster] = {}

    def at(self, address: str) -> Cluster:
        """The cluster at this address. Makes no request."""
        if address not in self._known:
            self._known[address] = Cluster(address, self._timeout_s, self._authorization)
        return self._known[address]

    def trial(self, address: str, authorization: str | None) -> Cluster:
        """A cluster that is not kept, to try an address and a login; the caller closes it."""

        async def given(_address: str) -> str | None:
            return authorization

        return Cluster(address, self._timeout_s, given)

    async def close(self) -> None:
        """Close all connections."""
        for cluster in self._known.values():
            await cluster.close()
        self._known.clear()
