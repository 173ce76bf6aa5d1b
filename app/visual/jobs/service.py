"""The rules of jobs: graphs that are drawn, changed, run and stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, delete, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import now_ms
from app.errors import Conflict, InvalidInput, NotFound, Problem
from app.ids import new_id
from app.supervisor import Run, StopMode, request_stop
from app.visual.catalogue import Framework
from app.visual.choices import Pattern, Purpose
from app.visual.experiments import service as experiments
from app.visual.experiments.models import Experiment
from app.visual.jobs import drawing
from app.visual.jobs.graph import Edge, Node
from app.visual.jobs.models import GraphNode, VisualJob
from app.visual.jobs.wire import AutomaticSearch, JobAddition, JobChange, JobsQuery, NodeBody, NodeChange
from app.visual.runs import KIND


@dataclass(frozen=True, slots=True)
class Found:
    """A job with its newest run."""

    job: VisualJob
    run: Run | None


async def add(session: AsyncSession, wanted: JobAddition) -> tuple[VisualJob, dict[str, int]]:
    """A new job; also the ids of its nodes by the names that they came with. What is drawn may be unfinished.

    Raises:
        NotFound, InvalidInput: no such experiment; an edge names a node that is not there; there is no such search.
    """
    experiment = await experiments.find(session, wanted.experiment_id)
    graph = wanted.graph if wanted.automatic is None else _searching(experiment, wanted, wanted.automatic)
    job = VisualJob(experiment_id=experiment.id, purpose=Purpose.TRAIN if wanted.purpose is None else wanted.purpose)
    session.add(job)
    await session.flush()
    return job, await _draw(session, job, [NodeChange.model_validate(node.model_dump()) for node in graph], {})


async def change(session: AsyncSession, wanted: JobChange) -> tuple[VisualJob, dict[str, int]]:
    """Nodes added, changed and deleted; also the ids of the new ones by the names that they came with.

    Raises:
        NotFound, InvalidInput: no such job or node; an edge names a node that is not there.
        Conflict: it runs.
    """
    found = await find(session, wanted.id, held=True)
    _refuse_while_it_runs(found, "changed")
    job = found.job
    if wanted.purpose is not None:
        job.purpose = wanted.purpose
    known = {str(node.id): node for node in await nodes_of(session, job.id)}
    names = await _draw(session, job, wanted.graph, known)
    job.modify_time = (await session.exec(select(now_ms()))).one()
    session.add(job)
    return job, names


async def remove(session: AsyncSession, job_id: int, experiment_id: int | None) -> None:
    """Take a job out of use.

    Raises:
        NotFound, InvalidInput: there is none; it is of another experiment.
        Conflict: it runs.
    """
    found = await find(session, job_id, held=True)
    if experiment_id is not None and experiment_id != found.job.experiment_id:
        raise InvalidInput(
            Problem(f"job {job_id} is of experiment {found.job.experiment_id}, not {experiment_id}", field="expId")
        )
    _refuse_while_it_runs(found, "deleted")
    found.job.del_flag = 0
    session.add(found.job)


async def stop(session: AsyncSession, job_id: int) -> Run:
    """Ask for the end of a job's run, in the caller's transaction.

    Raises:
        NotFound, Conflict: no such job; it does not run.
    """
    found = await find(session, job_id)
    run = await request_stop(session, found.job.subject, StopMode.CANCEL)
    if run is None:
        raise Conflict(f"Job {job_id} does not run")
    return run


async def needs_data_set(session: AsyncSession, data_id: int) -> str | None:
    """The job that runs and reads a data set, in words."""
    running = await session.exec(select(Run).where(Run.kind == KIND, col(Run.ended_at).is_(None)))
    return next(
        (
            f"{run.subject.replace('visual.', '').replace(':', ' ')}, which runs"
            for run in running
            if data_id in run.spec["datasets"]
        ),
        None,
    )


async def find(session: AsyncSession, job_id: int, *, held: bool = False) -> Found:
    """A job that is in use, with its newest run; ``held``: nobody else changes it until the transaction ends.

    Raises ``NotFound``.
    """
    query = select(VisualJob).where(VisualJob.id == job_id, VisualJob.del_flag == 1)
    job = (await session.exec(query.with_for_update() if held else query)).first()
    if job is None:
        raise NotFound(f"There is no job {job_id}: /visualmodule/job/list shows those there are")
    return Found(job, await session.get(Run, job.last_run_id) if job.last_run_id is not None else None)


async def nodes_of(session: AsyncSession, job_id: int) -> Sequence[GraphNode]:
    """The nodes of a job's graph, in the order in which they were drawn."""
    query = select(GraphNode).where(GraphNode.job_id == job_id).order_by(col(GraphNode.id))
    return (await session.exec(query)).all()


async def page(session: AsyncSession, query: JobsQuery) -> tuple[Sequence[Found], int]:
    """One page of an experiment's jobs, newest first, and how many there are. Raises ``NotFound``."""
    await experiments.find(session, query.experiment_id)
    wanted = [VisualJob.experiment_id == query.experiment_id, VisualJob.del_flag == 1]
    total = (await session.exec(select(func.count()).select_from(VisualJob).where(*wanted))).one()
    rows = await session.exec(
        select(VisualJob, Run)
        .outerjoin(Run, col(Run.id) == VisualJob.last_run_id)
        .where(*wanted)
        .order_by(col(VisualJob.id).desc())
        .offset(query.offset)
        .limit(query.size)
    )
    return [Found(job, run) for job, run in rows], total


