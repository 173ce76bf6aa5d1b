"""Routes of 任务管理."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import FileResponse, Response

from app.service import ReadSession, TheService, WriteSession
from app.visual.answers import Answer, measured
from app.visual.catalogue import PortType
from app.visual.jobs import adopting, deployment, downloads, prediction, running
from app.visual.jobs import service as jobs
from app.visual.jobs.models import GraphNode
from app.visual.jobs.running import NodeStanding
from app.visual.jobs.wire import (
    Adopted,
    Adoption,
    AttributeView,
    ComponentInfo,
    Deployment,
    DeploymentView,
    EdgeView,
    FigureView,
    JobAdded,
    JobAddition,
    JobChange,
    JobDeletion,
    JobEntry,
    JobPage,
    JobReference,
    JobRun,
    JobsQuery,
    JobStatusView,
    JobView,
    LogQuery,
    LogView,
    ModelQuery,
    NodeStatusView,
    NodeView,
    PortQuery,
    RowsPage,
    RowsQuery,
    ScriptFormat,
    ScriptQuery,
    TableQuery,
    UsedModel,
)
from app.visual.runs import status_of
from app.wire import Int64

router = APIRouter(prefix="/visualmodule", tags=["任务管理"], dependencies=[measured])

_BYTES = "application/octet-stream"
_FILE: dict[int | str, dict[str, Any]] = {200: {"description": "The model.", "content": {_BYTES: {}}}}
_PROGRAMS = {ScriptFormat.SCRIPT: "text/x-python", ScriptFormat.NOTEBOOK: "application/x-ipynb+json"}
_PROGRAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "The script or the notebook.", "content": {kind: {} for kind in _PROGRAMS.values()}}
}
_TABLES = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
_TABLE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The table.", "content": {kind: {} for kind in _TABLES.values()}}
}

JobPath = Annotated[Int64, Path(alias="jobId")]


@router.get("/job/list")
async def page(session: ReadSession, query: Annotated[JobsQuery, Query()]) -> Answer[JobPage]:
    """获取任务列表: an experiment's jobs, newest first."""
    rows, total = await jobs.page(session, query)
    entries = [
        JobEntry(id=found.job.id, status=status_of(found.run), created_at=found.job.create_time) for found in rows
    ]
    return Answer(obj=JobPage(data=entries, page=query.number, limit=query.size, total=total))


@router.get("/job/index")
async def index(service: TheService, query: Annotated[PortQuery, Query()]) -> Answer[list[FigureView]]:
    """获取任务指标: curves and tables of a node's output, also while the node runs."""
    return Answer(obj=[FigureView(**one) for one in await running.figures(service, query)])


@router.get("/job/statistic")
async def statistic(service: TheService, query: Annotated[PortQuery, Query()]) -> Answer[list[dict[str, Any]]]:
    """获取任务统计数据: of each column of a table counts, mean, deviation, quantiles and histogram."""
    return Answer(obj=await running.statistic(service, query))


@router.get("/job/log")
async def log(service: TheService, query: Annotated[LogQuery, Query()]) -> Answer[LogView]:
    """查看任务日志: of the newest run, while it runs and after."""
    content, offset, is_end = await running.log(service, query.job_id, query.offset)
    return Answer(obj=LogView(id=query.job_id, content=content, offset=offset, is_end=is_end))


@router.get("/job/download/model", response_class=FileResponse, responses=_FILE)
async def download_model(service: TheService, query: Annotated[ModelQuery, Query()]) -> FileResponse:
    """下载任务模型: the estimator as skops, which ``skops.io.load`` reads, or as ONNX; a network as zip, or as ONNX."""
    file = await downloads.model_file(service, query, PortType.MODEL)
    return FileResponse(file, media_type=_BYTES, filename=f"model-{query.node_id}{file.suffix}")


@router.get("/job/download/pipeline", response_class=FileResponse, responses=_FILE)
async def download_pipeline(service: TheService, query: Annotated[ModelQuery, Query()]) -> FileResponse:
    """下载任务工作流: the estimator with all that its rows went through before it, as skops or as ONNX."""
    file = await downloads.model_file(service, query, PortType.PIPELINE)
    return FileResponse(file, media_type=_BYTES, filename=f"pipeline-{query.node_id}{file.suffix}")


@router.get("/job/download/script", response_class=Response, responses=_PROGRAM)
async def download_script(service: TheService, query: Annotated[ScriptQuery, Query()]) -> Response:
    """The graph as a program of scikit-learn's, which needs nothing of this service; not published, ours."""
    program = await downloads.script(service, query)
    kind = _PROGRAMS[query.format]
    named = {"Content-Disposition": f'attachment; filename="job-{query.job_id}.{query.format}"'}
    return Response(program, media_type=kind, headers=named)


@router.get("/job/rows")
async def rows(service: TheService, query: Annotated[RowsQuery, Query()]) -> Answer[RowsPage]:
    """A page of a table that a node brought out, predictions for instance (ours)."""
    found = await downloads.rows(service, query)
    return Answer(obj=RowsPage(page=query.number, limit=query.size, **found))


