"""The components that graphs are made of: data in ``schemas/components``, checked when it is read.

A component says what the page shows (labels, ports, parameters) and what the engine runs: the name of a step
(:mod:`app.visual.engine.steps`) and, where the step is one for many, the library's class that it is run with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

FOLDER = Path(__file__).resolve().parents[2] / "schemas" / "components"


class Framework(IntEnum):
    """What an experiment's models are made with (wire: ``frameId``)."""

    SKLEARN = 1
    TENSORFLOW = 2
    MXNET = 3
    PYTORCH = 4


class PortType(StrEnum):
    """What flows over an edge."""

    TABLE = "data"
    NETWORK = "network"
    """Layers that have learnt nothing yet."""
    MODEL = "sklearn_model"
    """What has the form of scikit-learn's estimators, whatever it is made with; so it is published."""
    PIPELINE = "pipeline_model"
    """A model with all that its rows went through before it."""
    GRAPH = "graph"
    """A graph that was found, which can be drawn and run like any other."""
    FIGURES = "metrics"


class ParameterType(StrEnum):
    """What a parameter's value is (wire: ``ptype``)."""

    INTEGER = "int"
    NUMBER = "float"
    BOOLEAN = "bool"
    TEXT = "str"
    LIST = "list"
    COLUMN = "column"
    COLUMNS = "columns"
    DATASET = "dataset"
    MODEL = "model"
    """An output of another job: ``{jobId, nodeId, portName, runId}``, of which all but the first may be left out."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Label(_Value):
    """What people read."""

    zh: str
    en: str


class Port(_Value):
    """An end that edges are tied to. ``type`` decides what fits together."""

    name: str
    type: PortType
    optional: bool = False
    """An input that may stay open."""


class Parameter(_Value):
    """One thing that can be set. Bounds are inclusive unless said otherwise; ``choices`` are all there are."""

    name: str
    type: ParameterType
    label: Label
    hint: str = ""
    default: Any = None
    """None: nothing is passed on where the parameter is not required."""
    required: bool = False
    choices: Sequence[Any] | None = None
    item_type: ParameterType | None = None
    minimum: Annotated[float | None, Field(alias="min")] = None
    maximum: Annotated[float | None, Field(alias="max")] = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False

    @property
    def control(self) -> str:
        """How the page lets it be set (wire: ``front``)."""
        if self.choices is not None:
            return "select"
        return _CONTROLS[self.type]

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value of it, for a person; None where it is right."""
        return _wrong(self, value)


class OwnFile(_Value):
    """The file with the code of a component of somebody's own; the digest of its contents names the version."""

    sha256: str
    name: str


class Component(_Value):
    """A kind of node."""

    uuid: str
    """Names it for ever: graphs refer to it."""
    name: str
    """The library's word for it (wire: ``clazzname``)."""
    label: Label
    stage: str
    group: str = "default"
    inputs: Sequence[Port] = ()
    outputs: Sequence[Port] = ()
    parameters: Sequence[Parameter] = ()
    step: str
    """Which of the engine's steps runs it."""
    of: str | None = None
    """The class that the step is run with, as ``module.Class``."""
    version: int = 1
    """Raised when the same parameters and inputs come to another result: what was cached is not used any more."""
    keeps_columns: bool = True
    """Whether its tables have the columns of its first input."""
    own: OwnFile | None = None
    """None: it is one of ours."""

    @model_validator(mode="after")
    def _names_once(self) -> Component:
        for kind, names in (
            ("input", [port.name for port in self.inputs]),
            ("output", [port.name for port in self.outputs]),
            ("parameter", [parameter.name for parameter in self.parameters]),
        ):
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"{self.uuid} has the {kind} {', '.join(sorted(twice))} twice")
        for parameter in self.parameters:
            if parameter.default is not None and (wrong := parameter.problem(parameter.default)):
                raise ValueError(f"{self.uuid}: the default of {parameter.name} {wrong}")
        return self

    def input(self, name: str) -> Port | None:
        """The input of that name."""
        return next((port for port in self.inputs if port.name == name), None)

    def output(self, name: str) -> Port | None:
        """The output of that name."""
        return next((port for port in self.outputs if port.name == name), None)

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    def completed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Right parameters and the defaults of the others, each of its own type; what has no value is left out."""
        values = {one.name: given.get(one.name, one.default) for one in self.parameters}
        return {
            one.name: float(values[one.name]) if one.type is ParameterType.NUMBER else values[one.name]
            for one in self.parameters
            if values[one.name] is not None
        }


class Group(_Value):
    """Components that belong together on the page."""

    name: str
    label: Label


class Stage(_Value):
    """A part of an experiment's way from data to figures."""

    name: str
    label: Label
    groups: Sequence[Group]
    frameworks: Sequence[str] | None = None
    """Those that have it; None: all."""


class Attribute(_Value):
    """What can be done with what comes out of a port of this type."""

    name: str
    label: Label


class Catalogue:
    """All components of one framework, in the order in which they are shown."""

    def __init__(self, stages: Sequence[Stage], components: Sequence[Component]) -> None:
        self.stages = stages
        self.components = components
        self._by_id = {component.uuid: component for component in components}

    def find(self, uuid: str) -> Component | None:
        """The component of that id."""
        return self._by_id.get(uuid)


