"""Running jobs, and what their runs have to say: checked first, written down, then seen to by the supervisor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import Conflict, InvalidInput, NotFound, Problem, Unavailable
from app.service import Service
from app.settings import Settings
from app.supervisor import Run, State, create_run
from app.visual.catalogue import Component, Framework, ParameterType, Port, catalogue
from app.visual.choices import DataType, Status
from app.visual.datasets.service import Readable, readable
from app.visual.engine.plan import FIGURES, PARTIAL, STATISTIC, NodeState, Progress
from app.visual.experiments import service as experiments
from app.visual.frameworks import lacking
from app.visual.jobs import graph, launch
from app.visual.jobs import service as jobs
from app.visual.jobs.graph import Ready
from app.visual.jobs.models import GraphNode
from app.visual.jobs.service import Found
from app.visual.jobs.wire import JobRun, PortQuery
from app.visual.runs import KIND

_NODE_STATUS: Mapping[NodeState, Status] = {
    NodeState.WAITING: Status.WAITING,
    NodeState.RUNNING: Status.RUNNING,
    NodeState.STOPPED: Status.STOPPED,
    NodeState.SUCCEEDED: Status.SUCCEEDED,
    NodeState.FAILED: Status.FAILED,
}


@dataclass(frozen=True, slots=True)
class NodeStanding:
    """Where a node is in the newest run of its job."""

    status: Status
    reason: str | None = None
    reused: bool = False
    took_ms: int | None = None


def run_folder(settings: Settings, run: Run) -> Path:
    """The folder of a run."""
    return settings.home / launch.RUNS / run.external_id


def place_of(settings: Settings) -> str:
    """Where graphs are run by this replica: on its own machine."""
    return f"machine {settings.machine}"


async def start(service: Service, wanted: JobRun) -> Run:
    """Check a job's graph, write down its run, and have the supervisor see to it.

    Raises:
        NotFound: no such job or node.
        InvalidInput: the graph cannot be run; every problem is named with its node.
        Unavailable: its framework is not installed here.
        Conflict: it runs.
    """
    async with service.database.read() as session:
        found = await jobs.find(session, wanted.id)
        experiment = await experiments.find(session, found.job.experiment_id)
        framework = Framework(experiment.framework)
        if lacks := await lacking(service.settings, framework):
            raise Unavailable(lacks)
        nodes, edges = jobs.drawn(await jobs.nodes_of(session, found.job.id))
        order, problems = graph.check(nodes, edges, catalogue(framework))
        if problems:
            raise InvalidInput(*problems)
        sources = await _sources(session, service.settings, order)
    columns = {
        node: [column.name for column in source.columns]
        for node, source in sources.items()
        if source.kind is DataType.CSV
    }
    if problems := graph.unknown_columns(order, columns):
        raise InvalidInput(*problems)
    chosen, anew = _chosen(order, wanted)
    async with service.database.write() as session:
        found = await jobs.find(session, wanted.id, held=True)
        spec = launch.spec_of(
            order,
            chosen,
            anew,
            sources,
            name=experiment.name,
            place=place_of(service.settings),
            seed=wanted.seed or 0,
            framework=framework,
            before=found.run.external_id if found.run is not None else None,
        )
        run = await create_run(session, KIND, found.job.subject, spec, machine=service.settings.machine)
        found.job.last_run_id = run.id
        session.add(found.job)
    service.supervisor.kick(run)
    return run


async def _sources(session: AsyncSession, settings: Settings, order: Sequence[Ready]) -> dict[int, Readable]:
    """The data sets that nodes read. Raises ``InvalidInput``, which names the node."""
    found: dict[int, Readable] = {}
    for node in order:
        for parameter in node.component.parameters:
            if parameter.type is ParameterType.DATASET and parameter.name in node.parameters:
                try:
                    found[node.id] = await readable(session, settings, node.parameters[parameter.name])
                except (NotFound, InvalidInput) as error:
                    raise InvalidInput(Problem(f"{node.name}: {error.message}", field="nodeAttr")) from error
    return found


async def standings(settings: Settings, run: Run | None, nodes: Sequence[int]) -> dict[int, NodeStanding]:
    """Where each of these nodes is: what the engine wrote down, as far as it can still be so."""
    if run is None:
        return dict.fromkeys(nodes, NodeStanding(Status.WAITING))
    folder = run_folder(settings, run)
    progress = await asyncio.to_thread(lambda: {node: Progress.read(folder, node) for node in nodes})
    taken = {step["id"] for step in run.spec["steps"]} | set(run.spec["kept"])
    return {node: _standing(run, progress[node], part=node in taken) for node in nodes}


def _standing(run: Run, progress: Progress, *, part: bool) -> NodeStanding:
    took_ms = None
    if progress.began_at is not None and progress.ended_at is not None:
        took_ms = progress.ended_at - progress.began_at
    state, reason = progress.state, progress.reason
    if run.state.ended and part and state in (NodeState.WAITING, NodeState.RUNNING):
        # The engine was ended: what it wrote last of this node cannot be so any more.
        died = state is NodeState.RUNNING and run.state in (State.FAILED, State.LOST)
        state, reason = (NodeState.FAILED, run.reason) if died else (NodeState.STOPPED, None)
    return NodeStanding(_NODE_STATUS[state], reason, progress.reused, took_ms)


async def figures(service: Service, query: PortQuery) -> list[dict[str, Any]]:
    """What is drawn of a node's output: while the node runs, what there is by then.

    Raises ``NotFound`` and ``Conflict``.
    """
    _, run, progress = await _output(service, query)
    folder = run_folder(service.settings, run)
    if progress.state is NodeState.SUCCEEDED and progress.key:
        return await _read(service.settings.home / launch.OUTPUTS / progress.key / query.port / FIGURES) or []
    return await _read(folder / PARTIAL / str(query.node_id) / f"{query.port}.json") or []


async def statistic(service: Service, query: PortQuery) -> list[dict[str, Any]]:
    """What is known of the columns of a table that a node brought out. Raises ``NotFound`` and ``Conflict``."""
    return await _read(await output_folder(service, query) / STATISTIC) or []


async def output_folder(service: Service, query: PortQuery) -> Path:
    """Where a node's output is that is there. Raises ``NotFound``, and ``Conflict`` while it is not."""
    name, _, progress = await _output(service, query)
    if progress.state is not NodeState.SUCCEEDED or progress.key is None:
        said = f": {progress.reason}" if progress.reason else ""
        raise Conflict(f"{name} has brought out nothing: it is {progress.state.lower()}{said}")
    folder = service.settings.home / launch.OUTPUTS / progress.key / query.port
    if not await asyncio.to_thread(folder.is_dir):
        raise NotFound(f"What {name} brought out is not kept any more: run the job again")
    return folder


