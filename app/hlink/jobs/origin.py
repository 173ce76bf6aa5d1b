"""What a run goes on from: an entry of the job's history, its newest state, an imported path, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from app.errors import Conflict, InvalidInput, NotFound, Problem, Unavailable
from app.hlink.jobs.models import JobVersion, StoredJob, subject_of
from app.hlink.jobs.recovery import checkpoint_folder, state_at
from app.hlink.jobs.service import Engine, RunFailed
from app.supervisor import Desired, Run, Savepoint, SavepointProgress, State, StopMode, latest_runs
from stream_jobs.planner.client import PlannerError

NONE, NEWEST, CHECKPOINT = "none", "newest", "checkpoint"
"""``restoreFrom`` beside the id of a savepoint."""

_CANDIDATES = 20
"""How far back it is looked for a state that is whole: savepoints of a run, and runs."""
_GUESSED = "chk-0"
_CLEANUP = "execution.checkpointing.externalized-checkpoint-retention"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run's first state comes from."""

    path: str | None
    """None: it starts without state."""
    savepoint_id: int | None = None
    """The entry of the job's history that is at the path."""
    others: tuple[str, ...] = ()
    """Other states, of which one may be newer."""
    exactly: bool = True
    """Otherwise a checkpoint stands for the newest one of its run."""

    def spec(self) -> Mapping[str, Any]:
        """What the run's spec says of it."""
        said: dict[str, Any] = {"restore": self.path}
        if self.path is not None and self.exactly:
            said["restore_exactly"] = True
        if self.others:
            said["restore_others"] = list(self.others)
        return said


async def chosen(engine: Engine, job_id: int, wanted: str) -> Origin | None:
    """What ``restoreFrom`` names: ``none``, ``newest``, ``checkpoint``, or the id of one of the job's savepoints.

    None: the job has no state of its own, and starts as it is defined.

    Raises:
        InvalidInput: it names nothing of that.
        NotFound, Conflict: there is no such savepoint; it is not whole, or was removed; there is no checkpoint.
        Unavailable: the planner, which reads the files, does not answer.
    """
    async with engine.database.read() as session:
        last = (await latest_runs(session, [subject_of(job_id)])).get(subject_of(job_id))
    if wanted == NONE:
        return Origin(None)
    if wanted == NEWEST:
        return await newest(engine, last)
    if wanted == CHECKPOINT:
        return await _newest_checkpoint(engine, last)
    if not (wanted.isascii() and wanted.isdigit() and len(wanted) < 19):
        remedy = f"use {NONE}, {NEWEST}, {CHECKPOINT}, or an id that /jobs/{job_id}/savepoints shows"
        raise InvalidInput(Problem(f"'{wanted}' is nothing to start from", field="restoreFrom", remedy=remedy))
    return await _entry(engine, job_id, int(wanted))


async def _entry(engine: Engine, job_id: int, savepoint_id: int) -> Origin:
    async with engine.database.read() as session:
        found = await session.get(Savepoint, savepoint_id)
    if found is None or found.subject != subject_of(job_id):
        raise NotFound(f"The job has no savepoint {savepoint_id}: /jobs/{job_id}/savepoints shows those it has")
    if found.state is not SavepointProgress.COMPLETED or found.path is None:
        why = f" ({found.removal or found.reason})" if found.removal or found.reason else ""
        raise Conflict(f"Savepoint {savepoint_id} is {found.state.lower()}{why}: choose one that is COMPLETED")
    seen = await _look(engine, found.path)
    if seen["complete"] is False:
        raise Conflict(f"Savepoint {savepoint_id} at {found.path} is not whole: {seen['reason']}. Choose another one")
    return Origin(found.path, savepoint_id)


async def _newest_checkpoint(engine: Engine, last: Run | None) -> Origin:
    found = None
    if last is not None and last.savepoint is None:  # a stop with savepoint deletes the checkpoints of its run
        found = await _checkpoint_of(engine, last)
    if found is None or found.seen["complete"] is False:
        why = f": {found.seen['reason']}" if found is not None else ""
        raise Conflict(
            f"There is no checkpoint of the job's last run{why}. A checkpoint is kept when the job has "
            "checkpoints, checkpointCleanupMode is 0, and it was not stopped with a savepoint"
        )
    return Origin(found.path)


async def left_by_a_cancel(engine: Engine, running: Run, *, checkpoint_only: bool) -> Origin:
    """What a running job, once it is stopped without a savepoint, goes on from: found before it is touched.

    Raises:
        Conflict: there would be nothing.
        Unavailable: the planner does not answer.
    """
    async with engine.database.read() as session:
        version = await session.get(JobVersion, running.spec["version"])
        made = await session.exec(_complete(running).limit(1))
        savepoint = made.first()
    paths: list[str] = []
    why = "it has made none yet"
    if version is not None and version.options.get(_CLEANUP) == "DELETE_ON_CANCELLATION":
        why = "they are deleted when it is canceled (checkpointCleanupMode)"
    elif (checkpoint := await _checkpoint_of(engine, running)) is not None:
        if checkpoint.seen["complete"] is not False:
            paths.append(checkpoint.path)
        why = str(checkpoint.seen["reason"])
    if savepoint is not None and savepoint.path is not None and not checkpoint_only:
        paths.append(savepoint.path)
    if not paths:
        raise Conflict(
            f"There would be no checkpoint to go on from: {why}. Restart it with a savepoint (without mode), or "
            "say what it starts from (restoreFrom=none, or the id of a savepoint)"
        )
    return Origin(paths[0], others=tuple(paths[1:]), exactly=False)


