"""A job's state over its runs: savepoints, and restarts that go on from one."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import Conflict, Unavailable
from app.hlink.jobs.judgement import goes_on_from
from app.hlink.jobs.models import JobVersion, subject_of
from app.hlink.jobs.service import ANSWER_WITHIN_S, Engine, RunFailed, find, ready, settle_version, settled, start
from app.hlink.jobs.submission import state_at
from app.supervisor import (
    Desired,
    Run,
    Savepoint,
    SavepointProgress,
    State,
    history,
    latest_runs,
    request_restart,
    request_savepoint,
    savepoints,
)
from stream_jobs.planner.client import PlannerError
from stream_jobs.rest import FlinkRestError

_CANDIDATES = 20
"""How far back a restart looks for a state that is whole."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """How a restart came out, or how far it has come."""

    before: Run | None
    after: Run | None
    """None while the old run is still being stopped."""

    @property
    def downtime_ms(self) -> int | None:
        """From the end of the old run until the new one was seen running."""
        if self.before is None or self.after is None or self.before.ended_at is None or self.after.started_at is None:
            return None
        return max(0, self.after.started_at - self.before.ended_at)


async def make_savepoint(engine: Engine, job_id: int, *, native: bool) -> Savepoint:
    """Has a savepoint made of the running job, which goes on; waits a while until it is complete and looked into.

    Raises:
        NotFound, Conflict: no such job; it does not run.
        RunFailed: the savepoint failed; the message gives the cause.
    """
    async with engine.database.write() as session:
        found = await find(session, job_id)
        if found.run is None or found.run.state.ended:
            raise Conflict(f"Job {found.job.name!r} is not running: there is no state to save")
        asked = await request_savepoint(session, subject_of(job_id), native=native)
        run = found.run
    engine.supervisor.kick_savepoint(asked, run)
    made = await engine.supervisor.wait_for_savepoint(asked, ANSWER_WITHIN_S)
    if made.state is SavepointProgress.FAILED:
        raise RunFailed(f"The savepoint failed, the job goes on: {made.reason}", run_id=run.id)
    return made


async def savepoints_of(session: AsyncSession, job_id: int, limit: int, offset: int) -> Sequence[Savepoint]:
    """The job's savepoints, newest first. Raises :class:`~app.errors.NotFound`."""
    await find(session, job_id)
    return await savepoints(session, subject_of(job_id), limit, offset)


async def restart(engine: Engine, job_id: int) -> Restarted:
    """Stops the job with a savepoint and starts it from that, with its definitions as they are now.

    A job that does not run is started from the newest state that is whole: a savepoint, or a checkpoint that was
    retained. Everything that can be known beforehand is checked before the old run is touched; when the old run
    cannot be stopped with a savepoint it goes on. Waits a while for the outcome; it goes on all the same.

    Raises:
        NotFound, InvalidInput, Unavailable: as :func:`~app.hlink.jobs.service.ready`; nothing was touched.
        Conflict: it is being started, stopped or restarted.
        RunFailed: which step failed, and what is so now.
    """
    subject = subject_of(job_id)
    async with engine.database.read() as session:
        found = await find(session, job_id)
    before = found.run
    if before is None or before.state.ended:
        prepared = await ready(engine, job_id)
        return Restarted(None, await start(engine, prepared, await _newest_whole_state(engine, before)))
    if before.state in (State.CREATED, State.SUBMITTING) or before.desired is Desired.STOPPED:
        doing = "being started" if before.desired is Desired.RUNNING else "being stopped or restarted"
        raise Conflict(f"Job {found.job.name!r} is {doing}: wait until that has ended", run_id=before.id)
    prepared = await goes_on_from(engine, await ready(engine, job_id, replaces=before), running=before)
    async with engine.database.write() as session:
        await settle_version(session, prepared)
        asked = await request_restart(session, subject, prepared.spec)
    if asked is None:
        raise Conflict(f"Job {found.job.name!r} has ended meanwhile: restart it again", run_id=before.id)
    engine.supervisor.kick(asked)
    ended = await engine.supervisor.wait(
        asked.id, lambda run: run.state.ended or run.desired is Desired.RUNNING, ANSWER_WITHIN_S
    )
    if not ended.state.ended:
        if ended.desired is Desired.RUNNING:
            raise RunFailed(ended.reason or "Not restarted, it goes on as before", run_id=ended.id)
        return Restarted(ended, None)
    async with engine.database.read() as session:
        newest = (await latest_runs(session, [subject]))[subject]
    if newest.id == ended.id:
        raise RunFailed(ended.reason or "Not restarted", run_id=ended.id)
    return Restarted(ended, settled(await engine.supervisor.wait(newest.id, timeout_s=ANSWER_WITHIN_S)))


async def _newest_whole_state(engine: Engine, last: Run | None) -> str | None:
    """The newest savepoint or retained checkpoint of the job whose files are all there; None without any.

    A job that ended by itself has nothing to go on from. Raises :class:`RunFailed` when there are some and none of
    them is whole.
    """
    if last is None or (last.state is State.FINISHED and last.desired is Desired.RUNNING):
        return None
    async with engine.database.read() as session:
        made = await savepoints(session, last.subject, _CANDIDATES)
        runs = await history(session, last.subject, _CANDIDATES)
    known = [(one.ended_at or 0, one.path or "") for one in made if one.state is SavepointProgress.COMPLETED]
    # A stop with savepoint deletes the checkpoints of its run.
    known += [(run.checkpoint_at or 0, run.checkpoint) for run in runs if run.checkpoint and not run.savepoint]
    if not last.checkpoint and not last.savepoint and (folder := await _checkpoint_folder(engine, last)):
        # It may have ended before its first checkpoint was noted.
        known.append((last.ended_at or 0, f"{folder}/{last.external_id}/chk-0"))
    faults: list[str] = []
    for _, path in sorted(known, reverse=True):
        try:
            found = await state_at(engine.planner, path)
        except PlannerError as error:
            raise Unavailable(str(error)) from error
        if found["complete"] is True:
            return str(found.get("path", path))
        if not path.endswith("/chk-0"):
            faults.append(f"{path}: {found['reason']}")
    if faults:
        raise RunFailed(
            "Not restarted: no savepoint or checkpoint of the job is whole. "
            f"{'; '.join(faults[:3])}. Run it without state, or give a savepointPath",
            run_id=last.id,
        )
    return None


async def _checkpoint_folder(engine: Engine, run: Run) -> str | None:
    """Where the run's checkpoints are, each run's in a folder of its id; None when that cannot be told."""
    async with engine.database.read() as session:
        version = await session.get(JobVersion, run.spec["version"])
    settings = [version.options] if version is not None else []
    with contextlib.suppress(FlinkRestError):
        settings.append(await engine.clusters.at(run.spec["flink_url"]).configuration())
    for options in settings:
        for name in ("execution.checkpointing.dir", "state.checkpoints.dir"):
            if folder := options.get(name):
                return folder.rstrip("/")
    return None
