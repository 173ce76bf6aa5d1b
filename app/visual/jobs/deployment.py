"""Trained models as functions of stream jobs: what a node brought out is made one by the family of these."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.errors import InvalidInput, NotFound, Problem, Unavailable
from app.service import MODEL_FUNCTIONS, ModelFunction, ModelFunctions, Service
from app.visual.catalogue import PortType
from app.visual.frameworks import OWN
from app.visual.jobs import downloads, running
from app.visual.jobs.wire import ArgumentView, Deployment, DeploymentView, FunctionView, ModelFormat, ModelQuery
from app.visual.onnx_metadata import metadata
from stream_jobs.definitions import Feature, Model
from stream_jobs.sql.quoting import identifier

_SQL: Mapping[str, str] = {"double": "DOUBLE", "int64": "BIGINT", "bool": "BOOLEAN", "string": "STRING"}
"""Of what an exported model takes and gives (:mod:`app.visual.engine.portable`); times have a type by their zone."""
_CLASSES, _PROBABILITIES, _VALUES = "label", "probabilities", "value"
"""Its outputs."""


async def deploy(service: Service, wanted: Deployment) -> DeploymentView:
    """Make a model, or a pipeline, functions of stream jobs.

    Raises:
        NotFound, Conflict: no such output; it has not come out; the name is something else's.
        InvalidInput: what comes out there is no model, or none that predicts; the name.
        Unavailable: the model cannot be exported; stream jobs are not served here; the functions could not be made.
    """
    functions: ModelFunctions | None = service.parts.get(MODEL_FUNCTIONS)
    if functions is None:
        raise Unavailable("Stream jobs are not served here: there is nothing that a model could be deployed to")
    port = await running.port_of(service, wanted)
    if port.type not in (PortType.MODEL, PortType.PIPELINE):
        raise InvalidInput(
            Problem(
                f"what comes out at '{port.name}' is of type {port.type}, and no model",
                field="portName",
                remedy="name the port of a model or of a pipeline",
            )
        )
    if await running.framework_of(service, wanted) in OWN:
        raise InvalidInput(
            Problem(
                "networks are not scored by stream jobs",
                field="jobId",
                remedy="deploy a model of an experiment with frameId 1, or predict in a job of jobPattern 0",
            )
        )
    query = ModelQuery(job_id=wanted.job_id, node_id=wanted.node_id, port=wanted.port, format=ModelFormat.ONNX)
    instead = "deploy another kind of model, or predict in a job of jobPattern 0"
    file = await downloads.model_file(service, query, port.type, otherwise=instead)
    about = f"{wanted.port} of node {wanted.node_id} of job {wanted.job_id} of visual experiments"
    try:
        model = await asyncio.to_thread(described, file)
        return _view(model, await functions(wanted.name, model, file, about))
    except FileNotFoundError:
        raise NotFound("What the node brought out is not kept any more: run the job again") from None


def described(file: Path) -> Model:
    """What an exported model says of itself, as stream jobs need it.

    Raises:
        InvalidInput: it predicts nothing.
    """
    told = metadata(file)
    outputs = {one["name"]: one["type"] for one in json.loads(told["hlink.outputs"])}
    output = next((name for name in (_CLASSES, _VALUES) if name in outputs), None)
    if output is None:
        raise InvalidInput(
            Problem(
                f"a {told['hlink.task']} predicts nothing",
                field="portName",
                remedy="deploy the pipeline of a model that comes after it, which has this in it",
            )
        )
    return Model(
        features=tuple(
            Feature(one["column"], one["name"], _type(one["type"], one["dtype"]))
            for one in json.loads(told["hlink.inputs"])
        ),
        output=output,
        result=_SQL[outputs[output]],
        probabilities=_PROBABILITIES if _PROBABILITIES in outputs else "",
        classes=tuple(map(str, json.loads(told["hlink.classes"]))),
        takes_missing=json.loads(told["hlink.missing"]),
    )


def _type(kind: str, dtype: str) -> str:
    if kind == "time":
        return "TIMESTAMP_LTZ(3)" if "," in dtype else "TIMESTAMP(3)"
    return _SQL[kind]


def _view(model: Model, made: Sequence[ModelFunction]) -> DeploymentView:
    columns = ", ".join(identifier(feature.name) for feature in model.features)
    return DeploymentView(
        functions=[
            FunctionView(
                id=one.id,
                name=one.name,
                version=one.version,
                returns=one.result,
                gives=_gives(model, one.probability),
                example=f"{one.name}({columns})",
            )
            for one in made
        ],
        arguments=[
            ArgumentView(column=feature.name, name=name, type=feature.type)
            for feature, name in zip(model.features, model.arguments, strict=True)
        ],
        classes=list(model.classes),
        takes_missing=model.takes_missing,
    )


def _gives(model: Model, probability: bool) -> str:
    what = "class" if model.classes else "value" if model.output == _VALUES else "cluster"
    if not probability:
        return f"the {what}"
    return f"the probability of '{model.positive}'" if model.positive else f"the probability of the likeliest {what}"