_FOLDERS: Mapping[Framework, Sequence[str]] = {
    Framework.SKLEARN: ("sklearn",),
    Framework.TENSORFLOW: ("sklearn", "deep", "tensorflow"),
    Framework.MXNET: (),
    Framework.PYTORCH: ("sklearn", "deep", "pytorch"),
}
"""Framework -> the folders of its components; networks are prepared for, used and evaluated like other models."""
_OWN_GROUPS = {
    ("automatic", "default"),
    ("algorithm", "classification"),
    ("algorithm", "regression"),
    ("algorithm", "cluster"),
    ("evaluation", "cluster"),
}
"""Stage and group of components that no other framework has."""


@cache
def catalogue(framework: Framework) -> Catalogue:
    """The framework's components. Raises pydantic's ValidationError where the files are wrong."""
    stages = [
        stage
        for stage in map(Stage.model_validate, _read("stages")["stages"])
        if stage.frameworks is None or framework.name.lower() in stage.frameworks
    ]
    found: list[Component] = []
    for folder in _FOLDERS[framework]:
        for file in sorted((FOLDER / folder).glob("*.json")):
            for one in map(component_of, json.loads(file.read_text("utf-8"))["components"]):
                if folder == framework.name.lower() or (one.stage, one.group) not in _OWN_GROUPS:
                    found.append(one)
    places = {
        (stage.name, group.name): (i, k) for i, stage in enumerate(stages) for k, group in enumerate(stage.groups)
    }
    for component in found:
        if (component.stage, component.group) not in places:
            raise ValueError(f"{component.uuid} is in {component.stage}/{component.group}, which stages.json lacks")
    if len({component.uuid for component in found}) < len(found):
        raise ValueError(f"two components of {framework.name} have one id")
    return Catalogue(stages, sorted(found, key=lambda one: places[one.stage, one.group]))


def component_of(fields: Mapping[str, Any]) -> Component:
    """A component as files have it. Raises pydantic's ValidationError, and ``KeyError`` for a parameter not shared."""
    return Component.model_validate({**fields, "parameters": _spelt_out(fields.get("parameters", ()), _shared())})


@cache
def _shared() -> Mapping[str, Any]:
    parameters: Mapping[str, Any] = _read("parameters")["parameters"]
    return parameters


@cache
def attributes() -> Mapping[str, Sequence[Attribute]]:
    """Port type -> what can be done with what comes out there."""
    return {
        kind: [Attribute.model_validate(one) for one in some] for kind, some in _read("stages")["attributes"].items()
    }


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return content


def _spelt_out(parameters: Sequence[Any], shared: Mapping[str, Any]) -> list[Any]:
    """Parameters that many components have are written once: ``"max_depth"``, or with what differs."""
    return [
        shared[one] if isinstance(one, str) else shared[one["like"]] | _without(one, "like") if "like" in one else one
        for one in parameters
    ]


def _without(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


_CONTROLS: Mapping[ParameterType, str] = {
    ParameterType.INTEGER: "number",
    ParameterType.NUMBER: "number",
    ParameterType.BOOLEAN: "switch",
    ParameterType.TEXT: "text",
    ParameterType.LIST: "list",
    ParameterType.COLUMN: "column",
    ParameterType.COLUMNS: "columns",
    ParameterType.DATASET: "dataset",
    ParameterType.MODEL: "model",
}


def _wrong(parameter: Parameter, value: Any) -> str | None:
    if wrong := _wrong_type(parameter.type, value):
        return wrong
    if parameter.choices is not None:
        chosen = value if parameter.type in (ParameterType.LIST, ParameterType.COLUMNS) else [value]
        for one in chosen:
            if one not in parameter.choices:
                return f"is {one!r}, which is not one of {', '.join(map(str, parameter.choices))}"
    if parameter.type in (ParameterType.INTEGER, ParameterType.NUMBER):
        return _out_of_bounds(parameter, value)
    if isinstance(value, list):
        for one in value:
            wrong = _wrong_type(parameter.item_type, one) if parameter.item_type else None
            if wrong or (parameter.item_type and (wrong := _out_of_bounds(parameter, one))):
                return f"has an item that {wrong}"
    return None


def _wrong_type(kind: ParameterType, value: Any) -> str | None:
    match kind:
        case ParameterType.INTEGER:
            right = isinstance(value, int) and not isinstance(value, bool)
        case ParameterType.NUMBER:
            right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        case ParameterType.BOOLEAN:
            right = isinstance(value, bool)
        case ParameterType.LIST:
            right = isinstance(value, list)
        case ParameterType.COLUMNS:
            right = isinstance(value, list) and all(isinstance(one, str) and one for one in value)
        case ParameterType.DATASET:
            right = (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, str) and value != "")
        case ParameterType.MODEL:
            if not isinstance(value, dict) or "jobId" not in value:
                return f"is {value!r}, which names no job's model: send jobId, and nodeId where several nodes have one"
            right = True
        case _:
            right = isinstance(value, str)
    return None if right else f"is {value!r}, which is not of type {kind}"


def _out_of_bounds(parameter: Parameter, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    low, high = parameter.minimum, parameter.maximum
    if low is not None and (value < low or (parameter.exclusive_minimum and value == low)):
        return f"is {value}; it must be {'above' if parameter.exclusive_minimum else 'at least'} {low:g}"
    if high is not None and (value > high or (parameter.exclusive_maximum and value == high)):
        return f"is {value}; it must be {'below' if parameter.exclusive_maximum else 'at most'} {high:g}"
    return None
