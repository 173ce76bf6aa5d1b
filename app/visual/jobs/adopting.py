"""What a search has found becomes an ordinary job: a graph that can be looked at, changed and run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import Conflict, InvalidInput, NotFound, Problem
from app.service import Service
from app.supervisor import Run
from app.visual.catalogue import Catalogue, Framework, PortType, catalogue
from app.visual.choices import Learning, Pattern, Purpose
from app.visual.engine.plan import Drawing
from app.visual.experiments import service as experiments
from app.visual.experiments.models import LONGEST_NAME, Experiment
from app.visual.experiments.wire import ExperimentAddition
from app.visual.jobs import drawing, running
from app.visual.jobs import service as jobs
from app.visual.jobs.models import GraphNode, VisualJob
from app.visual.jobs.wire import Adopted, Adoption, ComponentInfo, JobAddition, NodeBody, PortQuery

_NAMES = 100
"""So many names are tried for a new experiment."""


@dataclass(frozen=True)
class _Source:
    """The node that a graph was found by, in the run in which it was."""

    run: Run
    node: int
    drawn: Sequence[GraphNode]
    """Its job's nodes as they are now: where they stand is where they are drawn."""

    @property
    def origin(self) -> str:
        """Names what is adopted."""
        return f"{self.run.external_id}:{self.node}"


async def adopt(service: Service, wanted: Adoption) -> Adopted:
    """Make a job of the graph that a search has found, with all that its rows came through before.

    Asked again, for the same run and the same place, it is the same job as long as that is in use.

    Raises:
        NotFound: no such job, node or experiment; what was found is not kept any more.
        InvalidInput: no node searches, or several do; the experiment is of another framework.
        Conflict: nothing has been found yet.
    """
    async with service.database.read() as session:
        job = (await jobs.find(session, wanted.id)).job
        experiment = await experiments.find(session, job.experiment_id)
        known = catalogue(Framework(experiment.framework))
        nodes = await jobs.nodes_of(session, job.id)
        searching, port = _searching(wanted, nodes, known)
        run_id = job.last_run_id
    folder = await running.output_folder(service, PortQuery(job_id=job.id, node_id=searching.id, port=port))
    try:
        found = await asyncio.to_thread(Drawing.read, folder)
    except FileNotFoundError:
        raise NotFound(f"What job {job.id} found is not kept any more: run it again") from None
    async with service.database.write() as session:
        # Held, so that of several that ask at once one makes it and the others find it.
        job = (await jobs.find(session, wanted.id, held=True)).job
        if job.last_run_id != run_id:
            raise Conflict(f"Job {job.id} was run again meanwhile: ask again when it has ended")
        source = _Source(await _run_of(session, job, searching.id), searching.id, nodes)
        graph = _graph(source, found, known)
        if (made := await _adopted(session, source.origin, wanted.experiment_id)) is not None:
            names = _names(graph, await jobs.nodes_of(session, made.id))
            return _answer(source, made, names, is_new=False)
        place = await _place(session, wanted, job, experiment)
        addition = JobAddition(experiment_id=place, purpose=Purpose.TRAIN, graph=graph)
        made, names = await jobs.add(session, addition)
        made.origin = source.origin
        session.add(made)
        return _answer(source, made, names, is_new=True)