async def newest(engine: Engine, last: Run | None) -> Origin | None:
    """The newest state of the job that is whole, by the order in which Flink made them.

    That is a savepoint or retained checkpoint of the last run; where it left none, the state that it began with; and
    so on with the run that it went on from. A run that never ran counts as if it had not been. None for
    a run that began without state and left none, and for one that ended by itself: there is nothing to go on from.

    Raises:
        Conflict: the job was drained.
        RunFailed: there are some, and none of them is whole.
        Unavailable: the planner does not answer.
    """
    if last is None or (last.state is State.FINISHED and last.desired is Desired.RUNNING and not last.savepoint):
        return None
    faults: list[str] = []
    run: Run | None = last
    for _ in range(_CANDIDATES):
        if run is None:
            break
        if run.state is State.FINISHED and run.stop_mode is StopMode.DRAIN:
            raise Conflict(
                "The job was drained: its windows have fired, and it cannot go on as if they had not. Start it anew "
                f"(restoreFrom={NONE}), or from an older savepoint (restoreFrom=<its id>)"
            )
        left = await _left_by(engine, run, faults)
        if left is not None:
            return left
        began_with, ran = run.spec.get("restore"), run.started_at is not None
        # One that stands in for a lost run may have ended before it had a state.
        if began_with is None and ran and run.recovery is None:
            break
        if began_with is not None:
            seen = await _look(engine, began_with, exactly=bool(run.spec.get("restore_exactly")))
            if seen["complete"] is True or (ran and seen["complete"] is None):
                return Origin(str(seen.get("path", began_with)))
            faults += [f"{began_with}: {seen['reason']}"] if ran else []
        run = await _before(engine, run)
    if faults:
        raise RunFailed(
            "Not restarted: no savepoint or checkpoint of the job is whole. "
            f"{'; '.join(faults[:3])}. Start it without state (restoreFrom={NONE}), or give a savepointPath",
            run_id=last.id,
        )
    return None


@dataclass(frozen=True, slots=True)
class _Candidate:
    path: str
    seen: Mapping[str, Any]
    at: int
    savepoint_id: int | None = None

    @property
    def place(self) -> int:
        """In the order of all checkpoints and savepoints of a run."""
        return int(self.seen.get("checkpoint_id") or 0)

    def origin(self) -> Origin:
        return Origin(self.path, self.savepoint_id)


async def _before(engine: Engine, run: Run) -> Run | None:
    """The run that this one went on from; of one that never ran, the run before it: as if it had not been."""
    async with engine.database.read() as session:
        if run.started_at is not None:
            return await session.get(Run, run.predecessor_id) if run.predecessor_id is not None else None
        query = select(Run).where(Run.subject == run.subject, Run.id < run.id).order_by(col(Run.id).desc()).limit(1)
        return (await session.exec(query)).first()


async def _left_by(engine: Engine, run: Run, faults: list[str]) -> Origin | None:
    """The newest whole state that a run left; those that are not whole are added to ``faults``."""
    async with engine.database.read() as session:
        savepoints = (await session.exec(_complete(run).limit(_CANDIDATES))).all()
    found: list[_Candidate] = []
    for one in savepoints:
        path = one.path or ""
        candidate = _Candidate(path, await _look(engine, path), one.requested_at or 0, one.id)
        found.append(candidate)
        if candidate.seen["complete"] is True:
            break
    # A stop with savepoint deletes the checkpoints of its run.
    if run.savepoint is None and (checkpoint := await _checkpoint_of(engine, run)) is not None:
        found.append(checkpoint)
    whole = [one for one in found if one.seen["complete"] is True]
    if whole:
        return max(whole, key=lambda one: one.place).origin()
    faults += [f"{one.path}: {one.seen['reason']}" for one in found]
    # The cluster may see what this machine does not: then Flink finds out.
    unseen = [one for one in found if one.seen["complete"] is None]
    return max(unseen, key=lambda one: one.at).origin() if unseen else None


def _complete(run: Run) -> SelectOfScalar[Savepoint]:
    """The savepoints of a run that nothing is known against, newest first."""
    return (
        select(Savepoint)
        .where(Savepoint.run_id == run.id, Savepoint.state == SavepointProgress.COMPLETED)
        .order_by(col(Savepoint.id).desc())
    )


async def _checkpoint_of(engine: Engine, run: Run) -> _Candidate | None:
    """The newest checkpoint of a run; None without any that is known or can be found."""
    path, guessed = run.checkpoint, False
    if (
        path is None
        and run.started_at is not None
        and (folder := await checkpoint_folder(engine.database, engine.clusters, run))
    ):
        # It may have ended before its first checkpoint was noted.
        path, guessed = f"{folder}/{run.external_id}/{_GUESSED}", True
    if path is None:
        return None
    seen = await _look(engine, path)
    if guessed and seen["complete"] is not True:
        return None
    return _Candidate(str(seen.get("path", path)), seen, run.checkpoint_at or 0)


async def _look(engine: Engine, path: str, *, exactly: bool = False) -> Mapping[str, Any]:
    try:
        return await (engine.planner.inspect_savepoint(path) if exactly else state_at(engine.planner, path))
    except PlannerError as error:
        raise Unavailable(str(error)) from error


async def named_by_a_job(session: AsyncSession, savepoint: Savepoint) -> str | None:
    """Which job's ``savepointPath`` is a savepoint of ours: that keeps it from being removed."""
    path = col(StoredJob.settings)["savepoint_path"].as_string()
    query = select(StoredJob.name).where(StoredJob.del_flag == 1, path.like(f"%/{savepoint.token}/%")).limit(1)
    name = (await session.exec(query)).first()
    return None if name is None else f"it is the savepointPath of job {name!r}"
