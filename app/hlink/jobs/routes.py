"""Routes of 作业管理 (``/jobs``)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from sqlmodel import select

from app.database import now_ms
from app.hlink.answers import BUSINESS_ERROR
from app.hlink.clusters.routes import CONNECTIONS as CLUSTERS
from app.hlink.connections import PART as OUTSIDE
from app.hlink.jobs import batch, state
from app.hlink.jobs import impact as impact_of
from app.hlink.jobs import log as log_of
from app.hlink.jobs import service as jobs
from app.hlink.jobs import versions as versions_of
from app.hlink.jobs.definition import JarJob
from app.hlink.jobs.listing import page as page_of
from app.hlink.jobs.overview import overview as overview_of
from app.hlink.jobs.preview import preview as preview_of
from app.hlink.jobs.service import KIND_NAMES, STATUS_NAMES, Engine, Found, Updated, status_of
from app.hlink.planner import PART as PLANNER
from app.hlink.wire import (
    Answer,
    ChangedJob,
    IdList,
    JobEntity,
    JobImpact,
    JobPreview,
    JobQuery,
    JobTable,
    JobView,
    Page,
    StopChoice,
    TextId,
)
from app.service import ReadSession, TheService
from app.supervisor import Run, StopMode
from app.supervisor.store import events as events_of
from app.uploads import Files
from stream_jobs.planner.plan import explain

PREVIEWER = "hlink.previewer"
"""The part of the service that runs previews."""
_SHOWN_EVENTS = 50

router = APIRouter(tags=["作业管理"])


def engine(service: TheService) -> Engine:
    parts = service.parts
    return Engine(
        service.database,
        parts[PLANNER],
        service.supervisor,
        parts[CLUSTERS],
        parts[OUTSIDE],
        Files.of(service.settings),
        service.settings.queue_wait_s,
    )


JobId = Annotated[int, Path(alias="jobId", json_schema_extra={"format": "int64"})]
JobIds = Annotated[IdList, Query(alias="jobIds")]
TheEngine = Annotated[Engine, Depends(engine)]
Mode = Annotated[
    StopChoice,
    Query(
        description="savepoint: when none can be made the job goes on; drain: the same after its windows have fired; "
        "none: at once, without a savepoint"
    ),
]
Native = Annotated[
    bool, Query(description="a savepoint in the state backend's own format: quicker, and for that backend only")
]
RestoreFrom = Annotated[
    str | None,
    Query(
        alias="restoreFrom",
        max_length=32,
        description="what it starts from: newest (savepoint or retained checkpoint), checkpoint (the newest one that "
        "was retained), none (without state), or the id of one of the job's savepoints",
    ),
]

_STOP_MODES = {
    StopChoice.SAVEPOINT: StopMode.SAVEPOINT,
    StopChoice.DRAIN: StopMode.DRAIN,
    StopChoice.NONE: StopMode.CANCEL,
}


def stop_mode(choice: StopChoice) -> StopMode:
    return _STOP_MODES[choice]


@router.post("/jobs/addDO")
async def add(engine: TheEngine, view: JobView) -> Answer[JobEntity]:
    """新建作业: planned before it is stored; a refusal names every problem and stores nothing."""
    job = await jobs.add(engine, view)
    return Answer(data=_entity(Found(job, (), None, None, 1)))


@router.post("/jobs/updateDO")
async def update(engine: TheEngine, view: JobView) -> Answer[ChangedJob]:
    """作业信息更新: the body is the whole definition, as for ``/jobs/addDO``, planned before it is stored.

    Everything may change while the job runs. The change is stored as a new version, the run keeps the version that it
    was started from until the job is restarted, and ``msg`` says so. ``impact`` says what a restart would
    make of the state that the job has; ``/jobs/impact`` says it beforehand.
    """
    return await _updated(engine, await jobs.update(engine, view))


@router.post("/jobs/impact")
async def impact(engine: TheEngine, view: JobView) -> Answer[JobImpact]:
    """What becomes of the state of a job if it is changed to this body, that of ``/jobs/updateDO``, and restarted.

    Operator by operator: kept, kept with another meaning, incompatible, lost; why, and what to do. Nothing is stored.
    """
    return Answer(data=await impact_of.impact(engine, view))


@router.delete("/jobs/removeDO")
async def remove(engine: TheEngine, job_id: Annotated[TextId, Query(alias="id")]) -> Answer[dict[str, Any]]:
    """删除作业: refused while a run is active. Runs and versions are kept, the name is free again."""
    await jobs.remove(engine.database, job_id)
    return Answer(data={"jobId": job_id})


@router.post("/jobs/validate")
async def validate(
    engine: TheEngine,
    view: JobView,
    with_explanation: Annotated[bool, Query(alias="explain", description="also Flink's optimized plan")] = False,
    with_connections: Annotated[
        bool, Query(alias="connections", description="also the brokers, databases and the cluster's slots")
    ] = False,
) -> Answer[dict[str, Any]]:
    """Checks a job without storing it. The body is that of ``/jobs/addDO``.

    Answers the generated SQL, credentials masked; a refusal lists ``problems`` with table, line and column in the
    statement as it was sent.
    """
    async with engine.database.read() as session:
        draft = await jobs.drafted(session, view)
    definition = await jobs.defined(engine, draft)
    if isinstance(definition, JarJob):
        answer = {"sql": definition.script}
    else:
        plan = await jobs.planned(engine, definition, draft.job.id, with_plan=False)
        answer = {"sql": plan.sql}
        if with_explanation:
            answer["explanation"] = await explain(engine.planner, plan)
    if with_connections:
        await jobs.check_outside(engine, draft.cluster, definition)
    return Answer(data={"valid": True, "slots": definition.execution.parallelism, **answer})


@router.post("/jobs/preview")
async def preview(engine: TheEngine, service: TheService, view: JobPreview) -> Answer[dict[str, Any]]:
    """The rows that each sink would have, over what the sources hold now; nothing is stored, started or written.

    Topics are read from their beginning to their present end, as far as the time goes (``complete`` says how it
    ended); rows that a query changes later are shown in their last state. Windows that are open at the end close.
    """
    return Answer(data=await preview_of(engine, service.parts[PREVIEWER], view))


@router.post("/jobs/run/{jobId}")
async def run(engine: TheEngine, job_id: JobId, restore_from: RestoreFrom = None) -> Answer[dict[str, Any]]:
    """运行作业: answers when Flink has accepted the job, or, after a while, that it is still being submitted (9).

    It starts from ``savepointPath`` if the job has one, else without state: to go on from its own state is
    ``/jobs/restart/{jobId}``. ``restoreFrom`` chooses what it starts from.

    A job for which the cluster has no free slots is being submitted, too, and answered at once: ``msg`` says what it
    waits for and its place in the queue. ``/jobs/cancel/{jobId}`` takes it out.
    """
    if restore_from is not None:
        return _outcome(job_id, await state.run_from(engine, job_id, restore_from))
    checked = await jobs.ready(engine, job_id, starts_as_defined=True)
    started, savepoint = await asyncio.gather(jobs.start(engine, checked), state.newest_savepoint(engine, job_id))
    answer = _outcome(job_id, started)
    answer.msg = f"{state.left_unused(job_id, started, savepoint)} {answer.msg}".strip()
    return answer


@router.post("/jobs/cancel/{jobId}")
async def cancel(
    engine: TheEngine, job_id: JobId, mode: Mode = StopChoice.SAVEPOINT, native: Native = False
) -> Answer[dict[str, Any]]:
    """取消作业: with a savepoint; answers when the job has ended, or, after a while, that it is still being stopped.

    When no savepoint can be made the job goes on, and the answer says why. A job that is still being submitted is
    cancelled at once.
    """
    return _outcome(job_id, await jobs.cancel(engine, job_id, stop_mode(mode), native=native))


@router.post("/jobs/runBatch")
async def run_batch(engine: TheEngine, job_ids: JobIds) -> Answer[dict[str, Any]]:
    """批量启动作业: a few at a time; the data has the job ids that did not start, with their reason.

    Those that the cluster has no free slots for wait: their status is 9.
    """
    return batch_answer(await batch.each(job_ids, partial(jobs.run, engine)), "not started")


@router.post("/jobs/cancelBatch")
async def cancel_batch(
    engine: TheEngine, job_ids: JobIds, mode: Mode = StopChoice.SAVEPOINT, native: Native = False
) -> Answer[dict[str, Any]]:
    """批量停止作业: a few at a time; the data has the job ids that were not stopped, with their reason."""
    action = partial(jobs.cancel, engine, mode=stop_mode(mode), native=native)
    return batch_answer(await batch.each(job_ids, action), "not stopped")


@router.get("/jobs/list")
async def page(session: ReadSession, query: Annotated[JobQuery, Query()]) -> Answer[Page[JobView]]:
    """作业列表查询."""
    rows, total = await page_of(session, query)
    return Answer(data=Page.of([_view(row) for row in rows], total, query))


@router.get("/jobs/overview/{jobId}")
async def overview(engine: TheEngine, job_id: JobId) -> Answer[dict[str, Any]]:
    """作业概览: the run's state with its age and source, Flink's graph and figures, the newest events first."""
    async with engine.database.read() as session:
        found = await jobs.find(session, job_id)
        events = await events_of(session, found.run.id) if found.run else []
        now = (await session.exec(select(now_ms()))).one()
    return Answer(data=await overview_of(found, engine.clusters, now, events[-_SHOWN_EVENTS:]))


@router.get("/jobs/{jobId}/log")
async def log(
    engine: TheEngine,
    job_id: JobId,
    offset: Annotated[int, Query(ge=0, description="lines to leave out at the beginning")] = 0,
    limit: Annotated[int | None, Query(ge=1, description="lines at most; all without it")] = None,
) -> Answer[Any]:
    """作业日志: one text, in order of time: our events, what was refused, Flink's exceptions with the root cause first.

    ``msg`` says which lines of how many these are.
    """
    async with engine.database.read() as session:
        await jobs.kept(session, job_id)
        known = await log_of.recorded(session, job_id)
    lines = await log_of.lines(known, engine.clusters)
    shown = lines[offset : None if limit is None else offset + limit]
    return Answer(msg=f"lines {offset} to {offset + len(shown)} of {len(lines)}", data="\n".join(shown))


@router.get("/jobs/{jobId}/versions")
async def versions(session: ReadSession, job_id: JobId) -> Answer[list[dict[str, Any]]]:
    """The job's versions, newest first. ``definition`` is what ``/jobs/updateDO`` takes, ``sql`` what it became."""
    found = await jobs.find(session, job_id)
    active = found.run if found.run and not found.run.state.ended else None
    return Answer(
        data=[
            {
                "version": one.number,
                "createTime": one.created_at,
                "running": active is not None and active.spec.get("version") == one.id,
                "definition": one.definition
                and versions_of.view_of_version(one).model_dump(by_alias=True, exclude_none=True),
                "sql": one.script,
            }
            for one in await versions_of.history(session, job_id)
        ]
    )