def _searching(wanted: Adoption, nodes: Sequence[GraphNode], known: Catalogue) -> tuple[GraphNode, str]:
    """The node that searches, and the port at which it brings out a graph."""
    if wanted.node is not None and all(node.id != wanted.node for node in nodes):
        raise NotFound(f"Job {wanted.id} has no node {wanted.node}")
    found = [
        (node, port.name)
        for node in nodes
        if wanted.node in (None, node.id) and (component := known.find(node.component)) is not None
        for port in component.outputs
        if port.type is PortType.GRAPH
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        of = (
            f"job {wanted.id} has no node that searches"
            if wanted.node is None
            else f"node {wanted.node} finds no graph"
        )
        raise InvalidInput(Problem(of, field="nodeId", remedy="adopt what an automatic search has found"))
    ids = ", ".join(str(node.id) for node, _ in found)
    raise InvalidInput(Problem(f"several nodes of job {wanted.id} search", field="nodeId", remedy=f"name one of {ids}"))


async def _run_of(session: AsyncSession, job: VisualJob, node: int) -> Run:
    """The newest run that the node had a part in: later ones, of other parts of the graph, have kept what it found."""
    runs = select(Run).where(Run.subject == job.subject).order_by(col(Run.id).desc())
    for run in await session.exec(runs):
        if any(step["id"] == node for step in run.spec["steps"]):
            return run
    raise NotFound(f"The run in which node {node} was run is not known any more: run job {job.id} again")


async def _adopted(session: AsyncSession, origin: str, experiment_id: int | None) -> VisualJob | None:
    made = select(VisualJob).where(VisualJob.origin == origin, VisualJob.del_flag == 1).order_by(col(VisualJob.id))
    if experiment_id is not None:
        made = made.where(VisualJob.experiment_id == experiment_id)
    return (await session.exec(made)).first()


async def _place(session: AsyncSession, wanted: Adoption, job: VisualJob, experiment: Experiment) -> int:
    """The experiment that the new job goes into."""
    if wanted.experiment_id is not None:
        place = await experiments.find(session, wanted.experiment_id)
        if place.framework != experiment.framework:
            raise InvalidInput(
                Problem(
                    f"experiment {place.id} is of {Framework(place.framework).name.lower()}",
                    field="expId",
                    remedy=f"name one of {Framework(experiment.framework).name.lower()}, or none",
                )
            )
        return place.id
    if experiment.pattern == Pattern.DRAWN:
        return experiment.id
    for number in range(1, _NAMES + 1):
        ending = " (drawn)" if number == 1 else f" (drawn {number})"
        try:
            made = await experiments.add(
                session,
                ExperimentAddition(
                    name=experiment.name[: LONGEST_NAME - len(ending)] + ending,
                    pattern=Pattern.DRAWN,
                    learning=Learning(experiment.learning),
                    framework=Framework(experiment.framework),
                    description=f"Found by job {job.id} of experiment '{experiment.name}'",
                ),
            )
        except Conflict:
            continue
        return made.id
    raise Conflict(f"{_NAMES} experiments are called as this one: name by expId where the graph is to go")


def _graph(source: _Source, found: Drawing, known: Catalogue) -> list[NodeBody]:
    """The nodes before the search as they were run, and those that it found in its place."""
    steps: Mapping[int, Mapping[str, Any]] = {step["id"]: step for step in source.run.spec["steps"]}
    drawn = {node.id: node for node in source.drawn}
    graph = [
        drawing.drawn(
            str(node),
            _info(steps[node]["component"], known, drawn.get(node)),
            steps[node]["parameters"],
            {port: (str(other), output) for port, (other, output) in steps[node]["inputs"].items()},
            _place_of(drawn.get(node)),
        )
        for node in sorted(_before(source.node, steps))
    ]
    around = {port: (str(node), output) for port, (node, output) in steps[source.node]["inputs"].items()}
    top, left = _place_of(drawn.get(source.node))
    return graph + [
        drawing.drawn(
            one.name,
            _info(one.component, known),
            one.parameters,
            {port: around[end[1]] if end[0] == Drawing.INPUT else end for port, end in one.inputs.items()},
            (top + number * drawing.STEP_PX, left),
        )
        for number, one in enumerate(found.nodes)
    ]


def _before(node: int, steps: Mapping[int, Mapping[str, Any]]) -> set[int]:
    """All that a node needs, directly or not."""
    found: set[int] = set()
    left = [node]
    while left:
        sources = {source for source, _ in steps[left.pop()]["inputs"].values()} - found
        found |= sources
        left += sources
    return found


def _info(uuid: str, known: Catalogue, drawn: GraphNode | None = None) -> ComponentInfo:
    """What its client said of a component, or else what we say; one that is gone is told of when it is to be run."""
    if drawn is not None and drawn.component == uuid:
        return ComponentInfo.model_validate(drawn.info)
    component = known.find(uuid)
    return ComponentInfo(uuid=uuid) if component is None else drawing.described(component)


def _place_of(node: GraphNode | None) -> tuple[int, int]:
    return (drawing.TOP_PX, drawing.LEFT_PX) if node is None else (node.top, node.left)


def _names(graph: Sequence[NodeBody], nodes: Sequence[GraphNode]) -> dict[str, int]:
    """The ids of an adopted graph's nodes, which are in the order in which they were drawn, unless it was changed."""
    if [one.component.uuid for one in graph] != [node.component for node in nodes]:
        return {}
    return {str(one.name): node.id for one, node in zip(graph, nodes, strict=True)}


def _answer(source: _Source, made: VisualJob, names: Mapping[str, int], *, is_new: bool) -> Adopted:
    return Adopted(
        experiment_id=made.experiment_id,
        id=made.id,
        node_ids=dict(names),
        is_new=is_new,
        seed=source.run.spec["seed"],
    )