def drawn(nodes: Sequence[GraphNode]) -> tuple[list[Node], list[Edge]]:
    """A graph as its check takes it."""
    edges = [
        Edge(int(edge["from_id"]), edge["from_port"], int(edge["to_id"]), edge["to_port"])
        for node in nodes
        for edge in node.edges
    ]
    return [
        Node(node.id, node.component, {one["key"]: one["value"] for one in node.attributes}) for node in nodes
    ], edges


def _searching(experiment: Experiment, wanted: JobAddition, search: AutomaticSearch) -> list[NodeBody]:
    if experiment.pattern != Pattern.AUTOMATIC:
        raise InvalidInput(
            Problem(
                f"experiment {experiment.id} is drawn (expPattern {experiment.pattern})",
                field="automatic",
                remedy=f"make an experiment with expPattern {Pattern.AUTOMATIC.value}, or send a graph",
            )
        )
    if wanted.graph:
        raise InvalidInput(Problem("a search makes its own graph", field="graph", remedy="send one of the two"))
    return drawing.automatic(search, Framework(experiment.framework))


def _refuse_while_it_runs(found: Found, doing: str) -> None:
    if found.run is not None and not found.run.state.ended:
        raise Conflict(
            f"Job {found.job.id} runs: it can be {doing} when it has ended, /visualmodule/job/stop ends it",
            job_id=found.job.id,
        )


async def _draw(
    session: AsyncSession, job: VisualJob, sent: Sequence[NodeChange], known: Mapping[str, GraphNode]
) -> dict[str, int]:
    """Write down nodes as they were sent; the ids of the new ones by their names."""
    _refuse_unknown(sent, known)
    names: dict[str, int] = {}
    kept: list[tuple[NodeChange, int]] = []
    for place, node in enumerate(sent):
        if node.is_deleted:
            continue
        if node.name in known:
            kept.append((node, known[str(node.name)].id))
        else:
            name = node.name or _called_by_its_edges(node, sent, known) or f"#{place}"
            if name in names:
                raise InvalidInput(Problem(f"two new nodes are called {name!r}", field=f"graph.{place}.nodeId"))
            names[name] = new_id()
            kept.append((node, names[name]))
    deleted = {str(node.name) for node in sent if node.is_deleted}
    there = {name: node.id for name, node in known.items() if name not in deleted} | names
    if deleted:
        gone = [known[name].id for name in deleted]
        await session.exec(delete(GraphNode).where(col(GraphNode.id).in_(gone)))
    for name, drawn_before in known.items():
        # An edge goes with the nodes that it ties, wherever it stands.
        left = [edge for edge in drawn_before.edges if not {edge["from_id"], edge["to_id"]} & deleted]
        if name not in deleted and left != drawn_before.edges:
            drawn_before.edges = left
            session.add(drawn_before)
    for node, node_id in kept:
        fields: dict[str, Any] = {
            "top": node.top,
            "left": node.left,
            "component": node.component.uuid,
            "info": node.component.model_dump(by_alias=True, mode="json"),
            "attributes": [one.model_dump(mode="json") for one in node.attributes],
            "edges": _edges(node, there),
        }
        before = known.get(str(node_id))
        if before is None:
            session.add(GraphNode(id=node_id, job_id=job.id, **fields))
        else:
            before.sqlmodel_update(fields)
            session.add(before)
    await session.flush()
    return names


def _refuse_unknown(sent: Sequence[NodeChange], known: Mapping[str, GraphNode]) -> None:
    for place, node in enumerate(sent):
        if node.is_deleted and node.name not in known:
            raise NotFound(f"graph.{place}: there is no node {node.name} that could be deleted")
        if not node.is_deleted and not node.component.uuid.strip():
            raise InvalidInput(
                Problem(
                    "it is not said which component it is",
                    field=f"graph.{place}.cpntInfo.uuid",
                    remedy="take one from /visualmodule/component/structure",
                )
            )
    if twice := _twice([str(node.name) for node in sent if node.name in known]):
        raise InvalidInput(Problem(f"node {twice} is there twice", field="graph"))


def _called_by_its_edges(node: NodeBody, sent: Sequence[NodeBody], known: Mapping[str, GraphNode]) -> str | None:
    """What the edges of a node without a name call it: the one end that all of them have and nobody else is."""
    if not node.edges:
        return None
    others = {other.name for other in sent if other is not node} | set(known)
    ends = set.intersection(*({edge.from_id, edge.to_id} for edge in node.edges)) - others
    return ends.pop() if len(ends) == 1 else None


def _edges(node: NodeBody, there: Mapping[str, int]) -> list[dict[str, str]]:
    edges = []
    for edge in node.edges:
        for end in (edge.from_id, edge.to_id):
            if end not in there:
                raise InvalidInput(
                    Problem(
                        f"an edge names the node {end!r}, which is not in the graph",
                        field="nodeEdge",
                        remedy="give new nodes a nodeId, any name, that their edges call them by",
                    )
                )
        edges.append(
            {
                "from_id": str(there[edge.from_id]),
                "from_port": edge.from_port,
                "to_id": str(there[edge.to_id]),
                "to_port": edge.to_port,
            }
        )
    return edges


def _twice(names: Sequence[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)
