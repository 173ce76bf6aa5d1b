"""Routes of 作业管理 (``/jobs``) about a job's state: savepoints and restarts."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query

from app.hlink.jobs import batch, state
from app.hlink.jobs.routes import JobId, JobIds, TheEngine, batch_answer, told_of
from app.hlink.jobs.state import Restarted
from app.hlink.wire import Answer, SavepointView
from app.service import ReadSession
from app.supervisor import Savepoint

router = APIRouter(tags=["作业管理"])


@router.get("/jobs/savepoint/{jobId}")
async def savepoint(
    engine: TheEngine,
    job_id: JobId,
    native: Annotated[
        bool, Query(description="in the state backend's own format: quicker, and for that backend only")
    ] = False,
) -> Answer[SavepointView]:
    """触发作业保存点: answers when it is complete and its files were found, or, after a while, that it is PENDING.

    The job goes on. Every savepoint of a job is in ``/jobs/{jobId}/savepoints``.
    """
    return Answer(data=_view(await state.make_savepoint(engine, job_id, native=native)))


@router.get("/jobs/{jobId}/savepoints")
async def savepoints(
    session: ReadSession,
    job_id: JobId,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Answer[list[SavepointView]]:
    """The job's savepoints, newest first, those that failed too."""
    return Answer(data=[_view(one) for one in await state.savepoints_of(session, job_id, limit, offset)])


@router.post("/jobs/restart/{jobId}")
async def restart(engine: TheEngine, job_id: JobId) -> Answer[dict[str, Any]]:
    """重启作业: stops it with a savepoint and starts it from that, with its definitions as they are now.

    A job that failed or was lost starts from its newest savepoint or retained checkpoint. When a step fails, the
    answer says which, and the state that was there stands.
    """
    return Answer(data=_restarted(job_id, await state.restart(engine, job_id)))


@router.post("/jobs/restartBatch")
async def restart_batch(engine: TheEngine, job_ids: JobIds) -> Answer[dict[str, Any]]:
    """批量重启作业: a few at a time; the data has the job ids that were not restarted, with their reason."""
    return batch_answer(await batch.each(job_ids, partial(state.restart, engine)), "not restarted")


def _restarted(job_id: int, outcome: Restarted) -> dict[str, Any]:
    run = outcome.after or outcome.before
    assert run is not None, "a restart has an old run, a new one, or both"
    return {**told_of(job_id, run), "restoredFrom": run.spec.get("restore"), "downtimeMs": outcome.downtime_ms}


def _view(one: Savepoint) -> SavepointView:
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
    )
