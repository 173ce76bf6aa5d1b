"""From a fitted model to a file of ONNX that was held against it (:mod:`app.visual.engine.portable`)."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from onnx import TensorProto

from app.visual.engine.portable import NotConvertible
from app.visual.engine.portable.graph import Column, Graph, Kind
from app.visual.engine.portable.library import quiet
from app.visual.engine.portable.predicting import predict
from app.visual.engine.portable.preparing import prepare, through
from app.visual.engine.values import Model

VERSION = "1"
LABEL, PROBABILITIES, VALUE, FEATURES = "label", "probabilities", "value", "features"
MOST_ROWS = 256
"""So many rows are compared."""

EXACT, CLOSE = 1e-9, 1e-5
"""What values may differ by, measured by the value or by 1: of linear models, and of others."""
_ROUNDING = 1e-14
"""What sums of products may differ by, measured by their terms, as these are added up in another order."""

_LIBRARIES = ("scikit-learn", "pandas", "numpy", "onnx", "onnxruntime", "skl2onnx")


_Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Expected:
    """What the library says of rows."""

    values: Mapping[str, _Array]
    """Output -> values."""
    rounding: _Array
    """What each row's values may differ by for nothing but the order of their sums."""


@dataclass(frozen=True)
class Origin:
    """Where a model is from, as its metadata tells."""

    job: int
    node: int
    port: str
    seed: int


@dataclass(frozen=True)
class _Input:
    name: str
    column: str
    kind: Kind
    dtype: str


def to_onnx(model: Model, origin: Origin, seen: pd.DataFrame | None) -> bytes:
    """The file's contents. ``seen`` are rows of the model's columns that a run read; None where none are left.

    Raises :class:`NotConvertible`, also where onnxruntime says otherwise than the library.
    """
    outputs = {LABEL, PROBABILITIES, VALUE, FEATURES}
    columns = dict(model.columns)
    inputs = [_Input(_input_name(name, outputs, columns), name, _kind(name, of), of) for name, of in columns.items()]
    graph, features = _graph(model, inputs)
    classes: list[Any] = []
    if model.task != "transformation":
        classes = np.asarray(getattr(model.estimator, "classes_", [])).tolist()
    about = {
        "version": VERSION,
        "task": model.task,
        "estimator": _class_of(model.estimator),
        "inputs": json.dumps([_told(one) for one in inputs], ensure_ascii=False),
        "target": model.target or "",
        "classes": json.dumps(classes, ensure_ascii=False),
        "features": json.dumps(features, ensure_ascii=False),
        "job": str(origin.job),
        "node": str(origin.node),
        "port": origin.port,
        "seed": str(origin.seed),
        "libraries": json.dumps({name: importlib.metadata.version(name) for name in _LIBRARIES}),
    }
    made = graph.model(type(model.estimator).__name__, {})
    about["outputs"] = json.dumps([{"name": one.name, "type": _type_of(one)} for one in made.graph.output])
    of, rows, expected = _rows(model, seen)
    difference = _verify(model, inputs, made, rows, expected)
    about["verified"] = json.dumps(
        {
            "rows": len(rows),
            "of": of,
            "tolerance": _tolerance(model),
            "difference": difference,
        }
    )
    about["missing"] = json.dumps(_takes_missing(model, inputs, made, rows))
    onnx.helper.set_model_props(made, {f"hlink.{name}": text for name, text in about.items()})
    contents: bytes = made.SerializeToString()
    return contents


