"""Routes of 作业管理 (``/jobs``)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from sqlmodel import select

from app.database import now_ms
from app.hlink.connections import PART as OUTSIDE
from app.hlink.jobs import service as jobs
from app.hlink.jobs.overview import overview as overview_of
from app.hlink.jobs.service import KIND_NAMES, STATUS, STATUS_NAMES, Engine, Found, RunFailed
from app.hlink.planner import PART as PLANNER
from app.hlink.wire import Answer, JobEntity, JobQuery, JobTable, JobView, Page
from app.service import ReadSession, TheService
from app.supervisor import Run, State
from app.supervisor.store import events as events_of
from stream_jobs.planner.plan import explain

CLUSTERS = "hlink.flink"
"""The part of the service that holds the connections to Flink's REST API."""
_SHOWN_EVENTS = 50

router = APIRouter(tags=["作业管理"])


def engine(service: TheService) -> Engine:
    parts = service.parts
    return Engine(service.database, parts[PLANNER], service.supervisor, parts[CLUSTERS], parts[OUTSIDE])


JobId = Annotated[int, Path(alias="jobId", json_schema_extra={"format": "int64"})]
TheEngine = Annotated[Engine, Depends(engine)]


@router.post("/jobs/addDO")
async def add(engine: TheEngine, view: JobView) -> Answer[JobEntity]:
    """新建作业: planned before it is stored; a refusal names every problem and stores nothing."""
    job = await jobs.add(engine.database, engine.planner, engine.connections, view)
    return Answer(data=_entity(Found(job, (), None, None, 1)))


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
    definition = draft.definition
    plan = await jobs.planned(engine.planner, engine.connections, definition, draft.job.id, with_plan=False)
    if with_connections:
        await jobs.check_outside(engine, draft.cluster, definition)
    answer = {"valid": True, "sql": plan.sql, "slots": definition.execution.parallelism}
    if with_explanation:
        answer["explanation"] = await explain(engine.planner, plan)
    return Answer(msg="", data=answer)


@router.post("/jobs/run/{jobId}")
async def run(engine: TheEngine, job_id: JobId) -> Answer[dict[str, Any]]:
    """运行作业: answers when Flink has accepted the job, or, after a while, that it is still being submitted (9)."""
    return _outcome(job_id, await jobs.run(engine, job_id), {State.FAILED, State.LOST})


@router.post("/jobs/cancel/{jobId}")
async def cancel(engine: TheEngine, job_id: JobId) -> Answer[dict[str, Any]]:
    """取消作业: answers when the job has ended, or, after a while, that it is still being stopped."""
    return _outcome(job_id, await jobs.cancel(engine, job_id), set())


@router.get("/jobs/list")
async def page(session: ReadSession, query: Annotated[JobQuery, Query()]) -> Answer[Page[JobView]]:
    """作业列表查询."""
    rows, total = await jobs.page(session, query)
    return Answer(data=Page.of([_view(row) for row in rows], total, query))


@router.get("/jobs/overview/{jobId}")
async def overview(engine: TheEngine, job_id: JobId) -> Answer[dict[str, Any]]:
    """作业概览: the run's state with its age and source, Flink's graph and figures, the newest events first."""
    async with engine.database.read() as session:
        found = await jobs.find(session, job_id)
        events = await events_of(session, found.run.id) if found.run else []
        now = (await session.exec(select(now_ms()))).one()
    return Answer(data=await overview_of(found, engine.clusters, now, events[-_SHOWN_EVENTS:]))


@router.get("/jobs/{jobId}")
async def get(session: ReadSession, job_id: JobId) -> Answer[JobView]:
    """作业详情."""
    return Answer(data=_view(await jobs.find(session, job_id)))


def _outcome(job_id: int, run: Run, bad: set[State]) -> Answer[dict[str, Any]]:
    if run.state in bad:
        raise RunFailed(f"The job did not start: {run.reason}", run_id=run.id, flink_job_id=run.external_id)
    return Answer(
        msg=run.reason or "",
        data={
            "jobId": job_id,
            "runId": run.id,
            "flinkJobId": run.external_id,
            "state": run.state,
            "jobStatus": STATUS[run.state],
        },
    )


def _common(found: Found) -> dict[str, Any]:
    job, run = found.job, found.run
    return {
        **job.settings,
        "id": job.id,
        "code": job.code,
        "name": job.name,
        "description": job.description,
        "kind": job.kind,
        "status": STATUS[run.state] if run else 0,
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
