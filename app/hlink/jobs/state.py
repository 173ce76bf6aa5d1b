"""A job's state over its runs: savepoints with their schedule and limits, and restarts that go on from one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import Conflict, InvalidInput, Problem
from app.hlink.jobs import origin
from app.hlink.jobs.judgement import goes_on_from
from app.hlink.jobs.models import SUBJECT, JobVersion, StoredJob, subject_of
from app.hlink.jobs.origin import Origin
from app.hlink.jobs.service import (
    ANSWER_WITHIN_S,
    Engine,
    Ready,
    RunFailed,
    find,
    is_decided,
    kept,
    ready,
    settle_version,
    settled,
    start,
    unless_it_goes_on,
)
from app.identity import caller
from app.supervisor import (
    Desired,
    Retained,
    Run,
    Savepoint,
    SavepointProgress,
    SavepointSchedule,
    State,
    StopMode,
    latest_runs,
    request_restart,
    request_savepoint,
    savepoints,
)
from app.supervisor.retention import hold_savepoint, set_retention
from app.supervisor.schedules import remove_schedule, schedules, set_schedule


@dataclass(frozen=True, slots=True)
class Entry:
    """A savepoint in the history of a job, and the number of the job's version that made it."""

    savepoint: Savepoint
    version: int | None


@dataclass(frozen=True, slots=True)
class Restarted:
    """How a restart came out, or how far it has come."""

    before: Run | None
    after: Run | None
    """None while the old run is still being stopped."""

    @property
    def downtime_ms(self) -> int | None:
        """From the end of the old run until the new one was seen running."""
        return None if self.after is None else self.after.down_ms


# Savepoints


async def make_savepoint(engine: Engine, job_id: int, *, native: bool) -> Entry:
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
    async with engine.database.read() as session:
        return (await _entries(session, [made]))[0]


async def history_of(session: AsyncSession, job_id: int, limit: int, offset: int) -> tuple[Sequence[Entry], int]:
    """The job's savepoints, newest first, whatever became of them, and how many there are.

    Raises :class:`~app.errors.NotFound`.
    """
    await kept(session, job_id)
    counted = select(func.count()).select_from(Savepoint).where(Savepoint.subject == subject_of(job_id))
    total = (await session.exec(counted)).one()
    return await _entries(session, await savepoints(session, subject_of(job_id), limit, offset)), total


async def _entries(session: AsyncSession, made: Sequence[Savepoint]) -> list[Entry]:
    runs = await session.exec(select(Run.id, Run.spec).where(col(Run.id).in_({one.run_id for one in made})))
    versions = {run_id: spec.get("version") for run_id, spec in runs}
    known = await session.exec(
        select(JobVersion.id, JobVersion.number).where(col(JobVersion.id).in_(set(versions.values())))
    )
    numbers: dict[int | None, int] = dict(known.all())
    return [Entry(one, numbers.get(versions.get(one.run_id))) for one in made]


async def remove_savepoint(engine: Engine, job_id: int, savepoint_id: int) -> Entry:
    """Has the files of a savepoint deleted, which the supervisor does from now on until it is done.

    Raises:
        NotFound, Conflict: no such job or savepoint; it is kept, and by what.
    """
    async with engine.database.write() as session:
        await kept(session, job_id)
        why = f"asked for by {caller.get() or 'somebody'}"
        found = await engine.supervisor.retention.remove(session, subject_of(job_id), savepoint_id, why)
    async with engine.database.read() as session:
        return (await _entries(session, [found]))[0]


async def newest_savepoint(engine: Engine, job_id: int) -> Savepoint | None:
    """The job's newest savepoint that is complete."""
    async with engine.database.read() as session:
        newest = await session.exec(
            select(Savepoint)
            .where(Savepoint.subject == subject_of(job_id), Savepoint.state == SavepointProgress.COMPLETED)
            .order_by(col(Savepoint.id).desc())
            .limit(1)
        )
        return newest.first()