def _graph(model: Model, inputs: Sequence[_Input]) -> tuple[Graph, list[str]]:
    """The graph, and the names of the features that come out of a transformation."""
    prefix = "hlink/"
    while any(one.name.startswith(prefix) for one in inputs):
        prefix = f"_{prefix}"
    graph = Graph(prefix)
    frame: dict[str, Column] = {one.column: graph.input(one.name, one.kind) for one in inputs}
    for _, fitted in model.preparation:
        frame = prepare(graph, fitted, frame)
    if model.task == "transformation":
        frame = prepare(graph, model.estimator, frame)
        if others := [name for name, one in frame.items() if one.kind in (Kind.TEXT, Kind.TIME)]:
            raise NotConvertible(
                f"What comes out is one table of numbers, and '{others[0]}' is none: encode or drop it in a node before"
            )
        graph.output(FEATURES, graph.matrix(list(frame.values())), TensorProto.DOUBLE, ["rows", len(frame)])
        return graph, list(frame)
    frame, estimator = {name: frame[name] for name in model.features}, model.estimator
    if hasattr(estimator, "steps"):  # a pipeline, as components of people's own bring out
        *before, (_, estimator) = estimator.steps
        frame = through(graph, [one for _, one in before], frame)
    told = predict(graph, estimator, _matrix(graph, estimator, frame), len(frame))
    if told.value is not None:
        flat = graph.op("Reshape", graph.double(told.value), np.asarray([-1]))
        graph.output(VALUE, flat, TensorProto.DOUBLE, ["rows"])
    if told.index is not None:
        labels, element = told.index, TensorProto.INT64
        if model.task == "classification":
            classes, element = _classes(model.estimator.classes_)
            labels = graph.op("Gather", classes, told.index, axis=0)
        graph.output(LABEL, labels, element, ["rows"])
    if told.probabilities is not None:
        count = len(getattr(model.estimator, "classes_", ())) or "clusters"
        graph.output(PROBABILITIES, told.probabilities, TensorProto.DOUBLE, ["rows", count])
    return graph, []


def _matrix(graph: Graph, estimator: Any, frame: Mapping[str, Column]) -> str:
    try:
        return graph.matrix(list(frame.values()))
    except NotConvertible as error:
        raise NotConvertible(f"{type(estimator).__name__}: {error}") from error


def _input_name(column: str, outputs: set[str], columns: Mapping[str, str]) -> str:
    name = column
    while name in outputs or (name != column and name in columns):
        name += "_in"
    return name


def _kind(name: str, dtype: str) -> Kind:
    if dtype.startswith(("float", "Float")):
        return Kind.DOUBLE
    if dtype.startswith(("int", "uint")) and dtype != "uint64":
        return Kind.INT
    if dtype == "bool":
        return Kind.BOOL
    if dtype in ("object", "str") or dtype.startswith("string"):
        return Kind.TEXT
    if dtype.startswith("datetime64") and ("," not in dtype or dtype.endswith("UTC]")):
        return Kind.TIME
    raise NotConvertible(f"Column '{name}' is of the type {dtype}, for which there is no input")


def _classes(classes: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], int]:
    """The classes as a constant, and their type."""
    match classes.dtype.kind:
        case "b":
            return classes, TensorProto.BOOL
        case "i" | "u":
            return classes.astype(np.int64), TensorProto.INT64
        case "f":
            return classes.astype(np.float64), TensorProto.DOUBLE
        case _:
            return np.asarray([str(one) for one in classes], dtype=object), TensorProto.STRING


# What it says is held against what the library says


def _rows(model: Model, seen: pd.DataFrame | None) -> tuple[str, pd.DataFrame, _Expected]:
    """Rows to compare: whether they are seen or synthetic, the rows, and what the library says of them."""
    for of, rows in _candidates(model, seen):
        try:
            if len(rows):
                return of, rows, _expected(model, rows)
        except ValueError:
            continue  # the library does not take them, because they miss values, for instance
    raise NotConvertible(f"{_name(model)}: no rows are left that it could be tried with: run the job again")


def _candidates(model: Model, seen: pd.DataFrame | None) -> Iterator[tuple[str, pd.DataFrame]]:
    if seen is not None:
        rows = seen[list(model.columns)]
        yield "seen", rows
        yield "seen", rows.dropna()
    made = _synthetic(model)
    numbers = made.select_dtypes("number").columns
    yield "synthetic", made
    yield "synthetic", made.assign(**{name: made[name].abs() + 1 for name in numbers})