@router.get("/jobs/{jobId}/versions/{a}/diff/{b}")
async def diff(session: ReadSession, job_id: JobId, a: int, b: int) -> Answer[dict[str, str]]:
    """What changes from version ``a`` to version ``b``: unified diffs of the definition and of the generated SQL."""
    await jobs.kept(session, job_id)
    old, new = await versions_of.find(session, job_id, a), await versions_of.find(session, job_id, b)
    return Answer(data=versions_of.diff(old, new))


@router.post("/jobs/{jobId}/rollback/{number}")
async def rollback(engine: TheEngine, job_id: JobId, number: int) -> Answer[ChangedJob]:
    """Stores what the job was in version ``number`` again, as its newest version; planned first."""
    return await _updated(engine, await jobs.rollback(engine, job_id, number))


@router.get("/jobs/{jobId}")
async def get(session: ReadSession, job_id: JobId) -> Answer[JobView]:
    """作业详情."""
    return Answer(data=_view(await jobs.find(session, job_id)))


def batch_answer(failed: Mapping[int, str], what: str) -> Answer[dict[str, Any]]:
    data = {str(job_id): reason for job_id, reason in failed.items()}
    if not data:
        return Answer(data=data)
    return Answer(code=BUSINESS_ERROR, success=False, msg=f"{what}: {', '.join(data)}; the data says why", data=data)


