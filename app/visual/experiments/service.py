"""The rules of experiments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, func, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import Conflict, InvalidInput, NotFound, Problem
from app.filters import containing, equal
from app.supervisor import Run
from app.visual.choices import FRAMEWORKS, LEARNINGS, Learning
from app.visual.experiments.models import Experiment
from app.visual.experiments.wire import ExperimentAddition, ExperimentChange, ExperimentQuery
from app.visual.jobs.models import VisualJob
from app.visual.runs import has_status


@dataclass(frozen=True, slots=True)
class Found:
    """An experiment with the newest run of its jobs."""

    experiment: Experiment
    run: Run | None


async def add(session: AsyncSession, wanted: ExperimentAddition) -> Experiment:
    """A new experiment.

    Raises:
        InvalidInput, Conflict: its framework learns otherwise; there is one of that name.
    """
    name, learning = FRAMEWORKS[wanted.framework]
    if learning is not wanted.learning:
        right = ", ".join(
            f"{code.value} ({name})" for code, (name, kind) in FRAMEWORKS.items() if kind is wanted.learning
        )
        raise InvalidInput(
            Problem(
                f"{name} is for learnType {learning.value} ({LEARNINGS[learning]})",
                field="frameId",
                remedy=f"with learnType {wanted.learning.value} ({LEARNINGS[Learning(wanted.learning)]}) use {right}",
            )
        )
    experiment = Experiment(
        name=wanted.name,
        pattern=wanted.pattern,
        learning=wanted.learning,
        framework=wanted.framework,
        description=wanted.description,
    )
    await _keep(session, experiment)
    return experiment


async def change(session: AsyncSession, wanted: ExperimentChange) -> Experiment:
    """Another name or description. Raises ``NotFound`` and ``Conflict``."""
    experiment = await find(session, wanted.id)
    experiment.name = wanted.name
    if wanted.description is not None:
        experiment.description = wanted.description
    await _keep(session, experiment)
    return experiment


async def remove(session: AsyncSession, experiment_id: int) -> None:
    """Take an experiment out of use, with its jobs. Raises ``NotFound``, and ``Conflict`` while one of them runs."""
    experiment = await find(session, experiment_id)
    running = await session.exec(
        select(VisualJob.id)
        .join(Run, col(Run.id) == VisualJob.last_run_id)
        .where(VisualJob.experiment_id == experiment_id, VisualJob.del_flag == 1, col(Run.ended_at).is_(None))
    )
    if ids := running.all():
        raise Conflict(f"Jobs of this experiment run: {', '.join(map(str, ids))}. Stop them first", jobs=list(ids))
    experiment.del_flag = 0
    session.add(experiment)
    await session.exec(update(VisualJob).where(col(VisualJob.experiment_id) == experiment_id).values(del_flag=0))


async def find(session: AsyncSession, experiment_id: int) -> Experiment:
    """An experiment that is in use. Raises ``NotFound``."""
    experiment = await session.get(Experiment, experiment_id)
    if experiment is None or experiment.del_flag != 1:
        raise NotFound(f"There is no experiment {experiment_id}: /visualmodule/experiment/list shows those there are")
    return experiment


async def find_with_run(session: AsyncSession, experiment_id: int) -> Found:
    """An experiment with the newest run of its jobs. Raises ``NotFound``."""
    experiment = await find(session, experiment_id)
    newest = select(func.max(VisualJob.last_run_id)).where(
        VisualJob.experiment_id == experiment_id, VisualJob.del_flag == 1
    )
    return Found(experiment, (await session.exec(select(Run).where(Run.id == newest.scalar_subquery()))).first())


async def page(session: AsyncSession, query: ExperimentQuery) -> tuple[Sequence[Found], int]:
    """One page of the experiments that the query lets through, newest first, and how many there are."""
    newest = (
        select(VisualJob.experiment_id, func.max(VisualJob.last_run_id).label("run_id"))
        .where(VisualJob.del_flag == 1)
        .group_by(col(VisualJob.experiment_id))
        .subquery()
    )
    wanted: list[ColumnElement[bool]] = [
        col(Experiment.del_flag) == 1,
        *containing(Experiment.name, query.name),
        *equal(Experiment.pattern, query.pattern),
        *has_status(query.status, newest.c.run_id),
    ]
    rows = (
        select(Experiment, Run)
        .outerjoin(newest, newest.c.experiment_id == col(Experiment.id))
        .outerjoin(Run, col(Run.id) == newest.c.run_id)
        .where(*wanted)
    )
    total = (await session.exec(select(func.count()).select_from(rows.subquery()))).one()
    some = await session.exec(rows.order_by(col(Experiment.id).desc()).offset(query.offset).limit(query.size))
    return [Found(experiment, run) for experiment, run in some], total


async def _keep(session: AsyncSession, experiment: Experiment) -> None:
    try:
        async with session.begin_nested():
            session.add(experiment)
            await session.flush()
    except IntegrityError:
        raise Conflict(
            f"There is an experiment '{experiment.name}' already: choose another expName", name=experiment.name
        ) from None
