"""Models that graphs bring in: what other jobs have trained, pinned when a run begins.

A reference names a job, and its node, port and run where there are several. What it comes to, an output by its key, is
written into the spec of the run that uses it: whatever becomes of the other job later, it was that model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import Conflict, HlinkError, InvalidInput, NotFound, Problem
from app.settings import Settings
from app.supervisor import Run
from app.visual.catalogue import Catalogue, Component, Framework, Parameter, ParameterType, PortType, catalogue
from app.visual.engine.plan import ABOUT, NodeState, Progress
from app.visual.experiments import service as experiments
from app.visual.jobs import service as jobs
from app.visual.jobs.folders import OUTPUTS, run_folder
from app.visual.jobs.graph import read_value
from app.visual.jobs.models import GraphNode, VisualJob
from app.visual.jobs.service import Found
from app.visual.jobs.wire import ModelReference
from app.visual.own import service as own

LEARNING_STAGES = ("algorithm", "own")


@dataclass(frozen=True, slots=True)
class Trained:
    """An output of a run that has come out."""

    job_id: int
    run_id: int
    node_id: int
    port: str
    key: str

    def path(self, settings: Settings) -> Path:
        """Its folder."""
        return settings.home / OUTPUTS / self.key / self.port


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model comes out, whether it has or not."""

    job_id: int
    run: Run | None
    node_id: int
    name: str
    """The node's, for messages."""
    port: str
    type: PortType


def parameter_of(component: Component) -> Parameter | None:
    """The parameter by which a component is told which model it brings in; None for one that brings in none."""
    return next((one for one in component.parameters if one.type is ParameterType.MODEL), None)


def type_of(component: Component) -> PortType:
    """What a component that brings in a model brings in."""
    return component.outputs[0].type


def reference_of(value: Any) -> ModelReference:
    """The reference that is the value of such a parameter. Raises ``InvalidInput``."""
    try:
        return ModelReference.model_validate(value)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise InvalidInput(
            Problem(f"{'.'.join(map(str, wrong['loc']))} of a model's reference: {wrong['msg']}", field="nodeAttr")
        ) from None


async def place(session: AsyncSession, reference: ModelReference, types: Sequence[PortType]) -> Place:
    """The output that is meant, of the first of these types that the job brings out.

    Raises:
        NotFound: no such job, run or node.
        InvalidInput: the job brings out none, or several.
    """
    found = await jobs.find(session, reference.job_id)
    run = await _run(session, found, reference.run_id)
    components = await _components(session, found, run)
    if reference.node_id is not None and reference.node_id not in components:
        raise NotFound(f"Job {reference.job_id} has no node {reference.node_id}")
    # Nodes that prepare rows bring out pipelines, too: nobody means them who does not name them.
    meant = [
        node
        for node, component in components.items()
        if (component.stage in LEARNING_STAGES if reference.node_id is None else node == reference.node_id)
    ]
    some = [
        Place(reference.job_id, run, node, f"'{components[node].label.en}' ({node})", port.name, port.type)
        for node in meant
        for port in components[node].outputs
        if reference.port in (None, port.name) and port.type in types
    ]
    if not some:
        who = "no algorithm" if reference.node_id is None else f"node {reference.node_id} is none that"
        at = f" at the port '{reference.port}'" if reference.port else ""
        raise InvalidInput(
            Problem(
                f"of job {reference.job_id}, {who} brings out a {' or '.join(types)}{at}",
                field="model",
                remedy="name a node and its port by nodeId and portName",
            )
        )
    best = min(types.index(one.type) for one in some)
    some = [one for one in some if types.index(one.type) == best]
    if len(some) > 1:
        named = ", ".join(f"{one.name} at '{one.port}'" for one in some)
        raise InvalidInput(
            Problem(
                f"several nodes of job {reference.job_id} bring out a model: {named}",
                field="model",
                remedy="name one of them by nodeId and portName",
            )
        )
    return some[0]


async def pin(session: AsyncSession, settings: Settings, reference: ModelReference, kind: PortType) -> Trained:
    """The model as it is now.

    Raises:
        NotFound: no such job, run or node; the model is not kept any more.
        InvalidInput: the job brings out no model of this type, or several.
        Conflict: it has not come out.
    """
    meant = await place(session, reference, [kind])
    if meant.run is None:
        raise Conflict(f"Job {meant.job_id} has not been run, and there is no model of it: run it first")
    progress = await asyncio.to_thread(Progress.read, run_folder(settings, meant.run), meant.node_id)
    if progress.state is not NodeState.SUCCEEDED or progress.key is None:
        raise Conflict(_why_there_is_none(meant, meant.run, progress))
    trained = Trained(meant.job_id, meant.run.id, meant.node_id, meant.port, progress.key)
    if not await asyncio.to_thread((trained.path(settings) / ABOUT).exists):
        raise NotFound(f"The model of {meant.name} of job {meant.job_id} is not kept any more: run that job again")
    return trained


async def referred(session: AsyncSession, settings: Settings) -> set[str]:
    """The keys of the outputs that jobs in use would bring in if they were run now: they have to be kept."""
    bringing = {
        component.uuid: (parameter, type_of(component))
        for framework in Framework
        for component in catalogue(framework).components
        if (parameter := parameter_of(component)) is not None
    }
    nodes = await session.exec(
        select(GraphNode)
        .join(VisualJob, col(VisualJob.id) == GraphNode.job_id)
        .where(VisualJob.del_flag == 1, col(GraphNode.component).in_(bringing))
    )
    keys = set()
    for node in nodes.all():
        parameter, kind = bringing[node.component]
        value = next((one["value"] for one in node.attributes if one["key"] == parameter.name), None)
        try:
            keys.add((await pin(session, settings, reference_of(read_value(parameter, value)), kind)).key)
        except HlinkError:
            continue  # what is wrong with it is told to whoever runs it
    return keys


async def _run(session: AsyncSession, found: Found, run_id: int | None) -> Run | None:
    if run_id is None:
        return found.run
    run = await session.get(Run, run_id)
    if run is None or run.subject != found.job.subject:
        raise NotFound(f"Job {found.job.id} has no run {run_id}")
    return run


async def _components(session: AsyncSession, found: Found, run: Run | None) -> Mapping[int, Component]:
    """Node -> component: of the graph as it was run, and of what else is drawn now."""
    experiment = await experiments.find(session, found.job.experiment_id)
    known: Catalogue = await own.known(session, Framework(experiment.framework))
    uuids = {node.id: node.component for node in await jobs.nodes_of(session, found.job.id)}
    if run is not None:
        uuids |= {step["id"]: step["component"] for step in run.spec["steps"]}
    return {node: component for node, uuid in uuids.items() if (component := known.find(uuid)) is not None}


def _why_there_is_none(meant: Place, run: Run, progress: Progress) -> str:
    of = f"{meant.name} of job {meant.job_id}"
    if not run.state.ended:
        return f"{of} has not brought out its model yet: wait until that job has ended, or name an earlier run by runId"
    if progress.state is NodeState.FAILED:
        return f"There is no model of {of}, which failed ({progress.reason}): mend it, and run that job again"
    return f"There is no model of {of}, which was not run to its end: run that job again"
