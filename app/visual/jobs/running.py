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
from app.visual.catalogue import Component, Framework, ParameterType, Port
from app.visual.choices import DataType, Purpose, Status
from app.visual.datasets.service import Readable, readable
from app.visual.engine.plan import PARTIAL, STATISTIC, NodeState, Progress
from app.visual.experiments import service as experiments
from app.visual.experiments.models import Experiment
from app.visual.frameworks import lacking
from app.visual.jobs import graph, launch
from app.visual.jobs import service as jobs
from app.visual.jobs.folders import OUTPUTS, run_folder
from app.visual.jobs.graph import Ready
from app.visual.jobs.models import GraphNode
from app.visual.jobs.service import Found
from app.visual.jobs.trained import Trained, parameter_of, pin, reference_of, type_of
from app.visual.jobs.wire import JobRun, PortQuery
from app.visual.own import service as own
from app.visual.runs import KIND

_NODE_STATUS: Mapping[NodeState, Status] = {
    NodeState.WAITING: Status.WAITING,
    NodeState.RUNNING: Status.RUNNING,
    NodeState.STOPPED: Status.STOPPED,
    NodeState.SUCCEEDED: Status.SUCCEEDED,
    NodeState.FAILED: Status.FAILED,
}


_BRINGS_NO_MODEL = Problem(
    "a job of jobPattern 0 predicts with a model that was trained before, and its graph brings in none",
    field="graph",
    remedy="draw a node that does, or use jobPattern 1",
)


@dataclass(frozen=True, slots=True)
class NodeStanding:
    """Where a node is in the newest run of its job."""

    status: Status
    reason: str | None = None
    reused: bool = False
    took_ms: int | None = None


def figures_file(settings: Settings, run: Run, node: int, port: str) -> Path:
    """Where a run has what is drawn of an output; it stays when the output itself is not kept any more."""
    return run_folder(settings, run) / PARTIAL / str(node) / f"{port}.json"


def place_of(settings: Settings) -> str:
    """Where graphs are run by this replica: on its own machine."""
    return f"machine {settings.machine}"


async def start(service: Service, wanted: JobRun) -> Run:
    """Check a job's graph, write down its run, and have the supervisor see to it.

    Raises:
        NotFound: no such job or node.
        InvalidInput: the graph cannot be run; every problem is named with its node.
        Unavailable: its framework is not installed here.
        Conflict: it runs; a model that it brings in has not come out.
    """
    checked = await check(service, wanted.id)
    order, experiment = checked.order, checked.experiment
    chosen, anew = _chosen(order, wanted)
    ours = [node for node in order if node.id in chosen]
    async with service.database.read() as session:
        brought = await models(session, service.settings, ours)
    code = await asyncio.to_thread(own.code_of, service.settings, {node.id: node.component for node in ours})
    async with service.database.write() as session:
        found = await jobs.find(session, wanted.id, held=True)
        spec = launch.spec_of(
            order,
            chosen,
            anew,
            {**checked.sources, **brought, **code},
            settings=service.settings,
            name=experiment.name,
            place=place_of(service.settings),
            seed=wanted.seed or 0,
            framework=Framework(experiment.framework),
            before=found.run.external_id if found.run is not None else None,
        )
        run = await create_run(session, KIND, found.job.subject, spec, machine=service.settings.machine)
        found.job.last_run_id = run.id
        session.add(found.job)
    service.supervisor.kick(run)
    return run


@dataclass(frozen=True, slots=True)
class Checked:
    """A job's graph that can be run, as it is drawn now."""

    experiment: Experiment
    run: Run | None
    """The newest one."""
    order: Sequence[Ready]
    sources: Mapping[int, Readable]
    """The data sets that nodes read."""


async def check(service: Service, job_id: int) -> Checked:
    """Raises ``NotFound``, ``InvalidInput`` and ``Unavailable`` as :func:`start` does."""
    async with service.database.read() as session:
        found = await jobs.find(session, job_id)
        experiment = await experiments.find(session, found.job.experiment_id)
        framework = Framework(experiment.framework)
        if lacks := await lacking(service.settings, framework):
            raise Unavailable(lacks)
        nodes, edges = jobs.drawn(await jobs.nodes_of(session, found.job.id))
        order, problems = graph.check(nodes, edges, await own.known(session, framework))
        if found.job.purpose == Purpose.PREDICT and all(parameter_of(node.component) is None for node in order):
            problems = [*problems, _BRINGS_NO_MODEL]
        if problems:
            raise InvalidInput(*problems)
        sources = await _sources(session, service.settings, order)
    columns = {
        node: [column.name for column in source.columns]
        for node, source in sources.items()
        if source.kind is DataType.CSV
    }
    if problems := graph.unknown_columns(order, columns) + _too_long(order, service.settings):
        raise InvalidInput(*problems)
    return Checked(experiment, found.run, order, sources)


