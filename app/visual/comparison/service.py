"""Runs of an experiment, with what they came to: read from their specs and their own folders, which outlive outputs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, String, cast, literal
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import InvalidInput, NotFound, Problem
from app.service import Service
from app.settings import Settings
from app.supervisor import Run
from app.visual.catalogue import Catalogue, Framework
from app.visual.comparison import curves, table
from app.visual.comparison.table import MetricColumn, NodeOfRun, ParameterColumn, RunOfJob
from app.visual.comparison.wire import ComparisonQuery, CurvesQuery
from app.visual.datasets.models import DataSet
from app.visual.datasets.presets import BY_ID
from app.visual.engine.plan import Progress
from app.visual.experiments import service as experiments
from app.visual.jobs.folders import run_folder
from app.visual.jobs.models import SUBJECT, VisualJob
from app.visual.jobs.running import figures_file
from app.visual.own import service as own

MOST_COMPARED = 1_000
MOST_OVERLAID = 20
_USUALLY_OVERLAID = 10


@dataclass(frozen=True, slots=True)
class Row:
    """A run with its job, and its nodes by their names."""

    job: VisualJob
    run: Run
    nodes: Mapping[str, NodeOfRun]


@dataclass(frozen=True, slots=True)
class Compared:
    """The newest runs, newest first, and what is to be said of them together."""

    rows: Sequence[Row]
    all_runs: int
    parameters: Sequence[ParameterColumn]
    metrics: Sequence[MetricColumn]
    known: Catalogue
    data_sets: Mapping[int, str]
    """The names of those that the runs read."""

    def name_of(self, node: str) -> str:
        """What people call a node."""
        component = self.known.find(table.component_of(node))
        label = component.label.en if component is not None else table.component_of(node)
        return f"{label} {node.partition('#')[2]}".rstrip()


async def compare(service: Service, experiment_id: int, query: ComparisonQuery) -> Compared:
    """The runs of an experiment's jobs. Raises ``NotFound``."""
    async with service.database.read() as session:
        experiment = await experiments.find(session, experiment_id)
        known = await own.known(session, Framework(experiment.framework))
        found = await _runs(session, experiment_id, MOST_COMPARED, _of_job(query.job_id))
        count = select(func.count()).select_from(Run).join(VisualJob, _is_subject())
        all_runs = (await session.exec(count.where(*_kept(experiment_id), *_of_job(query.job_id)))).one()
        data_sets = await _data_sets(session, {one for _, run in found for one in run.spec["datasets"]})
    rows = await asyncio.to_thread(_with_scores, service.settings, found)

    def default(uuid: str, key: str) -> Any:
        component = known.find(uuid)
        parameter = component.parameter(key) if component is not None else None
        return parameter.default if parameter is not None else None

    runs = [RunOfJob(row.run.id, row.nodes) for row in rows]
    parameters, metrics = await asyncio.to_thread(lambda: (table.differing(runs, default), table.metrics(runs)))
    return Compared(rows, all_runs, parameters, metrics, known, data_sets)


async def overlay(service: Service, experiment_id: int, query: CurvesQuery) -> list[dict[str, Any]]:
    """The curves that a node of several runs has drawn, in one figure for each kind of curve.

    Raises:
        NotFound: no such experiment or run; none of the runs has such a node.
        InvalidInput: too many runs.
    """
    if len(query.run_ids) > MOST_OVERLAID:
        raise InvalidInput(
            Problem(f"{len(query.run_ids)} runs are too many", field="runIds", remedy=f"name {MOST_OVERLAID} at most")
        )
    async with service.database.read() as session:
        await experiments.find(session, experiment_id)
        named: list[ColumnElement[bool]] = [col(Run.id).in_(query.run_ids)] if query.run_ids else []
        found = await _runs(session, experiment_id, MOST_COMPARED, named)
    if gone := sorted(set(query.run_ids) - {run.id for _, run in found}):
        raise NotFound(f"Experiment {experiment_id} has no run {', '.join(map(str, gone))}")
    nodes = {run.id: node.id for _, run in found if (node := _nodes(run).get(query.node)) is not None}
    if not nodes:
        there = sorted({name for _, run in found for name in _nodes(run)})
        raise NotFound(f"None of the runs has a node '{query.node[:200]}'; they have {', '.join(there) or 'none'}")
    some = [run for _, run in found if run.id in nodes][: MOST_OVERLAID if query.run_ids else _USUALLY_OVERLAID]

    def read() -> list[dict[str, Any]]:
        drawn = {}
        for run in some:
            try:
                file = figures_file(service.settings, run, nodes[run.id], query.port)
                drawn[str(run.id)] = json.loads(file.read_bytes())
            except FileNotFoundError:
                continue  # it has not come that far
        return curves.overlaid(drawn)

    return await asyncio.to_thread(read)


def _kept(experiment_id: int) -> list[ColumnElement[bool]]:
    return [col(VisualJob.experiment_id) == experiment_id, col(VisualJob.del_flag) == 1]


def _of_job(job_id: int | None) -> list[ColumnElement[bool]]:
    return [] if job_id is None else [col(VisualJob.id) == job_id]


def _is_subject() -> ColumnElement[bool]:
    """What :attr:`VisualJob.subject` says, in SQL."""
    return col(Run.subject) == literal(SUBJECT) + cast(col(VisualJob.id), String)


async def _runs(
    session: AsyncSession, experiment_id: int, most: int, wanted: Sequence[ColumnElement[bool]]
) -> Sequence[tuple[VisualJob, Run]]:
    query = select(VisualJob, Run).join(Run, _is_subject()).where(*_kept(experiment_id), *wanted)
    rows = await session.exec(query.order_by(col(Run.id).desc()).limit(most))
    return [(job, run) for job, run in rows]


async def _data_sets(session: AsyncSession, ids: Iterable[int]) -> dict[int, str]:
    """The names of data sets, also of those that were deleted since."""
    found = {one: BY_ID[one].name for one in ids if one in BY_ID}
    others = await session.exec(select(DataSet).where(col(DataSet.id).in_([one for one in ids if one not in BY_ID])))
    return found | {one.id: one.name or one.file_name or str(one.id) for one in others}


def _nodes(run: Run, folder: Path | None = None) -> dict[str, NodeOfRun]:
    """A run's nodes by their names; with its folder, also what their figures say."""
    return table.named(
        [
            NodeOfRun(
                step["id"],
                step["component"],
                step["parameters"],
                Progress.read(folder, step["id"]).scores if folder is not None else {},
            )
            for step in run.spec["steps"]
        ]
    )


def _with_scores(settings: Settings, found: Sequence[tuple[VisualJob, Run]]) -> list[Row]:
    return [Row(job, run, _nodes(run, run_folder(settings, run))) for job, run in found]