def left_unused(job_id: int, started: Run, savepoint: Savepoint | None) -> str:
    """Tells whoever started a run without state of the job's savepoint; empty when there is nothing to tell."""
    if started.spec.get("restore") is not None or savepoint is None:
        return ""
    return (
        f"Started without state. The job's newest savepoint is {savepoint.path}: "
        f"/jobs/restart/{job_id}?restoreFrom={savepoint.id} starts it from that."
    )


# Schedules and limits


async def schedule(session: AsyncSession, job_id: int, cron: str, time_zone: str, *, native: bool) -> SavepointSchedule:
    """Has savepoints of the job made at these times, in place of those set before.

    Raises:
        NotFound, InvalidInput: no such job; the expression or the time zone cannot be read.
    """
    await kept(session, job_id)
    return await set_schedule(session, subject_of(job_id), cron, time_zone, native=native)


async def schedule_of(session: AsyncSession, job_id: int) -> SavepointSchedule | None:
    """When savepoints of the job are made; None: by hand only. Raises :class:`~app.errors.NotFound`."""
    await kept(session, job_id)
    return next(iter(await schedules(session, [subject_of(job_id)])), None)


async def unschedule(session: AsyncSession, job_id: int) -> bool:
    """Has no more savepoints of the job made by the clock; whether any were. Raises :class:`~app.errors.NotFound`."""
    await kept(session, job_id)
    return await remove_schedule(session, subject_of(job_id))


async def all_schedules(session: AsyncSession) -> list[tuple[StoredJob, SavepointSchedule]]:
    """Every job whose savepoints are made by the clock, the one whose turn comes first first."""
    found = {int(one.subject.removeprefix(SUBJECT)): one for one in await schedules(session)}
    jobs = await session.exec(select(StoredJob).where(col(StoredJob.id).in_(found)))
    named = {job.id: job for job in jobs}
    return [(named[job_id], one) for job_id, one in found.items() if job_id in named]


async def limits_of(engine: Engine, job_id: int) -> Retained:
    """How many of the job's savepoints are kept, and how long. Raises :class:`~app.errors.NotFound`."""
    async with engine.database.read() as session:
        await kept(session, job_id)
        return await engine.supervisor.retention.limits_of(session, subject_of(job_id))


async def limit(engine: Engine, job_id: int, limits: Retained | None) -> Retained:
    """Sets the job's own limits; None: those of the service. Raises :class:`~app.errors.NotFound`."""
    async with engine.database.write() as session:
        await kept(session, job_id)
        await set_retention(session, subject_of(job_id), limits)
    return await limits_of(engine, job_id)


# Starts and restarts


async def run_from(engine: Engine, job_id: int, restore_from: str) -> Run:
    """Starts the job from what ``restore_from`` names: see :func:`~app.hlink.jobs.origin.chosen`.

    Raises what that raises, and :func:`~app.hlink.jobs.service.ready` and ``start``.
    """
    prepared = await ready(engine, job_id)
    where = await origin.chosen(engine, job_id, restore_from)
    return await _start(engine, prepared, where, None)


async def _start(engine: Engine, prepared: Ready, where: Origin | None, before: Run | None) -> Run:
    """Starts a job from there, as the run that follows ``before``."""
    predecessor_id = before.id if before is not None else None
    if where is None:
        return await start(engine, prepared, predecessor_id=predecessor_id)
    return await start(engine, prepared, where.spec(), where.savepoint_id, predecessor_id)