async def port_of(service: Service, query: PortQuery) -> Port:
    """An output port of a job's node. Raises ``NotFound``."""
    async with service.database.read() as session:
        _, component = await _named(session, query)
    port = component.output(query.port)
    assert port is not None
    return port


async def framework_of(service: Service, query: PortQuery) -> Framework:
    """What a job's models are made with. Raises ``NotFound``."""
    async with service.database.read() as session:
        found = await jobs.find(session, query.job_id)
        return Framework((await experiments.find(session, found.job.experiment_id)).framework)


async def _output(service: Service, query: PortQuery) -> tuple[str, Run, Progress]:
    async with service.database.read() as session:
        found, component = await _named(session, query)
    if found.run is None:
        raise Conflict(f"Job {query.job_id} has not been run")
    folder = run_folder(service.settings, found.run)
    name = f"'{component.label.en}' ({query.node_id})"
    return name, found.run, await asyncio.to_thread(Progress.read, folder, query.node_id)


async def _named(session: AsyncSession, query: PortQuery) -> tuple[Found, Component]:
    """The job that is named, and the component of its node, which has the port. Raises ``NotFound``."""
    found = await jobs.find(session, query.job_id)
    node = await session.get(GraphNode, query.node_id)
    if node is None or node.job_id != query.job_id:
        raise NotFound(f"Job {query.job_id} has no node {query.node_id}")
    experiment = await experiments.find(session, found.job.experiment_id)
    component = catalogue(Framework(experiment.framework)).find(node.component)
    if component is None:
        raise NotFound(f"Node {node.id} is of a component that does not exist: {node.component!r}")
    if component.output(query.port) is None:
        there = ", ".join(port.name for port in component.outputs) or "none"
        raise NotFound(f"'{component.label.en}' ({node.id}) has no output '{query.port[:100]}'; it has {there}")
    return found, component


async def log(service: Service, job_id: int, offset: int) -> tuple[str, int, bool]:
    """A piece of the newest run's log, where the next one begins, and whether nothing can follow.

    Raises ``NotFound``.
    """
    async with service.database.read() as session:
        run = (await jobs.find(session, job_id)).run
    if run is None:
        return "", offset, False
    tail = await service.supervisor.tail(run, offset)
    # It had ended before its log was read: what was not there then does not come.
    return tail.text, tail.next_offset, run.state.ended and tail.next_offset == offset + len(tail.text.encode())


def _chosen(order: Sequence[Ready], wanted: JobRun) -> tuple[set[int], set[int]]:
    """The nodes to run, and those of them to run even where an earlier run has done the same."""
    everything = {node.id for node in order}
    if wanted.scope == "all":
        return everything, set()
    if wanted.node is None:
        raise InvalidInput(
            Problem(f"scope {wanted.scope} is about a node", field="nodeId", remedy="name it, or leave scope out")
        )
    if wanted.node not in everything:
        raise NotFound(f"Job {wanted.id} has no node {wanted.node}")
    if wanted.scope == "to":
        return graph.needed_for(order, [wanted.node]), set()
    anew = graph.after(order, wanted.node) if wanted.scope == "from" else {wanted.node}
    return graph.needed_for(order, anew), anew


async def _read(path: Path) -> Any:
    try:
        return json.loads(await asyncio.to_thread(path.read_bytes))
    except FileNotFoundError:
        return None
