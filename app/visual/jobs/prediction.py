"""Predictions with a trained model: the graph for those who name a model and a data set only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from app.errors import InvalidInput, Problem
from app.visual.catalogue import Catalogue, Component, Framework, ParameterType, PortType
from app.visual.choices import FRAMEWORKS, Purpose
from app.visual.experiments import service as experiments
from app.visual.jobs import trained
from app.visual.jobs.wire import AttributeView, ComponentInfo, EdgeView, JobAddition, NodeBody, Port, Ports
from app.visual.own import service as own

_DATA, _MODEL, _APPLY = "data", "model", "predict"
"""What the nodes are called."""


async def with_graph(session: AsyncSession, wanted: JobAddition) -> JobAddition:
    """A new job as it is to be drawn: where a model and a data set are named, with the graph that applies the one to
    the rows of the other.

    Raises:
        NotFound: no such experiment, job or node.
        InvalidInput: something is missing or contradicts the rest; it is not clear which model is meant.
    """
    if wanted.model is None:
        if wanted.data_id is not None:
            raise InvalidInput(
                Problem("it is not said which model is to predict", field="model", remedy="name its job")
            )
        return wanted
    if wanted.purpose is Purpose.TRAIN:
        raise InvalidInput(
            Problem("a job with a model predicts", field="jobPattern", remedy="use jobPattern 0, or leave model out")
        )
    if wanted.graph:
        raise InvalidInput(
            Problem("the graph is drawn from model and dataId", field="graph", remedy="leave it out, or leave them out")
        )
    if wanted.data_id is None:
        raise InvalidInput(
            Problem("it is not said which rows are to be predicted", field="dataId", remedy="name a data set")
        )
    experiment = await experiments.find(session, wanted.experiment_id)
    known = await own.known(session, Framework(experiment.framework))
    offered = {trained.type_of(one): one for one in known.components if trained.parameter_of(one) is not None}
    if not offered:
        raise InvalidInput(
            Problem(
                f"experiment {experiment.id} is of {FRAMEWORKS[Framework(experiment.framework)][0]}, which has no "
                "component that brings in a model",
                field="expId",
                remedy="name an experiment of the framework that the model was trained with",
            )
        )
    # A model alone takes rows that were prepared as its own were, which nobody wants who does not name its port.
    types = [kind for kind in offered if kind is not PortType.MODEL or wanted.model.port is not None]
    meant = await trained.place(session, wanted.model, types)
    reference: dict[str, Any] = {"jobId": meant.job_id, "nodeId": meant.node_id, "portName": meant.port}
    if wanted.model.run_id is not None:
        reference["runId"] = wanted.model.run_id
    graph = _drawn(known, offered[meant.type], reference, wanted.data_id)
    return wanted.model_copy(update={"purpose": Purpose.PREDICT, "graph": graph})


def _drawn(known: Catalogue, bringing: Component, reference: dict[str, Any], data_id: int) -> list[NodeBody]:
    reader = _the(known, lambda one: not one.inputs and bool(_parameters(one, ParameterType.DATASET)))
    kinds = {trained.type_of(bringing), PortType.TABLE}
    applying = _the(
        known,
        lambda one: (
            {port.type for port in one.inputs} == kinds and [port.type for port in one.outputs] == [PortType.TABLE]
        ),
    )
    ends = {port.type: port.name for port in applying.inputs}
    ties = [
        EdgeView(from_id=name, from_port=source.outputs[0].name, to_id=_APPLY, to_port=ends[source.outputs[0].type])
        for name, source in ((_DATA, reader), (_MODEL, bringing))
    ]
    return [
        _node(_DATA, reader, 100, 100, dict.fromkeys(_parameters(reader, ParameterType.DATASET), data_id)),
        _node(_MODEL, bringing, 100, 400, dict.fromkeys(_parameters(bringing, ParameterType.MODEL), reference)),
        _node(_APPLY, applying, 300, 250, {}, ties),
    ]


def _the(known: Catalogue, fits: Callable[[Component], bool]) -> Component:
    """The first component that fits; our own files see to it that there is one."""
    return next(one for one in known.components if fits(one))


def _parameters(component: Component, kind: ParameterType) -> list[str]:
    return [one.name for one in component.parameters if one.type is kind]


def _node(
    name: str,
    component: Component,
    top: int,
    left: int,
    parameters: dict[str, Any],
    edges: list[EdgeView] | None = None,
) -> NodeBody:
    ports = Ports(
        inputs=[Port(name=one.name, dtype=one.type) for one in component.inputs],
        outputs=[Port(name=one.name, dtype=one.type) for one in component.outputs],
    )
    return NodeBody(
        name=name,
        top=top,
        left=left,
        edges=edges or [],
        attributes=[AttributeView(key=key, value=value) for key, value in parameters.items()],
        component=ComponentInfo(uuid=component.uuid, name=component.name, desc=component.label.zh, ports=ports),
    )