def _verify(
    model: Model, inputs: Sequence[_Input], made: onnx.ModelProto, rows: pd.DataFrame, expected: _Expected
) -> float:
    """The largest difference between what onnxruntime and the library say of these rows."""
    try:
        session = onnxruntime.InferenceSession(made.SerializeToString(), quiet(), providers=["CPUExecutionProvider"])
        found = _run(session, inputs, rows)
        one_by_one = _run(session, inputs, rows.iloc[:1])
    except Exception as error:  # onnxruntime's errors have no class in common
        raise NotConvertible(f"{_name(model)}: onnxruntime cannot compute it ({str(error)[:300]})") from error
    worst = 0.0
    for name, values in expected.values.items():
        worst = max(worst, _difference(model, name, found[name], values, expected.rounding))
        worst = max(worst, _difference(model, name, one_by_one[name], values[:1], expected.rounding[:1]))
    return worst


def _takes_missing(model: Model, inputs: Sequence[_Input], made: onnx.ModelProto, rows: pd.DataFrame) -> bool:
    """Whether the library takes rows that lack values, one or all that can, and onnxruntime says the same of them."""
    names = [one.column for one in inputs if one.kind in (Kind.DOUBLE, Kind.TEXT, Kind.TIME)]
    if not names:
        return False
    lacking = pd.concat([rows.iloc[:1]] * (len(names) + 1), ignore_index=True)
    for place, name in enumerate(names):
        lacking[name] = lacking[name].mask(lacking.index.isin([place, len(names)]))
    try:
        _verify(model, inputs, made, lacking, _expected(model, lacking))
    except (NotConvertible, ValueError, TypeError):
        return False
    return True


def _run(session: Any, inputs: Sequence[_Input], rows: pd.DataFrame) -> dict[str, _Array]:
    names = [one.name for one in session.get_outputs()]
    given = {one.name: _tensor(rows[one.column], one.kind).reshape(-1, 1) for one in inputs}
    return dict(zip(names, session.run(names, given), strict=True))


def _tensor(column: pd.Series, kind: Kind) -> _Array:
    match kind:
        case Kind.TEXT:
            return column.astype(object).where(column.notna(), "").map(str).to_numpy(dtype=object)
        case Kind.TIME:
            times = pd.to_datetime(column, utc=True).dt.tz_localize(None).astype("datetime64[ms]")
            return np.where(times.isna(), np.nan, times.astype("int64").astype(float))
        case Kind.DOUBLE:
            return column.to_numpy(dtype=np.float64)
        case Kind.INT:
            return column.to_numpy(dtype=np.int64)
        case _:
            return column.to_numpy(dtype=bool)


def _expected(model: Model, rows: pd.DataFrame) -> _Expected:
    features: Any = rows
    for _, fitted in model.preparation:
        features = fitted.transform(features)
    if model.task == "transformation":
        changed = np.asarray(model.estimator.transform(features), dtype=float)
        return _Expected({FEATURES: changed}, np.zeros(len(rows)))
    features = features[list(model.features)]
    predicted = np.asarray(model.estimator.predict(features))
    if model.task == "regression":
        return _Expected({VALUE: predicted.astype(float).ravel()}, _rounding(model, features))
    told = {LABEL: predicted}
    if hasattr(model.estimator, "predict_proba"):
        told[PROBABILITIES] = np.asarray(model.estimator.predict_proba(features), dtype=float)
    return _Expected(told, _rounding(model, features))


def _rounding(model: Model, features: pd.DataFrame) -> _Array:
    if not hasattr(model.estimator, "coef_"):
        return np.zeros(len(features))
    terms = np.abs(features.to_numpy(dtype=float)) @ np.abs(np.atleast_2d(model.estimator.coef_)).T
    largest: _Array = terms.max(axis=1)
    return _ROUNDING * largest


