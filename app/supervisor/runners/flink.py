"""Runs on Flink clusters: observed and stopped over REST, submitted by whoever can (the planner, for SQL).

One request to a cluster and look, however many jobs: ``/jobs/overview``. What an operator needs beside it (root
cause, newest checkpoint, restarts) is fetched for a job when something about it has changed, and otherwise for one
job and look in turn, so that each checkpoint's path is known for the day when the JobManager is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from app.supervisor.models import Run
from app.supervisor.runners.base import Inspection, LeftState, Observation, Outcome, Report, Room, Tail, Unreachable
from app.supervisor.transitions import Seen, State, StopMode
from stream_jobs.rest import (
    Cluster,
    ClusterError,
    Clusters,
    ClusterUnreachable,
    FlinkRestError,
    JobNotFound,
    JobSummary,
    SavepointFormat,
    SavepointState,
)

SEEN: Mapping[str, Seen] = {
    "INITIALIZING": Seen.STARTING,
    "CREATED": Seen.STARTING,
    "RECONCILING": Seen.STARTING,
    "RUNNING": Seen.RUNNING,
    "FAILING": Seen.RESTARTING,
    "RESTARTING": Seen.RESTARTING,
    "SUSPENDED": Seen.RESTARTING,  # a JobManager that lost its leadership; another one goes on with the job
    "CANCELLING": Seen.STOPPING,
    "CANCELED": Seen.CANCELED,
    "FINISHED": Seen.FINISHED,
    "FAILED": Seen.FAILED,
}
"""Flink's job states (``org.apache.flink.api.common.JobStatus``) in the supervisor's words."""

_ENDS = frozenset({Seen.CANCELED, Seen.FINISHED, Seen.FAILED})

SAVEPOINT_DIR_OPTIONS = ("execution.checkpointing.savepoint-dir", "state.savepoints.dir")

STOPPING_SAVEPOINT = "SYNC_SAVEPOINT"
"""Flink's type of a savepoint that stops its job."""

_NOT_YET = "Not all required tasks are currently running"
_NOTHING_THERE = "Cannot find checkpoint or savepoint"
_DISPOSAL_LOOKS_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 0.0)

MOST_DETAILS = 16
"""For how many jobs of one look details are fetched; the others come in the next look."""
_AT_ONCE = 6
_DETAILS_S = 3.0
_STALE_S = 4.0  # Flink answers for a job's details from a cache of 3 s
_IN_TURN_S = 30.0
_FORGET_S = 600.0

_TAIL_CHARACTERS = 64 * 1024


class Submitter(Protocol):
    """Who can bring a run to Flink under its ``external_id``."""

    async def submit(self, run: Run) -> None:
        """Submit it. Raises ``SubmissionRefused``, ``AlreadySubmitted`` or ``SubmissionUncertain``."""

    async def inspect(self, path: str) -> Inspection:
        """Look into a savepoint's files. Raises ``Unreachable`` while nobody is there to do it."""

    async def left_state(self, run: Run, path: str | None) -> LeftState | None:
        """See :meth:`app.supervisor.runners.base.Runner.left_state`. Raises ``Unreachable`` as ``inspect`` does."""

    async def savepoint_in(self, folder: str) -> str | None:
        """The whole savepoint in a folder that was made for it; None without one. Raises ``Unreachable``."""

    async def remove_savepoint(self, folder: str) -> str | None:
        """Delete the folder that was made for a savepoint; why it is still there, or cannot be seen. Raises
        ``Unreachable``."""


def address_in_spec(run: Run) -> str:
    """The cluster's REST address, from the run's ``spec["flink_url"]``."""
    return str(run.spec["flink_url"])


@dataclass(frozen=True, slots=True)
class _Details:
    exception: str | None = None
    checkpoint: str | None = None
    checkpoint_at: int | None = None
    savepoint: str | None = None
    restarts: int | None = None
    latest_savepoint: str | None = None
    stopped_by_savepoint: bool = False
    complete: bool = True
    """Whether they are as new as the job's end, for a job that ended."""


