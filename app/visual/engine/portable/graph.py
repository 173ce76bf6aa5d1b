"""An ONNX graph that grows operator by operator, and columns that know where in it they are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from app.visual.engine.portable import NotConvertible

OPSET, ML_OPSET, IR_VERSION = 18, 5, 10
"""What onnxruntime reads from 1.28 on."""

Operand = str | np.ndarray[Any, Any]
"""The name of a tensor, or a constant."""


class Kind(StrEnum):
    """Of a column: the type of its input."""

    DOUBLE = "double"
    INT = "int64"
    BOOL = "bool"
    TEXT = "string"
    TIME = "time"


ELEMENTS: Mapping[Kind, int] = {
    Kind.DOUBLE: TensorProto.DOUBLE,
    Kind.INT: TensorProto.INT64,
    Kind.BOOL: TensorProto.BOOL,
    Kind.TEXT: TensorProto.STRING,
    Kind.TIME: TensorProto.DOUBLE,
}
NUMBERS = frozenset({Kind.DOUBLE, Kind.INT, Kind.BOOL})


@dataclass(frozen=True)
class Column:
    """A column of a tensor ``[rows, width]``."""

    tensor: str
    kind: Kind
    index: int = 0
    width: int = 1


class Graph:
    """Every name in it begins with ``prefix``, which no input does."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._numbers = itertools.count(1)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._functions: list[onnx.FunctionProto] = []
        self._imports: dict[str, int] = {"": OPSET, "ai.onnx.ml": ML_OPSET}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, kind: Kind) -> Column:
        """A column that is brought in."""
        self._inputs.append(helper.make_tensor_value_info(name, ELEMENTS[kind], ["rows", 1]))
        return Column(name, kind)

    def output(self, name: str, tensor: str, element: int, shape: Sequence[str | int]) -> None:
        """A tensor that is given out."""
        self._nodes.append(helper.make_node("Identity", [tensor], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, element, list(shape)))

    def op(self, kind: str, *operands: Operand, domain: str = "", **attributes: Any) -> str:
        """The result of an operator that has one."""
        return self.ops(kind, *operands, results=1, domain=domain, **attributes)[0]

    def ops(self, kind: str, *operands: Operand, results: int, domain: str = "", **attributes: Any) -> list[str]:
        """The results of an operator."""
        made = [self._name() for _ in range(results)]
        names = [one if isinstance(one, str) else self.constant(one) for one in operands]
        self._nodes.append(helper.make_node(kind, names, made, domain=domain, **attributes))
        return made

    def constant(self, values: np.ndarray[Any, Any]) -> str:
        """A tensor of these values."""
        name = self._name()
        self._constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def cast(self, tensor: str, element: int) -> str:
        """The tensor with elements of another type."""
        return self.op("Cast", tensor, to=element)

    def double(self, tensor: str) -> str:
        """The tensor as doubles."""
        return self.cast(tensor, TensorProto.DOUBLE)

    def embed(self, model: onnx.ModelProto, operand: str) -> list[str]:
        """The results of a whole model of one input."""
        name = self._name()
        inside = compose.add_prefix(model, f"{name}/", rename_functions=False)
        (given,) = inside.graph.input
        self._nodes += [helper.make_node("Identity", [operand], [given.name]), *inside.graph.node]
        self._constants += inside.graph.initializer
        for one in inside.functions:
            if any(one.name == known.name and one != known for known in self._functions):
                raise NotConvertible(f"skl2onnx has two functions '{one.name}', which are not the same")
            if one not in self._functions:
                self._functions.append(one)
        for one in inside.opset_import:
            self._imports.setdefault(one.domain, one.version)
        return [one.name for one in inside.graph.output]

    def matrix(self, columns: Sequence[Column]) -> str:
        """Columns of numbers side by side, as doubles. Raises :class:`NotConvertible` where one is none."""
        if others := [one.kind for one in columns if one.kind not in NUMBERS]:
            raise NotConvertible(f"it takes a column of the type {others[0]}, which cannot be computed with")
        pieces = []
        for _, group in itertools.groupby(columns, key=lambda one: one.tensor):
            some = list(group)
            piece = self._part(some)
            pieces.append(piece if some[0].kind is Kind.DOUBLE else self.double(piece))
        return pieces[0] if len(pieces) == 1 else self.op("Concat", *pieces, axis=1)

    def alone(self, column: Column) -> str:
        """A column as a tensor ``[rows, 1]`` of its own type."""
        return self._part([column])

    def columns(self, tensor: str, width: int, kind: Kind = Kind.DOUBLE) -> list[Column]:
        """The columns of a tensor ``[rows, width]``."""
        return [Column(tensor, kind, index, width) for index in range(width)]

    def model(self, name: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The model, without what no output needs. Raises :class:`NotConvertible` where it is too large."""
        nodes, needed = [], {one.name for one in self._outputs}
        for node in reversed(self._nodes):
            if needed & set(node.output):
                nodes.append(node)
                needed |= _read(node)
        graph = helper.make_graph(
            nodes[::-1], name, self._inputs, self._outputs, [one for one in self._constants if one.name in needed]
        )
        imports = [helper.make_opsetid(domain, version) for domain, version in self._imports.items()]
        made = helper.make_model(
            graph, opset_imports=imports, functions=self._functions, ir_version=IR_VERSION, producer_name="hlink"
        )
        helper.set_model_props(made, dict(metadata))
        if made.ByteSize() >= onnx.checker.MAXIMUM_PROTOBUF:
            raise NotConvertible(f"it would have {made.ByteSize() / 1024**3:.1f} GiB, and 2 GiB are the most")
        return made

    def _part(self, columns: Sequence[Column]) -> str:
        indices = [one.index for one in columns]
        whole = columns[0].tensor
        if indices == list(range(columns[0].width)):
            return whole
        return self.op("Gather", whole, np.asarray(indices, dtype=np.int64), axis=1)

    def _name(self) -> str:
        return f"{self._prefix}{next(self._numbers)}"


def _read(node: onnx.NodeProto) -> set[str]:
    """The tensors that a node reads, also from within the graphs that it holds."""
    inside = [one.g for one in node.attribute if one.type == onnx.AttributeProto.GRAPH]
    return set(node.input).union(*(_read(one) for graph in inside for one in graph.node))
