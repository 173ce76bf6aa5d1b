"""Routes of 作业管理 (``/jobs``) about a job's state: savepoints, their schedule and limits, and restarts."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from app.hlink.jobs import batch, state
from app.hlink.jobs.routes import (
    JobId,
    JobIds,
    Mode,
    Native,
    RestoreFrom,
    TheEngine,
    batch_answer,
    stop_mode,
    told_of,
)
from app.hlink.jobs.state import Entry, Restarted
from app.hlink.wire import (
    Answer,
    RetentionBody,
    RetentionView,
    SavepointView,
    ScheduleBody,
    ScheduleView,
    StopChoice,
)
from app.service import ReadSession, WriteSession
from app.supervisor import Retained, SavepointSchedule

router = APIRouter(tags=["作业管理"])

SavepointId = Annotated[int, Path(alias="savepointId", json_schema_extra={"format": "int64"})]


@router.get("/jobs/savepoint/{jobId}")
async def savepoint(engine: TheEngine, job_id: JobId, native: Native = False) -> Answer[SavepointView]:
    """触发作业保存点: answers when it is complete and its files were found, or, after a while, that it is PENDING.

    The job goes on. Every savepoint of a job is in ``/jobs/{jobId}/savepoints``.
    """
    return Answer(data=_view(await state.make_savepoint(engine, job_id, native=native)))


@router.get("/jobs/savepoints/schedules")
async def schedules(session: ReadSession) -> Answer[list[ScheduleView]]:
    """Every job whose savepoints are made by the clock, the one whose turn comes first first."""
    found = await state.all_schedules(session)
    return Answer(data=[_schedule(job.id, one, job.name) for job, one in found])


@router.get("/jobs/{jobId}/savepoints")
async def savepoints(
    session: ReadSession,
    job_id: JobId,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> Answer[list[SavepointView]]:
    """The job's savepoints, newest first, those that failed or were removed too; ``msg`` says how many there are."""
    found, total = await state.history_of(session, job_id, limit, offset)
    return Answer(msg=f"savepoints {offset} to {offset + len(found)} of {total}", data=[_view(one) for one in found])


@router.get("/jobs/{jobId}/savepoints/schedule")
async def schedule(session: ReadSession, job_id: JobId) -> Answer[ScheduleView]:
    """When savepoints of the job are made by themselves; null: never."""
    found = await state.schedule_of(session, job_id)
    return Answer(data=None if found is None else _schedule(job_id, found))


@router.put("/jobs/{jobId}/savepoints/schedule")
async def set_schedule(session: WriteSession, job_id: JobId, body: ScheduleBody) -> Answer[ScheduleView]:
    """Has savepoints of the job made at the times of a cron expression, in place of those set before.

    One replica makes each. Those missed while the service did not run are made up for by one; while the job does not
    run none is made, and ``lastOutcome`` says so.
    """
    made = await state.schedule(session, job_id, body.cron, body.time_zone, native=body.native)
    return Answer(data=_schedule(job_id, made))


@router.delete("/jobs/{jobId}/savepoints/schedule")
async def remove_schedule(session: WriteSession, job_id: JobId) -> Answer[dict[str, Any]]:
    """Has no more savepoints of the job made by the clock; those that were made stay."""
    removed = await state.unschedule(session, job_id)
    return Answer(msg="" if removed else "There was no schedule", data={"jobId": job_id})


@router.get("/jobs/{jobId}/savepoints/retention")
async def retention(engine: TheEngine, job_id: JobId) -> Answer[RetentionView]:
    """How many savepoints of the job are kept, and for how many days."""
    return Answer(data=_limits(await state.limits_of(engine, job_id)))


@router.put("/jobs/{jobId}/savepoints/retention")
async def set_retention(engine: TheEngine, job_id: JobId, body: RetentionBody) -> Answer[RetentionView]:
    """Sets the job's own limits; one that is left out is 0, which is none; both left out: those of the service.

    The newest savepoint that was verified is always kept, and one that a run goes on from.
    """
    own = None if body.most is None and body.days is None else Retained(body.most or 0, body.days or 0)
    return Answer(data=_limits(await state.limit(engine, job_id, own)))


@router.delete("/jobs/{jobId}/savepoints/{savepointId}")
async def remove(engine: TheEngine, job_id: JobId, savepoint_id: SavepointId) -> Answer[SavepointView]:
    """Has the files of a savepoint deleted: REMOVING until that is done, then REMOVED.

    Refused for the newest one that was verified, and for one that a run goes on from or that is the ``savepointPath``
    of a job.
    """
    return Answer(data=_view(await state.remove_savepoint(engine, job_id, savepoint_id)))


@router.post("/jobs/restart/{jobId}")
async def restart(
    engine: TheEngine,
    job_id: JobId,
    mode: Mode = StopChoice.SAVEPOINT,
    native: Native = False,
    restore_from: RestoreFrom = None,
) -> Answer[dict[str, Any]]:
    """重启作业: stops it with a savepoint and starts it from that, with its definitions as they are now.

    A job that does not run starts from its newest savepoint or retained checkpoint. When a step fails, the answer
    says which, and the state that was there stands.
    """
    outcome = await state.restart(engine, job_id, stop_mode(mode), native=native, restore_from=restore_from)
    msg = outcome.before.reason or "" if outcome.after is None and outcome.before is not None else ""
    if outcome.after is not None and restore_from is None:
        msg = state.left_unused(job_id, outcome.after, await state.newest_savepoint(engine, job_id))
    return Answer(msg=msg, data=_restarted(job_id, outcome))


@router.post("/jobs/restartBatch")
async def restart_batch(
    engine: TheEngine, job_ids: JobIds, mode: Mode = StopChoice.SAVEPOINT, native: Native = False
) -> Answer[dict[str, Any]]:
    """批量重启作业: a few at a time; the data has the job ids that were not restarted, with their reason."""
    action = partial(state.restart, engine, mode=stop_mode(mode), native=native)
    return batch_answer(await batch.each(job_ids, action), "not restarted")


def _restarted(job_id: int, outcome: Restarted) -> dict[str, Any]:
    run = outcome.after or outcome.before
    assert run is not None, "a restart has an old run, a new one, or both"
    return {**told_of(job_id, run), "restoredFrom": run.spec.get("restore"), "downtimeMs": outcome.downtime_ms}


def _view(entry: Entry) -> SavepointView:
    one = entry.savepoint
    return SavepointView(
        id=one.id,
        run_id=one.run_id,
        purpose=one.purpose,
        format="NATIVE" if one.native else "CANONICAL",
        state=one.state,
        path=one.path,
        size=one.size,
        verified=one.verified,
        reason=one.reason,
        requested_at=one.requested_at,
        ended_at=one.ended_at,
        duration_ms=None if one.ended_at is None else max(0, one.ended_at - (one.requested_at or one.ended_at)),
        drained=one.drained,
        version=entry.version,
        flink_version=one.made_with,
        removal=one.removal,
        removed_at=one.removed_at,
    )


def _schedule(job_id: int, one: SavepointSchedule, job_name: str | None = None) -> ScheduleView:
    return ScheduleView(
        job_id=job_id,
        job_name=job_name,
        cron=one.cron,
        time_zone=one.time_zone,
        native=one.native,
        next_at=one.next_at,
        fired_at=one.fired_at,
        outcome=one.outcome,
    )


def _limits(limits: Retained) -> RetentionView:
    return RetentionView(most=limits.most, days=limits.days)