async def restart(
    engine: Engine,
    job_id: int,
    mode: StopMode = StopMode.SAVEPOINT,
    *,
    native: bool = False,
    restore_from: str | None = None,
) -> Restarted:
    """Stops the job with a savepoint and starts it from that, with its definitions as they are now.

    A job that does not run is started from its newest state that is whole: a savepoint, or a checkpoint that was
    retained. ``restore_from`` chooses another one. With CANCEL it is stopped at once and goes on from its newest
    checkpoint. Everything that can be known beforehand is checked before the old run is touched; when the old run
    cannot be stopped with a savepoint it goes on. Waits a while for the outcome; it goes on all the same.

    Raises:
        NotFound, InvalidInput, Unavailable: as :func:`~app.hlink.jobs.service.ready`; nothing was touched.
        Conflict: it is being started, stopped or restarted; there is nothing that it could go on from.
        RunFailed: which step failed, and what is so now.
    """
    subject = subject_of(job_id)
    async with engine.database.read() as session:
        found = await find(session, job_id)
    before = found.run
    if before is None or before.state.ended:
        prepared = await ready(engine, job_id)
        where = await origin.chosen(engine, job_id, restore_from or origin.NEWEST)
        return Restarted(None, await _start(engine, prepared, where, before))
    if before.state in (State.CREATED, State.SUBMITTING) or before.desired is Desired.STOPPED:
        doing = "being started" if before.desired is Desired.RUNNING else "being stopped or restarted"
        raise Conflict(f"Job {found.job.name!r} is {doing}: wait until that has ended", run_id=before.id)
    where_else = await _other_origin(engine, job_id, before, mode, restore_from)
    prepared = await ready(engine, job_id, replaces=before)
    if where_else is None:
        prepared = await goes_on_from(engine, prepared, running=before)
        spec = prepared.spec
    else:
        prepared = await goes_on_from(engine, prepared, where_else.path)
        spec = {**where_else.spec(), **prepared.spec}
    async with engine.database.write() as session:
        await settle_version(session, prepared)
        if where_else is not None and where_else.savepoint_id is not None:
            await hold_savepoint(session, subject, where_else.savepoint_id)
        asked = await request_restart(session, subject, spec, mode, native=native)
    if asked is None:
        raise Conflict(f"Job {found.job.name!r} has ended meanwhile: restart it again", run_id=before.id)
    engine.supervisor.kick(asked)
    ended = unless_it_goes_on(await engine.supervisor.wait(asked.id, is_decided, ANSWER_WITHIN_S))
    if not ended.state.ended:
        return Restarted(ended, None)
    async with engine.database.read() as session:
        newest = (await latest_runs(session, [subject]))[subject]
    if newest.id == ended.id:
        raise RunFailed(ended.reason or "Not restarted", run_id=ended.id)
    return Restarted(ended, settled(await engine.supervisor.wait(newest.id, timeout_s=ANSWER_WITHIN_S)))


async def _other_origin(
    engine: Engine, job_id: int, running: Run, mode: StopMode, restore_from: str | None
) -> Origin | None:
    """What a restart of a running job goes on from where it is not what the stop leaves.

    Raises:
        InvalidInput: the two choices contradict each other.
        Conflict: a stop without savepoint would leave nothing. And what :func:`~app.hlink.jobs.origin.chosen` raises.
    """
    wanted = None if restore_from == origin.NEWEST else restore_from
    if mode is StopMode.DRAIN and wanted is None:
        raise InvalidInput(
            Problem(
                "a drained job cannot go on as if its windows had not fired",
                field="mode",
                remedy="cancel it with mode=drain, or say what the new run starts from (restoreFrom=none, or an id)",
            )
        )
    if wanted == origin.CHECKPOINT and mode is not StopMode.CANCEL:
        raise InvalidInput(
            Problem(
                "a stop with a savepoint deletes the checkpoints of its run",
                field="restoreFrom",
                remedy="leave restoreFrom out, which goes on from that savepoint, or add mode=none",
            )
        )
    if wanted is not None and wanted != origin.CHECKPOINT:
        return await origin.chosen(engine, job_id, wanted)
    if mode is StopMode.CANCEL:
        return await origin.left_by_a_cancel(engine, running, checkpoint_only=wanted == origin.CHECKPOINT)
    return None
