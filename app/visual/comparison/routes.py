"""Routes that set runs of an experiment side by side, beside those of 实验管理."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.service import TheService
from app.visual.answers import Answer, measured
from app.visual.comparison import service as comparison
from app.visual.comparison.service import Compared, Row
from app.visual.comparison.wire import (
    Comparison,
    ComparisonQuery,
    CurvesQuery,
    DataSetName,
    MetricEntry,
    ParameterEntry,
    RunEntry,
)
from app.visual.jobs.wire import FigureView
from app.visual.runs import status_of
from app.wire import Int64

router = APIRouter(prefix="/visualmodule/experiment/{expId}/comparison", tags=["实验管理"], dependencies=[measured])

ExperimentPath = Annotated[Int64, Path(alias="expId")]


@router.get("")
async def compare(
    service: TheService, experiment_id: ExperimentPath, query: Annotated[ComparisonQuery, Query()]
) -> Answer[Comparison]:
    """The runs of the experiment's jobs, newest first: what differs between them, and which is best by each metric."""
    found = await comparison.compare(service, experiment_id, query)
    return Answer(
        obj=Comparison(
            data=[_run(row, found) for row in found.rows[query.offset : query.offset + query.size]],
            page=query.number,
            limit=query.size,
            total=len(found.rows),
            all_runs=found.all_runs,
            parameters=[
                ParameterEntry(id=one.id, node=one.node, node_name=found.name_of(one.node), key=one.key)
                for one in found.parameters
            ],
            metrics=[
                MetricEntry(
                    id=one.id,
                    node=one.node,
                    node_name=found.name_of(one.node),
                    port=one.port,
                    metric=one.metric,
                    better=one.better,
                    best=list(one.best),
                )
                for one in found.metrics
            ],
        )
    )


@router.get("/index")
async def index(
    service: TheService, experiment_id: ExperimentPath, query: Annotated[CurvesQuery, Query()]
) -> Answer[list[FigureView]]:
    """The curves of one port over several runs, in one figure for each kind: lines are called by their runs."""
    return Answer(obj=[FigureView(**one) for one in await comparison.overlay(service, experiment_id, query)])


def _run(row: Row, found: Compared) -> RunEntry:
    job, run, nodes = row.job, row.run, row.nodes
    began, ended = run.started_at, run.ended_at
    return RunEntry(
        job_id=job.id,
        run_id=run.id,
        purpose=job.purpose,
        status=status_of(run),
        reason=run.reason,
        seed=run.spec["seed"],
        created_at=run.created_at,
        took_ms=ended - began if began is not None and ended is not None else None,
        data_sets=[DataSetName(id=one, name=found.data_sets.get(one, str(one))) for one in run.spec["datasets"]],
        node_ids={name: node.id for name, node in nodes.items()},
        parameters={
            one.id: nodes[one.node].parameters[one.key]
            for one in found.parameters
            if one.node in nodes and one.key in nodes[one.node].parameters
        },
        metrics={
            one.id: nodes[one.node].scores[one.port][one.metric]
            for one in found.metrics
            if one.node in nodes and one.metric in nodes[one.node].scores.get(one.port, {})
        },
    )