async def _updated(engine: Engine, found: Updated) -> Answer[ChangedJob]:
    msg = f"Stored as version {found.version}." if found.is_new else f"Nothing was changed: version {found.version}."
    if found.running is not None and found.running != found.version:
        msg += f" The job goes on with version {found.running} until it is restarted."
    impact = await impact_of.impact_of_version(engine, found.job.id, found.version)
    if impact is not None and not impact.restores:
        msg += f" {impact.summary}"
    return Answer(msg=msg, data=ChangedJob(**_common(Found(found.job, (), None, None, found.version)), impact=impact))


def _outcome(job_id: int, run: Run) -> Answer[dict[str, Any]]:
    return Answer(msg=run.reason or "", data=told_of(job_id, run))


def told_of(job_id: int, run: Run) -> dict[str, Any]:
    """What every call that starts or stops a job answers of its run."""
    return {
        "jobId": job_id,
        "runId": run.id,
        "flinkJobId": run.external_id,
        "state": run.state,
        "jobStatus": status_of(run),
        "savepoint": run.savepoint,
    }


def _common(found: Found) -> dict[str, Any]:
    job, run = found.job, found.run
    return {
        **job.settings,
        "id": job.id,
        "code": job.code,
        "name": job.name,
        "description": job.description,
        "kind": job.kind,
        "status": status_of(run),
        "flink_job_id": run.external_id if run else None,
        "cluster_id": job.cluster_id,
        "version": None if found.version is None else str(found.version),
        "enabled": job.del_flag,
        "created_by": job.create_by,
        "created_at": job.create_time,
        "modified_by": job.modify_by,
        "modified_at": job.modify_time,
    }


def _entity(found: Found) -> JobEntity:
    return JobEntity(**_common(found))


def _view(found: Found) -> JobView:
    common = _common(found)
    return JobView(
        **common,
        status_name=STATUS_NAMES[common["status"]],
        kind_name=KIND_NAMES[found.job.kind],
        cluster_name=found.cluster.name if found.cluster else None,
        cluster_type=found.cluster.type if found.cluster else None,
        cluster_type_name="standalone" if found.cluster else None,
        tables=[
            JobTable(id=link.id, job_id=link.job_id, table_id=link.table_id, role=link.role, sql=link.sql)
            for link in found.links
        ],
    )