def _too_long(order: Sequence[Ready], settings: Settings) -> list[Problem]:
    """Searches that would be ended before their time is up."""
    most = settings.visual_time_s
    return [
        Problem(
            f"{node.name}: its parameter 'time_budget' is {budget:g} s, and an experiment may run {most:g} s here",
            field="nodeAttr",
            remedy="take less, or have HLINK_VISUAL_TIME_S raised",
        )
        for node in order
        if most and (budget := node.parameters.get("time_budget", 0.0)) >= most
    ]


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


async def models(session: AsyncSession, settings: Settings, nodes: Sequence[Ready]) -> dict[int, Trained]:
    """The models that nodes bring in, as they are now.

    Raises ``InvalidInput`` and ``Conflict``, which name the node.
    """
    found: dict[int, Trained] = {}
    for node in nodes:
        if (parameter := parameter_of(node.component)) is None:
            continue
        try:
            reference = reference_of(node.parameters[parameter.name])
            found[node.id] = await pin(session, settings, reference, type_of(node.component))
        except (NotFound, InvalidInput) as error:
            raise InvalidInput(Problem(f"{node.name}: {error.message}", field="nodeAttr")) from error
        except Conflict as error:
            raise Conflict(f"{node.name}: {error.message}") from error
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
    _, run, _ = await _output(service, query)
    return await _read(figures_file(service.settings, run, query.node_id, query.port)) or []


async def statistic(service: Service, query: PortQuery) -> list[dict[str, Any]]:
    """What is known of the columns of a table that a node brought out. Raises ``NotFound`` and ``Conflict``."""
    return await _read(await output_folder(service, query) / STATISTIC) or []


async def output_folder(service: Service, query: PortQuery) -> Path:
    """Where a node's output is that is there. Raises ``NotFound``, and ``Conflict`` while it is not."""
    name, _, progress = await _output(service, query)
    if progress.state is not NodeState.SUCCEEDED or progress.key is None:
        said = f": {progress.reason}" if progress.reason else ""
        raise Conflict(f"{name} has brought out nothing: it is {progress.state.lower()}{said}")
    folder = service.settings.home / OUTPUTS / progress.key / query.port
    if not await asyncio.to_thread(folder.is_dir):
        raise NotFound(f"What {name} brought out is not kept any more: run the job again")
    return folder


async def port_of(service: Service, query: PortQuery) -> Port:
    """An output port of a job's node. Raises ``NotFound``."""
    async with service.database.read() as session:
        _, component = await named(session, query)
    port = component.output(query.port)
    assert port is not None
    return port


async def framework_of(service: Service, query: PortQuery) -> Framework:
    """What a job's models are made with. Raises ``NotFound``."""
    async with service.database.read() as session:
        found = await jobs.find(session, query.job_id)
        return Framework((await experiments.find(session, found.job.experiment_id)).framework)


async def tables_before(service: Service, query: PortQuery) -> tuple[int, list[Path]]:
    """A run's seed, and the folders of the tables that a node's output was made of, as far as they are kept.

    The nearest comes first. Raises ``NotFound`` and ``Conflict``.
    """
    _, run, _ = await _output(service, query)
    ends = {step["id"]: list(step["inputs"].values()) for step in run.spec["steps"]}
    tables = [tuple(end) for end in ends.get(query.node_id, ())]
    for node, _ in tables:  # which grows meanwhile: from the nodes before to those before them
        tables += [end for one in ends.get(node, ()) if (end := tuple(one)) not in tables]
    folder, outputs = run_folder(service.settings, run), service.settings.home / OUTPUTS
    progress = await asyncio.to_thread(lambda: {node: Progress.read(folder, node) for node, _ in tables})
    return run.spec["seed"], [outputs / key / port for node, port in tables if (key := progress[node].key)]


async def _output(service: Service, query: PortQuery) -> tuple[str, Run, Progress]:
    async with service.database.read() as session:
        found, component = await named(session, query)
    if found.run is None:
        raise Conflict(f"Job {query.job_id} has not been run")
    folder = run_folder(service.settings, found.run)
    name = f"'{component.label.en}' ({query.node_id})"
    return name, found.run, await asyncio.to_thread(Progress.read, folder, query.node_id)


async def named(session: AsyncSession, query: PortQuery) -> tuple[Found, Component]:
    """The job that is named, and the component of its node, which has the port. Raises ``NotFound``."""
    found = await jobs.find(session, query.job_id)
    node = await session.get(GraphNode, query.node_id)
    if node is None or node.job_id != query.job_id:
        raise NotFound(f"Job {query.job_id} has no node {query.node_id}")
    experiment = await experiments.find(session, found.job.experiment_id)
    component = await own.component(session, Framework(experiment.framework), node.component)
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