@dataclass(frozen=True, slots=True)
class _Looked:
    """What a job looked like when its details were fetched last, and when (monotonic seconds)."""

    like: tuple[str, int, int]
    at: float
    changed_at: float


class FlinkRunner:
    """Looks after runs on Flink clusters.

    :param submitter: brings runs to Flink.
    :param clusters: connections; closed by whoever made them.
    :param address: a run's cluster; by default ``spec["flink_url"]``. Pass one where addresses change.

    Read from a run's spec: ``flink_url`` (with the default ``address``) and ``savepoint_dir`` (optional: where
    stops put their savepoints; each in a folder of its own, named by the attempt; without it the cluster's own).
    """

    def __init__(
        self, submitter: Submitter, clusters: Clusters, address: Callable[[Run], str] = address_in_spec
    ) -> None:
        self._submitter = submitter
        self._clusters = clusters
        self._address = address
        self._looked: dict[str, _Looked] = {}
        self._ended_at: dict[str, float] = {}

    def place(self, run: Run) -> str:
        """The cluster's address."""
        return self._address(run)

    async def start(self, run: Run) -> None:
        """Submit it; raises what the submitter raises."""
        await self._submitter.submit(run)

    async def incarnation(self, run: Run) -> str | None:
        """See :meth:`stream_jobs.rest.Cluster.incarnation`."""
        try:
            return await self._cluster(run).incarnation()
        except (ClusterUnreachable, ClusterError) as error:
            raise Unreachable(str(error)) from error

    async def observe(self, runs: Sequence[Run]) -> Mapping[int, Observation]:
        """See the module. A run that the overview lacks is asked for by its id before it is called UNKNOWN."""
        cluster = self._cluster(runs[0])
        try:
            if len(runs) == 1 and runs[0].state is State.SUBMITTING:
                # Somebody waits, and the overview of a busy cluster is long.
                found = await self._search(cluster, runs)
                if found:
                    return found
            jobs = {job.id: job for job in await cluster.jobs()}
            seen = {run.id: _observation(jobs[run.external_id]) for run in runs if run.external_id in jobs}
            missing = [run for run in runs if run.external_id not in jobs]
            if missing:
                seen |= await self._search(cluster, missing)
            await self._add_details(cluster, runs, jobs, seen)
        except (ClusterUnreachable, ClusterError) as error:  # an answer that is not Flink's says nothing of jobs
            raise Unreachable(str(error)) from error
        return seen

    async def stop(self, run: Run, mode: StopMode) -> Report:
        """Cancel, or stop with a savepoint under the run's ``stop_token``. See :class:`Report`."""
        cluster = self._cluster(run)
        try:
            if mode is StopMode.CANCEL:
                if SEEN.get(run.observed or "") is not Seen.STOPPING:
                    await cluster.cancel(run.external_id)
                return Report(Outcome.UNDER_WAY)
            return await self._stop_with_savepoint(cluster, run, mode)
        except JobNotFound:
            return Report(Outcome.UNDER_WAY)  # it ended meanwhile: observing tells how
        except ClusterUnreachable as error:
            raise Unreachable(str(error)) from error
        except ClusterError as error:
            return Report(Outcome.FAILED, cause=error.message)

    async def savepoint(self, run: Run, token: str, *, native: bool) -> Report:
        """Make a savepoint under that token. See :class:`Report`."""
        form = _format(native)
        cluster = self._cluster(run)

        async def ask(target: str) -> None:
            await cluster.savepoint(run.external_id, token, target, savepoint_format=form)

        try:
            return await self._under_token(cluster, run, token, ask)
        except JobNotFound:
            return Report(Outcome.FAILED, cause="the cluster does not know the run any more")
        except ClusterUnreachable as error:
            raise Unreachable(str(error)) from error
        except ClusterError as error:
            return Report(Outcome.FAILED, cause=error.message)

    async def inspect(self, run: Run, path: str) -> Inspection:
        """Whatever the submitter finds in the files, and the version of the cluster that made them."""
        found = await self._submitter.inspect(path)
        try:
            overview = await self._cluster(run).overview()
        except (FlinkRestError, Unreachable):
            return found
        return replace(found, made_with=overview.flink_version[:32])

    async def find_savepoint(self, run: Run, token: str) -> str | None:
        """Looks into the attempt's own folder."""
        try:
            folder = await self._folder(self._cluster(run), run)
        except FlinkRestError as error:
            raise Unreachable(str(error)) from error
        return None if folder is None else await self._submitter.savepoint_in(f"{folder}/{token}")

    async def dispose(self, run: Run, path: str, token: str) -> Report:
        """By the cluster, which sees the folder for certain; what is left, or all without the cluster, from here."""
        folder, own, _ = path.partition(f"/{token}/")
        if not own:
            return Report(Outcome.FAILED, cause=f"{path} is not in a folder of its own: delete it by hand")
        complaint = await self._dispose_by_cluster(run, path)
        left = await self._submitter.remove_savepoint(f"{folder}/{token}")
        if left is None or complaint is None:
            return Report(Outcome.DONE)
        return Report(Outcome.FAILED, cause=f"{complaint}; {left}")

    async def room(self, run: Run) -> Room:
        """The cluster's slots; who holds them is asked for when too few of them are free for the run."""
        cluster = self._cluster(run)
        asked_at = time.monotonic()
        try:
            overview = await cluster.overview()
            room = Room(overview.slots_available, overview.slots_total, asked_at)
            if room.free >= (run.slots or 0):
                return room
            holders = {job.id: job.name for job in await cluster.jobs() if job.tasks.running}
        except (ClusterUnreachable, ClusterError) as error:
            raise Unreachable(str(error)) from error
        return replace(room, holders=holders)

    async def left_state(self, run: Run, path: str | None) -> LeftState | None:
        """Whatever the submitter finds."""
        return await self._submitter.left_state(run, path)

    async def tail(self, run: Run, offset: int) -> Tail:
        """The job's failures with their stack traces, oldest first: what Flink keeps of a job's own log.

        Offsets count characters. Of a job that the cluster has forgotten, the last root cause is left.
        """
        try:
            failures = await self._cluster(run).exceptions(run.external_id)
        except JobNotFound:
            text = f"{run.exception}\n" if run.exception else ""
        except FlinkRestError as error:
            raise Unreachable(str(error)) from error
        else:
            text = "\n".join(
                f"{datetime.fromtimestamp(one.timestamp / 1000, UTC).isoformat(timespec='milliseconds')} "
                f"{one.task_name or 'job'} {one.task_manager or ''}\n{one.stacktrace}"
                for one in reversed(failures)
            )
        piece = text[offset : offset + _TAIL_CHARACTERS]
        return Tail(piece, offset + len(piece))

    # Parts

    async def _dispose_by_cluster(self, run: Run, path: str) -> str | None:
        """Why the cluster did not delete it; None when it did, or when nothing was there."""
        try:
            cluster = self._cluster(run)
            request = await cluster.dispose_savepoint(path)
            for pause in _DISPOSAL_LOOKS_S:
                status = await cluster.disposal_status(request)
                if status.state is not SavepointState.IN_PROGRESS:
                    break
                await asyncio.sleep(pause)
        except (FlinkRestError, Unreachable) as error:
            return str(error)
        if status.state is SavepointState.IN_PROGRESS:
            return "the cluster is still deleting it"
        failure = status.failure or ""
        return None if not failure or _NOTHING_THERE in failure else failure

    def _cluster(self, run: Run) -> Cluster:
        try:
            return self._clusters.at(self._address(run))
        except ClusterUnreachable as error:
            raise Unreachable(str(error)) from error

    async def _search(self, cluster: Cluster, missing: Sequence[Run]) -> dict[int, Observation]:
        """A second source, before it is said of a job that a cluster does not know it."""
        incarnation: str | None = None
        found: dict[int, Observation] = {}
        for run in missing:
            try:
                raw = await cluster.status(run.external_id)
            except JobNotFound:
                incarnation = incarnation or await cluster.incarnation()
                found[run.id] = Observation(Seen.UNKNOWN, "UNKNOWN", incarnation=incarnation)
                self._forget(run.external_id)
            else:
                if SEEN.get(raw) not in _ENDS:  # how it ended is recorded with its details: next time
                    found[run.id] = Observation(SEEN.get(raw, Seen.UNCLEAR), raw)
        return found

    async def _add_details(
        self, cluster: Cluster, runs: Sequence[Run], jobs: Mapping[str, JobSummary], seen: dict[int, Observation]
    ) -> None:
        now = time.monotonic()
        known = [run for run in runs if run.external_id in jobs]
        ended = {run.id: run for run in known if seen[run.id].seen in _ENDS}
        # A job that was just submitted has no history yet, and somebody waits for it to run.
        settled = [run for run in known if run.id not in ended and run.state is not State.SUBMITTING]
        changed = [run for run in settled if self._has_changed(jobs[run.external_id], now)]
        wanted = [*ended.values(), *changed][:MOST_DETAILS] or self._in_turn(settled, now)
        slots = asyncio.Semaphore(_AT_ONCE)
        # An end is recorded once and then never looked at again, so it is recorded with its details or not yet.
        ends = {run_id: seen.pop(run_id) for run_id in ended}

        async def add(run: Run) -> None:
            job = jobs[run.external_id]
            async with slots:
                details = await self._details(cluster, run, job)
            if run.id in ended:
                first = self._ended_at.setdefault(run.external_id, now)
                if not details.complete and now - first < _STALE_S:
                    return  # Flink's cache is older than the job's end
                self._forget(run.external_id)
            else:
                self._remember(job, now)
            seen[run.id] = replace(
                ends.get(run.id) or seen[run.id],
                exception=details.exception,
                checkpoint=details.checkpoint,
                checkpoint_at=details.checkpoint_at,
                savepoint=details.savepoint,
                restarts=details.restarts,
                latest_savepoint=details.latest_savepoint,
                stopped_by_savepoint=details.stopped_by_savepoint,
            )

        if wanted:
            # What takes longer is given up and comes in the next look.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DETAILS_S):
                    await asyncio.gather(*map(add, wanted))
        for job_id in [one for one, looked in self._looked.items() if now - looked.at > _FORGET_S]:
            self._forget(job_id)

    async def _details(self, cluster: Cluster, run: Run, job: JobSummary) -> _Details:
        state = SEEN.get(job.state)
        try:
            failures, checkpoints, metrics = await asyncio.gather(
                cluster.exceptions(job.id, most=1),
                cluster.checkpoints(job.id),
                cluster.job_metrics(job.id, ["numRestarts"]),
            )
            savepoint = await self._savepoint_of_stop(cluster, run) if state is Seen.FINISHED else None
        except FlinkRestError:  # the overview has answered: that stands without them
            return _Details(complete=False)
        latest, newest = checkpoints.latest.savepoint, checkpoints.newest_usable
        if (
            savepoint is None
            and latest is not None
            and run.stop_token
            and run.stop_token in (latest.external_path or "")
        ):
            savepoint = latest.external_path
        restarts = metrics.get("numRestarts")
        return _Details(
            exception=failures[0].root_cause if failures else None,
            checkpoint=newest.external_path if newest else None,
            checkpoint_at=newest.trigger_timestamp if newest else None,
            savepoint=savepoint,
            restarts=int(restarts) if restarts is not None else None,
            latest_savepoint=latest.external_path if latest is not None else None,
            stopped_by_savepoint=latest is not None and latest.checkpoint_type == STOPPING_SAVEPOINT,
            complete=(
                bool(failures) and failures[0].timestamp >= job.end_time
                if state is Seen.FAILED
                else state is not Seen.FINISHED or not _stops_with_savepoint(run) or savepoint is not None
            ),
        )

    async def _savepoint_of_stop(self, cluster: Cluster, run: Run) -> str | None:
        if run.savepoint is not None or run.stop_token is None or not _stops_with_savepoint(run):
            return run.savepoint
        status = await cluster.savepoint_status(run.external_id, run.stop_token)
        if status is not None:
            return status.location
        with contextlib.suppress(Unreachable):
            return await self.find_savepoint(run, run.stop_token)
        return None

    async def _stop_with_savepoint(self, cluster: Cluster, run: Run, mode: StopMode) -> Report:
        assert run.stop_token is not None, "the supervisor commits a token before it asks for a stop"

        async def ask(target: str) -> None:
            await cluster.stop_with_savepoint(
                run.external_id,
                token,
                target,
                drain=mode is StopMode.DRAIN,
                savepoint_format=_format(run.stop_native),
            )

        token = run.stop_token
        report = await self._under_token(cluster, run, token, ask)
        if report.outcome is Outcome.FAILED and "FlinkJobNotFoundException" in (report.cause or ""):
            return Report(Outcome.UNDER_WAY)  # it ended meanwhile: observing tells how
        return report

    async def _under_token(
        self, cluster: Cluster, run: Run, token: str, ask: Callable[[str], Awaitable[None]]
    ) -> Report:
        """How far the operation of that token has come; asked for, with its folder, when the cluster has none."""
        status = await cluster.savepoint_status(run.external_id, token)
        if status is None:
            folder = await self._folder(cluster, run)
            if not folder:
                return Report(
                    Outcome.FAILED,
                    cause=f"there is no folder for savepoints: set {SAVEPOINT_DIR_OPTIONS[0]} on the cluster, "
                    "or a folder for the job (stateSavepointsDir)",
                )
            await ask(f"{folder}/{token}")
            return Report(Outcome.UNDER_WAY)
        match status.state:
            case SavepointState.IN_PROGRESS:
                return Report(Outcome.UNDER_WAY)
            case SavepointState.COMPLETED:
                return Report(Outcome.DONE, savepoint=status.location)
            case SavepointState.FAILED:
                cause = status.failure or "the cluster gives no cause"
                return Report(Outcome.FAILED, cause=cause, passing=_NOT_YET in cause)

    async def _folder(self, cluster: Cluster, run: Run) -> str | None:
        """Where the run's savepoints go; None when neither the run nor the cluster says."""
        if own := run.spec.get("savepoint_dir"):
            return str(own).rstrip("/")
        configuration = await cluster.configuration()
        found = next((configuration[option] for option in SAVEPOINT_DIR_OPTIONS if configuration.get(option)), None)
        return found.rstrip("/") if found else None

    def _has_changed(self, job: JobSummary, now: float) -> bool:
        looked = self._looked.get(job.id)
        if looked is None or looked.like != _likeness(job):
            return True
        # Details may have come from a cache that was older than the change: they are fetched once more.
        return looked.at < looked.changed_at + _STALE_S <= now

    def _in_turn(self, known: Sequence[Run], now: float) -> list[Run]:
        due = [
            (looked.at, run)
            for run in known
            if (looked := self._looked.get(run.external_id)) is not None and now - looked.at > _IN_TURN_S
        ]
        return [min(due, key=lambda entry: entry[0])[1]] if due else []

    def _remember(self, job: JobSummary, now: float) -> None:
        before = self._looked.get(job.id)
        like = _likeness(job)
        changed_at = before.changed_at if before is not None and before.like == like else now
        self._looked[job.id] = _Looked(like, now, changed_at)

    def _forget(self, job_id: str) -> None:
        self._looked.pop(job_id, None)
        self._ended_at.pop(job_id, None)


def _observation(job: JobSummary) -> Observation:
    return Observation(
        seen=SEEN.get(job.state, Seen.UNCLEAR),
        raw=job.state[:32],
        tasks_running=job.tasks.running,
        tasks_total=job.tasks.total,
    )


def _likeness(job: JobSummary) -> tuple[str, int, int]:
    return job.state, job.last_modification, job.tasks.running


def _format(native: bool) -> SavepointFormat:
    return SavepointFormat.NATIVE if native else SavepointFormat.CANONICAL


def _stops_with_savepoint(run: Run) -> bool:
    return run.stop_mode in (StopMode.SAVEPOINT, StopMode.DRAIN)
