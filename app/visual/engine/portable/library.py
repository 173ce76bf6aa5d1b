"""What skl2onnx converts well: the estimator alone, as a part of our graph."""

from __future__ import annotations

import logging
from typing import Any

import onnx
import onnxruntime
import skl2onnx
from onnx import TensorProto
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.impute import KNNImputer

from app.visual.engine.portable import NotConvertible
from app.visual.engine.portable.graph import OPSET, Graph

logging.getLogger("skl2onnx").setLevel(logging.ERROR)


def convert(graph: Graph, estimator: Any, matrix: str, width: int) -> list[str]:
    """What skl2onnx makes of an estimator: its results, which are doubles where they are no labels.

    It computes with doubles where the library can, else with floats. Raises :class:`NotConvertible`.
    """
    if isinstance(estimator, KNNImputer):
        raise NotConvertible("onnxruntime before 1.31 divides by zero in it, and ends its whole process")
    for numbers, element in ((DoubleTensorType, TensorProto.DOUBLE), (FloatTensorType, TensorProto.FLOAT)):
        model = _converted(estimator, numbers([None, width]))
        if isinstance(model, onnx.ModelProto):
            results = graph.embed(model, matrix if element == TensorProto.DOUBLE else graph.cast(matrix, element))
            kinds = [one.type.tensor_type.elem_type for one in model.graph.output]
            return [
                graph.double(one) if kind == TensorProto.FLOAT else one
                for one, kind in zip(results, kinds, strict=True)
            ]
    raise NotConvertible(f"skl2onnx cannot convert it ({model})")


def _converted(estimator: Any, numbers: Any) -> onnx.ModelProto | str:
    """The model, or why there is none: what cannot be converted shows in various errors, or only when it is loaded."""
    options = {id(estimator): {"zipmap": False}} if _tells_classes(estimator) else None
    try:
        model = skl2onnx.to_onnx(estimator, initial_types=[("X", numbers)], options=options, target_opset=OPSET)
        onnxruntime.InferenceSession(model.SerializeToString(), quiet(), providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - they have no class in common
        return str(error).split("\n", 1)[0][:200]
    return model


def quiet() -> onnxruntime.SessionOptions:
    """Options of a session on one processor that logs errors only."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return options


def _tells_classes(estimator: Any) -> bool:
    return hasattr(estimator, "classes_") and hasattr(estimator, "predict")