def _difference(model: Model, name: str, found: _Array, expected: _Array, rounding: _Array) -> float:
    """Between values; raises :class:`NotConvertible` where it is more than is allowed, or labels are not the same."""
    if name == LABEL:
        if other := sum(one != another for one, another in zip(found.tolist(), _plain(expected), strict=True)):
            raise NotConvertible(f"{_name(model)}: onnxruntime predicts {other} of {len(expected)} rows otherwise")
        return 0.0
    if found.shape != expected.shape:
        raise NotConvertible(f"{_name(model)}: onnxruntime tells {found.shape} values, the library {expected.shape}")
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    size = np.maximum(1.0, np.abs(expected))
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.nan_to_num(np.where(same, 0.0, np.abs(found - expected) / size), nan=np.inf)
    worst = float(np.max(off, initial=0.0))
    allowed = _tolerance(model) + (rounding if off.ndim == 1 else rounding[:, None]) / size
    if (off > allowed).any():
        raise NotConvertible(
            f"{_name(model)}: onnxruntime's {name} differ from the library's by {worst:.1g}, and "
            f"{_tolerance(model):g} is allowed"
        )
    return worst


def _plain(labels: _Array) -> list[Any]:
    return [str(one) for one in labels] if labels.dtype.kind in "OUS" else labels.tolist()


def _tolerance(model: Model) -> float:
    return EXACT if hasattr(model.estimator, "coef_") else CLOSE


def _name(model: Model) -> str:
    return " and ".join([type(model.estimator).__name__, *(["its preparation"] if model.preparation else [])])


def _synthetic(model: Model) -> pd.DataFrame:
    """Rows within the types of the columns, where none are left of those that were seen."""
    chance = np.random.default_rng(0)
    known = _categories(model)
    made: dict[str, Any] = {}
    for name, dtype in model.columns.items():
        match _kind(name, dtype):
            case Kind.DOUBLE:
                made[name] = chance.normal(scale=chance.choice([0.1, 1.0, 100.0], MOST_ROWS))
            case Kind.INT:
                made[name] = chance.integers(0, 100, MOST_ROWS)
            case Kind.BOOL:
                made[name] = chance.random(MOST_ROWS) < 0.5
            case Kind.TEXT:
                made[name] = chance.choice(np.asarray(known.get(name, ["a", "b"]), dtype=object), MOST_ROWS)
            case Kind.TIME:
                seconds = chance.integers(-(2**31), 2**32, MOST_ROWS)
                made[name] = pd.to_datetime(seconds, unit="s", utc=True)
                if "," not in dtype:
                    made[name] = made[name].tz_localize(None)
        if name in known and _kind(name, dtype) in (Kind.INT, Kind.DOUBLE):
            made[name] = chance.choice(known[name], MOST_ROWS)
    return pd.DataFrame(made).astype({name: of for name, of in model.columns.items() if of != "object"})


def _categories(model: Model) -> dict[str, list[Any]]:
    """What the encoders of the preparation know, by column; of texts also one that they do not, where they take it."""
    fitted = [one for _, one in model.preparation] + ([model.estimator] if model.task == "transformation" else [])
    found: dict[str, list[Any]] = {}
    for step in fitted:
        for _, encoder, names in step.transformers_:
            for name, categories in zip(names, getattr(encoder, "categories_", ()), strict=False):
                known = [one for one in categories if not pd.isna(one)] or [""]
                takes_others = isinstance(known[0], str) and getattr(encoder, "handle_unknown", "") != "error"
                found[str(name)] = [*known, *(["?"] if takes_others else [])]
    return found


def _class_of(estimator: Any) -> str:
    return f"{type(estimator).__module__}.{type(estimator).__name__}"


def _type_of(output: onnx.ValueInfoProto) -> str:
    kinds = {
        TensorProto.DOUBLE: Kind.DOUBLE,
        TensorProto.INT64: Kind.INT,
        TensorProto.BOOL: Kind.BOOL,
        TensorProto.STRING: Kind.TEXT,
    }
    return str(kinds[output.type.tensor_type.elem_type])


def _told(one: _Input) -> dict[str, str]:
    return {"name": one.name, "column": one.column, "type": str(one.kind), "dtype": one.dtype}