@router.get("/job/download/table", response_class=FileResponse, responses=_TABLE)
async def download_table(service: TheService, query: Annotated[TableQuery, Query()]) -> FileResponse:
    """All rows of a table that a node brought out, as CSV (UTF-8) or Parquet (ours)."""
    file = await downloads.table_file(service, query)
    return FileResponse(file, media_type=_TABLES[query.form], filename=f"table-{query.node_id}.{query.form}")


@router.get("/job/status/{jobId}")
async def status(service: TheService, job_id: JobPath) -> Answer[JobStatusView]:
    """获取任务状态: of the job and of each of its nodes."""
    async with service.database.read() as session:
        found = await jobs.find(session, job_id)
        nodes = [node.id for node in await jobs.nodes_of(session, job_id)]
    standings = await running.standings(service.settings, found.run, nodes)
    return Answer(
        obj=JobStatusView(
            id=job_id,
            status=status_of(found.run),
            reason=found.run.reason if found.run is not None else None,
            graph=[
                NodeStatusView(id=node, status=standing.status, reason=standing.reason)
                for node, standing in standings.items()
            ],
        )
    )


@router.get("/job/{jobId}")
async def get(service: TheService, job_id: JobPath) -> Answer[JobView]:
    """获取任务详情: the graph as it was drawn, with where each node is."""
    async with service.database.read() as session:
        found = await jobs.find(session, job_id)
        nodes = await jobs.nodes_of(session, job_id)
    standings = await running.standings(service.settings, found.run, [node.id for node in nodes])
    return Answer(
        obj=JobView(
            id=job_id,
            status=status_of(found.run),
            purpose=found.job.purpose,
            experiment_id=found.job.experiment_id,
            created_at=found.job.create_time,
            modified_at=found.job.modify_time,
            reason=found.run.reason if found.run is not None else None,
            seed=found.run.spec["seed"] if found.run is not None else None,
            models=[UsedModel(**one) for one in found.run.spec.get("models", ())] if found.run is not None else [],
            graph=[_node(node, standings[node.id]) for node in nodes],
        )
    )


@router.post("/job")
async def add(session: WriteSession, wanted: JobAddition) -> Answer[JobAdded]:
    """添加任务: a graph, which may be unfinished, as it is checked when it is run; or a model and rows to predict."""
    job, names = await jobs.add(session, await prediction.with_graph(session, wanted))
    return Answer(obj=JobAdded(id=job.id, node_ids=names))


@router.put("/job")
async def change(session: WriteSession, wanted: JobChange) -> Answer[JobAdded]:
    """编辑任务: nodes are added, changed and deleted; those that are not named stay."""
    job, names = await jobs.change(session, wanted)
    return Answer(obj=JobAdded(id=job.id, node_ids=names))


@router.delete("/job/{jobId}")
async def remove(session: WriteSession, job_id: JobPath, body: JobDeletion | None = None) -> Answer[JobReference]:
    """删除任务."""
    await jobs.remove(session, job_id, body.experiment_id if body is not None else None)
    return Answer(obj=JobReference(id=job_id))


@router.post("/job/run")
async def run(service: TheService, wanted: JobRun) -> Answer[JobStatusView]:
    """运行任务: the graph is checked before anything runs; what an earlier run has done is not done again."""
    started = await running.start(service, wanted)
    return Answer(obj=JobStatusView(id=wanted.id, status=status_of(started), reason=started.reason, graph=[]))


@router.post("/job/adopt")
async def adopt(service: TheService, wanted: Adoption) -> Answer[Adopted]:
    """Ours: what an automatic search has found becomes a job of its own, which can be changed and run."""
    return Answer(obj=await adopting.adopt(service, wanted))


@router.post("/job/deploy")
async def deploy(service: TheService, wanted: Deployment) -> Answer[DeploymentView]:
    """部署任务模型 (ours): a model or a pipeline becomes the function ``predict_<name>`` of stream jobs' SQL.

    The same name again makes a new version of it, which jobs take with their next run.
    """
    return Answer(obj=await deployment.deploy(service, wanted))


@router.post("/job/stop")
async def stop(service: TheService, wanted: JobReference) -> Answer[JobStatusView]:
    """停止任务: answers when it has ended, or, after a while, that it is still being stopped."""
    async with service.database.write() as session:
        asked = await jobs.stop(session, wanted.id)
    service.supervisor.kick(asked)
    ended = await service.supervisor.wait(asked.id, lambda run: run.state.ended)
    return Answer(obj=JobStatusView(id=wanted.id, status=status_of(ended), reason=ended.reason, graph=[]))


def _node(node: GraphNode, standing: NodeStanding) -> NodeView:
    return NodeView(
        top=node.top,
        left=node.left,
        edges=[EdgeView.model_validate(edge) for edge in node.edges],
        attributes=[AttributeView.model_validate(one) for one in node.attributes],
        component=ComponentInfo.model_validate(node.info),
        id=node.id,
        status=standing.status,
        reason=standing.reason,
        reused=standing.reused,
        took_ms=standing.took_ms,
    )
