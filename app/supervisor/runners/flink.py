"""Runs on Flink clusters: observed and stopped over REST, submitted by whoever can (the planner, for SQL).

One request to a cluster and look, however many jobs: ``/jobs/overview``. What an operator needs beside it (root
cause, newest checkpoint, restarts) is fetched for a job when something about it has changed. Otherwise the newest
checkpoint is fetched for one job every few seconds in turn, for the day when the JobManager is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
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
    JobState,
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

MOST_DETAILS = 6
"""For how many jobs of a cluster details are fetched at a time; the others come in the next looks."""
_AT_ONCE = 4
_DETAILS_S = 0.25
_STALE_S = 4.0  # Flink answers for a job's details from a cache of 3 s
_IN_TURN_S = 30.0
_TURN_S = 5.0  # between two jobs in turn: observing is to cost a cluster little more than one request a look
_FORGET_S = 600.0
_CLOCKS_DIFFER_MS = 60_000

_LIFE_S = 2.0
"""How old the knowledge may be of which life of a cluster a run is submitted to."""

_TAIL_CHARACTERS = 64 * 1024


class Submitter(Protocol):
    """Who can bring a run to Flink under its ``external_id``."""

    async def submit(self, run: Run) -> None:
        """Submit it. Raises ``SubmissionRefused``, ``AlreadySubmitted`` or ``SubmissionUncertain``."""

    async def inspect(self, path: str) -> Inspection:
        """Look into a savepoint's files. Raises ``Unreachable`` while nobody is there to do it."""

    async def savepoint_in(self, folder: str) -> str | None:
        """The whole savepoint in a folder that was made for it; None without one. Raises ``Unreachable``."""

    async def remove_savepoint(self, folder: str) -> str | None:
        """Delete the folder that was made for a savepoint; why it is still there, or cannot be seen. Raises
        ``Unreachable``."""

    async def left_state(self, run: Run, path: str | None) -> LeftState | None:
        """See :meth:`app.supervisor.runners.base.Runner.left_state`. Raises ``Unreachable`` as ``inspect`` does."""


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
        self._forgot_at = time.monotonic()
        self._next_turn: dict[str, float] = {}
        self._fetching: dict[str, asyncio.Task[tuple[tuple[str, int, int], _Details]]] = {}
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_AT_ONCE))
        self._observed: dict[str, tuple[JobState, Observation]] = {}

    def place(self, run: Run) -> str:
        """The cluster's address."""
        return self._address(run)

    async def start(self, run: Run) -> None:
        """Submit it; raises what the submitter raises."""
        await self._submitter.submit(run)

    async def incarnation(self, run: Run) -> str | None:
        """See :meth:`stream_jobs.rest.Cluster.incarnation`."""
        try:
            # Whoever starts a run has just asked; a life that has ended since counts as what it is, a restart.
            return await self._cluster(run).incarnation(_LIFE_S)
        except (ClusterUnreachable, ClusterError) as error:
            raise Unreachable(str(error)) from error

    async def observe(self, runs: Sequence[Run]) -> Mapping[int, Observation]:
        """See the module. A run that the overview lacks is asked for by its id before it is called UNKNOWN."""
        cluster = self._cluster(runs[0])
        try:
            if len(runs) == 1 and runs[0].state in (State.SUBMITTING, State.STOPPING):
                # Somebody waits, and the overview of a busy cluster is long.
                found = await self._search(cluster, runs)
                if found:
                    return found
            jobs = {job.id: job for job in await cluster.job_states()}
            known: list[tuple[Run, JobState]] = []
            missing: list[Run] = []
            seen: dict[int, Observation] = {}
            for run in runs:
                job = jobs.get(run.external_id)
                if job is None and run.state is State.LOST and len(runs) > 1:
                    seen[run.id] = Observation(Seen.UNKNOWN, "UNKNOWN")  # nothing new
                elif job is None:
                    missing.append(run)
                else:
                    known.append((run, job))
                    seen[run.id] = self._observation(job)
            if missing:
                seen |= await self._search(cluster, missing)
            await self._add_details(cluster, known, seen)
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
        self, cluster: Cluster, known: Sequence[tuple[Run, JobState]], seen: dict[int, Observation]
    ) -> None:
        now = time.monotonic()
        ended = {run.id: (run, job) for run, job in known if SEEN.get(job.state) in _ENDS}
        # A job that was just submitted has no history yet, and somebody waits for it to run.
        changed = [
            (run, job)
            for run, job in known
            if self._has_changed(run, job, now) and run.state is not State.SUBMITTING and run.id not in ended
        ]
        under_way = {job.id for _, job in known if job.id in self._fetching}
        for run, job in [*ended.values(), *changed]:
            if len(under_way) >= MOST_DETAILS:
                break
            if job.id not in under_way:
                under_way.add(job.id)
                self._fetching[job.id] = asyncio.create_task(self._fetch(cluster, run, job))
        if not under_way:
            await self._add_in_turn(cluster, known, seen, now)
        else:
            # What takes longer goes on and comes in a later look: the status of all the others does not wait for it.
            await asyncio.wait([self._fetching[job_id] for job_id in under_way], timeout=_DETAILS_S)
        # An end is recorded once and then never looked at again, so it is recorded with its details or not yet.
        ends = {run_id: seen.pop(run_id) for run_id in ended}
        for run, job in known:
            if job.id not in under_way or not self._fetching[job.id].done():
                continue
            like, details = self._fetching.pop(job.id).result()
            if run.id in ended:
                first = self._ended_at.setdefault(job.id, now)
                if like != _likeness(job) or (not details.complete and now - first < _STALE_S):
                    continue  # they were fetched before the end, or Flink's cache is older than that
                self._forget(job.id)
            else:
                self._remember(job, now, fresh=run.observed != job.state)
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
        if now - self._forgot_at > _FORGET_S / 10:
            self._forgot_at = now
            for job_id in [one for one, looked in self._looked.items() if now - looked.at > _FORGET_S]:
                self._forget(job_id)
            for job_id in [one for one, task in self._fetching.items() if task.done() and one not in self._looked]:
                del self._fetching[job_id]

    async def _fetch(self, cluster: Cluster, run: Run, job: JobState) -> tuple[tuple[str, int, int], _Details]:
        """A job's details, and what the job was like when they were asked for."""
        async with self._slots[cluster.address]:
            return _likeness(job), await self._details(cluster, run, job)

    async def _details(self, cluster: Cluster, run: Run, job: JobState) -> _Details:
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
            exception=failures[0].told if failures else None,
            checkpoint=newest.external_path if newest else None,
            checkpoint_at=newest.trigger_timestamp if newest else None,
            savepoint=savepoint,
            restarts=int(restarts) if restarts is not None else None,
            latest_savepoint=latest.external_path if latest is not None else None,
            stopped_by_savepoint=latest is not None and latest.checkpoint_type == STOPPING_SAVEPOINT,
            complete=(
                bool(failures) and failures[0].timestamp >= job.end_time
                if state is Seen.FAILED
                else state is not Seen.FINISHED or run.stop_token is None or savepoint is not None
            ),
        )

    async def _savepoint_of_stop(self, cluster: Cluster, run: Run) -> str | None:
        # Whatever is asked for by now: a cancel may have come after the stop that made it.
        if run.savepoint is not None or run.stop_token is None:
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
            # It may have ended meanwhile: observing tells how. Or the JobManager had not recovered it yet when it was
            # asked, and says so of this attempt for as long as it remembers it: then another one is needed.
            if SEEN.get(await cluster.status(run.external_id)) in _ENDS:
                return Report(Outcome.UNDER_WAY)
            return replace(report, passing=True)
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

    def _observation(self, job: JobState) -> Observation:
        """What a job's state says; the same object for the same state, so that the caller can tell at once."""
        before = self._observed.get(job.id)
        if before is not None and before[0] == job:
            return before[1]
        made = Observation(
            seen=SEEN.get(job.state, Seen.UNCLEAR),
            raw=job.state[:32],
            tasks_running=job.tasks_running,
            tasks_total=job.tasks_total,
        )
        self._observed[job.id] = job, made
        return made

    def _has_changed(self, run: Run, job: JobState, now: float) -> bool:
        looked = self._looked.get(job.id)
        if looked is None and _is_as_noted(run, job):
            # This replica has just come to hold it, perhaps with thousands of others.
            self._looked[job.id] = _Looked(_likeness(job), now, now - _STALE_S)
            return False
        if looked is None or looked.like != _likeness(job):
            return True
        # Details may have come from a cache that was older than the change: they are fetched once more.
        return looked.at < looked.changed_at + _STALE_S <= now

    async def _add_in_turn(
        self, cluster: Cluster, known: Sequence[tuple[Run, JobState]], seen: dict[int, Observation], now: float
    ) -> None:
        """The newest checkpoint of the one job whose details are oldest: nothing else changes behind a state."""
        if now < self._next_turn.get(cluster.address, 0.0):
            return
        due = [
            (looked.at, run, job)
            for run, job in known
            if (looked := self._looked.get(job.id)) is not None and now - looked.at > _IN_TURN_S
        ]
        if not due:
            return
        self._next_turn[cluster.address] = now + _TURN_S
        _, run, job = min(due, key=lambda entry: entry[0])
        with contextlib.suppress(FlinkRestError):  # the overview has answered: that stands without it
            newest = (await cluster.checkpoints(job.id)).newest_usable
            self._remember(job, now)
            if newest is not None:
                seen[run.id] = replace(
                    seen[run.id], checkpoint=newest.external_path, checkpoint_at=newest.trigger_timestamp
                )

    def _remember(self, job: JobState, now: float, *, fresh: bool = False) -> None:
        """``fresh``: the job has just come into its state, so that the details may be from before that."""
        before = self._looked.get(job.id)
        like = _likeness(job)
        if before is not None:
            changed_at = before.changed_at if before.like == like else now
        else:
            changed_at = now if fresh else now - _STALE_S
        self._looked[job.id] = _Looked(like, now, changed_at)

    def _forget(self, job_id: str) -> None:
        self._looked.pop(job_id, None)
        self._ended_at.pop(job_id, None)
        self._observed.pop(job_id, None)


def _is_as_noted(run: Run, job: JobState) -> bool:
    """Whether the job has not changed since it was noted, with room for clocks that differ."""
    return (
        run.observed == job.state
        and run.tasks_running == job.tasks_running
        and run.observed_at is not None
        and job.last_modification < run.observed_at - _CLOCKS_DIFFER_MS
    )


def _likeness(job: JobState) -> tuple[str, int, int]:
    return job.state, job.last_modification, job.tasks_running


def _format(native: bool) -> SavepointFormat:
    return SavepointFormat.NATIVE if native else SavepointFormat.CANONICAL
