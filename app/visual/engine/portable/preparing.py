"""The preparation of a model as ONNX: each transformer takes columns and gives columns.

What is not here is left to skl2onnx, which is asked for doubles. Ours are those that it lacks, that it has in single
precision only, or that work on columns of text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from onnx import TensorProto

from app.visual.engine.portable import NotConvertible, library
from app.visual.engine.portable.graph import NUMBERS, Column, Graph, Kind

Columns = Sequence[Column]
Frame = Mapping[str, Column]
_DAY_MS = 86_400_000.0


def prepare(graph: Graph, fitted: Any, frame: Frame) -> dict[str, Column]:
    """A fitted ColumnTransformer of frames. Raises :class:`NotConvertible`, which names the transformer."""
    made: list[Column] = []
    for _, one, chosen in fitted.transformers_:
        columns = [frame[str(name)] for name in chosen] if not _drops(one) else []
        if columns:
            made += columns if _passes(one) else _transform(graph, one, columns)
    return dict(zip(map(str, fitted.get_feature_names_out()), made, strict=True))


def through(graph: Graph, steps: Sequence[Any], frame: Frame) -> dict[str, Column]:
    """The columns behind fitted transformers, each of which takes all that the one before it gives."""
    for one in steps:
        if _passes(one):
            continue
        if hasattr(one, "transformers_"):
            frame = prepare(graph, one, frame)
        else:
            made = _transform(graph, one, list(frame.values()))
            frame = {f"{place}": column for place, column in enumerate(made)}
    return dict(frame)


def _drops(transformer: Any) -> bool:
    return isinstance(transformer, str) and transformer == "drop"


def _passes(transformer: Any) -> bool:
    return transformer == "passthrough" if isinstance(transformer, str) else getattr(transformer, "func", 0) is None


def _transform(graph: Graph, transformer: Any, columns: Columns) -> Columns:
    if hasattr(transformer, "steps"):  # a pipeline of its own
        frame = {f"{place}": column for place, column in enumerate(columns)}
        return list(through(graph, [one for _, one in transformer.steps], frame).values())
    name = type(transformer).__name__
    if (why := _NEVER.get(name)) is not None:
        raise NotConvertible(f"{name}: {why}")
    try:
        if name in _OURS:
            return _OURS[name](graph, transformer, columns)
        matrix = graph.matrix(columns)
        (result,) = library.convert(graph, transformer, matrix, len(columns))
        return graph.columns(result, len(transformer.get_feature_names_out()))
    except NotConvertible as error:
        raise NotConvertible(f"{name}: {error}") from error


# Columns are chosen


def _selected(graph: Graph, selector: Any, columns: Columns) -> Columns:
    return [columns[place] for place in selector.get_support(indices=True)]


# Missing values are filled in


def _imputed(graph: Graph, imputer: Any, columns: Columns) -> Columns:
    """SimpleImputer."""
    filled = _filled(graph, imputer, columns)
    return [*(one for one in filled if one is not None), *_indicated(graph, imputer, columns)]


def _filled(graph: Graph, imputer: Any, columns: Columns) -> list[Column | None]:
    """None stands for a column that is left out, as there was nothing in it."""
    return [_fill(graph, column, value) for column, value in zip(columns, imputer.statistics_, strict=True)]


def _fill(graph: Graph, column: Column, value: Any) -> Column | None:
    if pd.isna(value):
        return None
    if column.kind is Kind.TEXT:
        texts = graph.alone(column)
        return Column(graph.op("Where", _is_missing(graph, texts), _texts([value]), texts), Kind.TEXT)
    numbers = graph.matrix([column])
    return Column(graph.op("Where", graph.op("IsNaN", numbers), np.asarray([float(value)]), numbers), Kind.DOUBLE)


def _indicated(graph: Graph, imputer: Any, columns: Columns) -> Columns:
    if not imputer.add_indicator:
        return []
    told = [columns[place] for place in imputer.indicator_.features_]
    if any(one.kind is Kind.TEXT for one in told):
        raise NotConvertible("columns that tell which texts were missing are mixed with the texts")
    return [Column(graph.double(graph.op("IsNaN", graph.matrix([one]))), Kind.DOUBLE) for one in told]


def _imputed_in_turn(graph: Graph, imputer: Any, columns: Columns) -> Columns:
    """IterativeImputer: each column in its turn is predicted by the others, round by round."""
    if imputer.initial_imputer_ is None:
        return columns
    first = _filled(graph, imputer.initial_imputer_, columns)
    kept = [place for place, one in enumerate(first) if one is not None]
    missing = [graph.op("IsNaN", graph.matrix([columns[place]])) for place in kept]
    values = [graph.matrix([one]) for one in first if one is not None]
    for turn in imputer.imputation_sequence_:
        others = graph.op("Concat", *(values[place] for place in turn.neighbor_feat_idx), axis=1)
        predicted = graph.op("MatMul", others, np.asarray(turn.estimator.coef_, dtype=float).reshape(-1, 1))
        predicted = graph.op("Add", predicted, np.asarray([float(turn.estimator.intercept_)]))
        least, most = imputer._min_value[turn.feat_idx], imputer._max_value[turn.feat_idx]
        predicted = graph.op("Clip", predicted, np.asarray(float(least)), np.asarray(float(most)))
        values[turn.feat_idx] = graph.op("Where", missing[turn.feat_idx], predicted, values[turn.feat_idx])
    return [*(Column(one, Kind.DOUBLE) for one in values), *_indicated(graph, imputer, columns)]


# Categories become numbers


def _looked_up(graph: Graph, encoder: Any, columns: Columns) -> Columns:
    """An encoder of categories: what the library makes of each, and of one that it does not know, in a table."""
    names = getattr(encoder, "feature_names_in_", range(len(columns)))
    first = [pd.Series([some[0]]) for some in encoder.categories_]
    base = pd.DataFrame(dict(zip(names, first, strict=True)))
    (usual,) = _encoded(encoder, base)
    made: dict[int, Column] = {}
    for place, column in enumerate(columns):
        table = _table(encoder, base, place)
        varies = np.flatnonzero(((table != usual) & ~(np.isnan(table) & np.isnan(usual))).any(axis=0))
        found = graph.op("Gather", table[:, varies], _places(graph, column, encoder.categories_[place]), axis=0)
        made |= dict(zip(map(int, varies), graph.columns(found, len(varies)), strict=True))
    for place in set(range(len(usual))) - set(made):  # what is the same whatever comes in
        rows = graph.op("Shape", graph.alone(columns[0]))
        made[place] = Column(graph.op("Expand", usual[[place]], rows), Kind.DOUBLE)
    return [made[place] for place in range(len(usual))]


def _encoded(encoder: Any, frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    return np.asarray(encoder.transform(frame), dtype=float)


def _table(encoder: Any, base: pd.DataFrame, place: int) -> np.ndarray[Any, Any]:
    """A row a category of a column, as it is encoded; the last one is of categories that are unknown."""
    categories, name = encoder.categories_[place], base.columns[place]
    rows, other = pd.concat([base] * len(categories), ignore_index=True), base.copy()
    rows[name], other[name] = categories, _another(categories)
    known = _encoded(encoder, rows)
    try:
        unknown = _encoded(encoder, other)
    except ValueError:  # which the library refuses
        unknown = np.where((known == known[:1]).all(axis=0, keepdims=True), known[:1], np.nan)
    return np.vstack([known, unknown])


def _another(categories: np.ndarray[Any, Any]) -> Any:
    """What is none of the categories."""
    there = [one for one in categories if not pd.isna(one)]
    if any(isinstance(one, str) for one in there):
        return "".join(map(str, there)) + "?"
    return max((float(one) for one in there), default=0.0) + 1.0


def _places(graph: Graph, column: Column, categories: np.ndarray[Any, Any]) -> str:
    """Which of the categories a row has, ``[rows]``; their number where it has none of them."""
    if column.kind is Kind.TEXT:
        keys = ["" if pd.isna(one) else str(one) for one in categories]
        return graph.op("Reshape", _places_of_texts(graph, graph.alone(column), keys), np.asarray([-1]))
    numbers = graph.matrix([column])
    keys_of_numbers = np.asarray([[np.nan if pd.isna(one) else float(one) for one in categories]])
    same = graph.op("Equal", numbers, keys_of_numbers)
    if np.isnan(keys_of_numbers).any():
        same = graph.op("Or", same, graph.op("And", graph.op("IsNaN", numbers), np.isnan(keys_of_numbers)))
    last = np.ones((1, 1), dtype=np.int64)
    there = graph.op("Pad", graph.cast(same, TensorProto.INT64), np.asarray([0, 0, 0, 1]), last.reshape(()))
    return graph.op("ArgMax", there, axis=1, keepdims=0)


def _places_of_texts(graph: Graph, texts: str, keys: Sequence[str]) -> str:
    return graph.op(
        "LabelEncoder",
        texts,
        domain="ai.onnx.ml",
        keys_strings=keys,
        values_int64s=list(range(len(keys))),
        default_int64=len(keys),
    )


def _is_missing(graph: Graph, texts: str) -> str:
    return graph.op("Not", graph.cast(_places_of_texts(graph, texts, [""]), TensorProto.BOOL))


# Columns of frames: our own transformers


def _date_parts(graph: Graph, transformer: Any, columns: Columns) -> Columns:
    made: list[Column] = []
    for column in columns:
        if column.kind is not Kind.TIME:
            raise NotConvertible(f"it reads times out of a column of the type {column.kind}")
        time = graph.alone(column)
        missing = graph.op("IsNaN", time)
        parts = _parts(graph, graph.op("Where", missing, np.zeros(1), time))
        made += [
            Column(graph.op("Where", missing, np.asarray([np.nan]), graph.double(parts[part]())), Kind.DOUBLE)
            for part in transformer.parts
        ]
    return made


def _parts(graph: Graph, time: str) -> Mapping[str, Callable[[], str]]:
    """Part -> what computes it, in whole numbers, from milliseconds since 1970.

    Years, months and days are counted from the first of March of the year 0, so that a leap day is the last of its year
    (H. Hinnant, chrono-compatible low-level date algorithms).
    """

    def whole(number: int) -> np.ndarray[Any, Any]:
        return np.asarray([number], dtype=np.int64)

    def add(left: str, right: str | int) -> str:
        return graph.op("Add", left, whole(right) if isinstance(right, int) else right)

    def sub(left: str, right: str) -> str:
        return graph.op("Sub", left, right)

    def mul(left: str, right: int) -> str:
        return graph.op("Mul", left, whole(right))

    def div(left: str, right: int) -> str:
        return graph.op("Div", left, whole(right))

    def mod(left: str, right: int) -> str:
        return graph.op("Mod", left, whole(right))

    days_before = graph.op("Floor", graph.op("Div", time, np.asarray([_DAY_MS])))
    of_day = graph.cast(graph.op("Sub", time, graph.op("Mul", days_before, np.asarray([_DAY_MS]))), TensorProto.INT64)
    days = add(graph.cast(days_before, TensorProto.INT64), 719_468)
    era = div(days, 146_097)
    of_era = sub(days, mul(era, 146_097))
    years = div(
        sub(add(sub(of_era, div(of_era, 1_460)), div(of_era, 36_524)), div(of_era, 146_096)),
        365,
    )
    of_year = sub(of_era, sub(add(mul(years, 365), div(years, 4)), div(years, 100)))
    counted = div(add(mul(of_year, 5), 2), 153)  # months since March
    early = graph.op("GreaterOrEqual", counted, whole(10))  # January and February, of the year after
    month = graph.op("Where", early, add(counted, -9), add(counted, 3))
    year = add(add(years, mul(era, 400)), graph.cast(early, TensorProto.INT64))

    def day_of_year() -> str:
        by_hundred = graph.op("Equal", mod(year, 100), whole(0))
        leap = graph.op(
            "Or",
            graph.op("And", graph.op("Equal", mod(year, 4), whole(0)), graph.op("Not", by_hundred)),
            graph.op("Equal", mod(year, 400), whole(0)),
        )
        late = add(add(of_year, 60), graph.cast(leap, TensorProto.INT64))
        return graph.op("Where", early, add(of_year, -305), late)

    return {
        "year": lambda: year,
        "quarter": lambda: add(div(add(month, -1), 3), 1),
        "month": lambda: month,
        "day": lambda: add(sub(of_year, div(add(mul(counted, 153), 2), 5)), 1),
        "dayofweek": lambda: mod(add(days, 2), 7),
        "dayofyear": day_of_year,
        "hour": lambda: div(of_day, 3_600_000),
        "minute": lambda: mod(div(of_day, 60_000), 60),
        "second": lambda: mod(div(of_day, 1_000), 60),
    }


def _arithmetic(graph: Graph, transformer: Any, columns: Columns) -> Columns:
    names = list(map(str, transformer.feature_names_in_))
    left, right = (graph.matrix([columns[names.index(one)]]) for one in (transformer.left, transformer.right))
    if transformer.operation == "divide":
        zero = graph.op("Equal", right, np.zeros(1))
        right = graph.op("Where", zero, np.asarray([np.nan]), right)
    return [*columns, Column(graph.op(_OPERATORS[transformer.operation], left, right), Kind.DOUBLE)]


_OPERATORS = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div"}


def _other_type(graph: Graph, transformer: Any, columns: Columns) -> Columns:
    return [_changed(graph, transformer, column) for column in columns]


def _changed(graph: Graph, transformer: Any, column: Column) -> Column:
    match transformer.to, column.kind:
        case ("number", kind) if kind in NUMBERS:
            return column
        case ("text", Kind.TEXT) | ("datetime", Kind.TIME):
            return column
        case ("text", Kind.INT):
            return Column(graph.cast(graph.alone(column), TensorProto.STRING), Kind.TEXT)
        case ("text", Kind.BOOL):
            return Column(graph.op("Where", graph.alone(column), _texts(["True"]), _texts(["False"])), Kind.TEXT)
        case ("number", Kind.TEXT) if transformer.errors == "raise":
            texts = graph.alone(column)
            numbers = graph.op("Where", _is_missing(graph, texts), _texts(["NaN"]), texts)
            return Column(graph.double(numbers), Kind.DOUBLE)
    raise NotConvertible(f"a column of the type {column.kind} cannot be read as {transformer.to} within ONNX")


# Numbers become other numbers


def _normalised(graph: Graph, normalizer: Any, columns: Columns) -> Columns:
    matrix = graph.matrix(columns)
    reduce = {"l1": "ReduceL1", "l2": "ReduceL2", "max": "ReduceMax"}[normalizer.norm]
    norms = graph.op(reduce, graph.op("Abs", matrix), np.asarray([1]), keepdims=1)
    norms = graph.op("Where", graph.op("Equal", norms, np.zeros(1)), np.ones(1), norms)
    return graph.columns(graph.op("Div", matrix, norms), len(columns))


def _power(graph: Graph, transformer: Any, columns: Columns) -> Columns:
    one_by_one = _box_cox if transformer.method == "box-cox" else _yeo_johnson
    made = [
        one_by_one(graph, graph.matrix([column]), float(power))
        for column, power in zip(columns, transformer.lambdas_, strict=True)
    ]
    matrix = made[0] if len(made) == 1 else graph.op("Concat", *made, axis=1)
    if transformer.standardize:
        scaler = transformer._scaler
        matrix = graph.op("Div", graph.op("Sub", matrix, scaler.mean_), scaler.scale_)
    return graph.columns(matrix, len(columns))


def _box_cox(graph: Graph, x: str, power: float) -> str:
    if power == 0:
        return graph.op("Log", x)
    return graph.op("Div", graph.op("Sub", graph.op("Pow", x, np.asarray([power])), np.ones(1)), np.asarray([power]))


def _yeo_johnson(graph: Graph, x: str, power: float) -> str:
    # Either side of zero is computed where it is defined; the other's values are not used.
    above = _box_cox(graph, graph.op("Add", graph.op("Max", x, np.zeros(1)), np.ones(1)), power)
    below = _box_cox(graph, graph.op("Sub", np.ones(1), graph.op("Min", x, np.zeros(1))), 2.0 - power)
    made = graph.op("Where", graph.op("GreaterOrEqual", x, np.zeros(1)), above, graph.op("Neg", below))
    return graph.op("Where", graph.op("IsNaN", x), x, made)


def _binned(graph: Graph, discretizer: Any, columns: Columns) -> Columns:
    """The number of inner edges that a value has reached; or a column a bin."""
    made: list[Column] = []
    for column, edges in zip(columns, discretizer.bin_edges_, strict=True):
        inner = np.asarray(edges[1:-1], dtype=float).reshape(1, -1)
        reached = graph.double(graph.op("GreaterOrEqual", graph.matrix([column]), inner))
        bins = graph.op("ReduceSum", reached, np.asarray([1]), keepdims=1)
        if discretizer.encode == "ordinal":
            made.append(Column(bins, Kind.DOUBLE))
        else:
            count = len(edges) - 1
            of_each = graph.double(graph.op("Equal", bins, np.arange(count, dtype=float).reshape(1, -1)))
            made += graph.columns(of_each, count)
    return made


def _truths(graph: Graph, binarizer: Any, columns: Columns) -> Columns:
    """Binarizer."""
    above = graph.op("Greater", graph.matrix(columns), np.asarray([float(binarizer.threshold)]))
    return graph.columns(graph.double(above), len(columns))


def _discriminants(graph: Graph, transformer: Any, columns: Columns) -> Columns:
    """LinearDiscriminantAnalysis, as a transformer."""
    matrix = graph.matrix(columns)
    if transformer.solver == "svd":
        matrix = graph.op("Sub", matrix, np.asarray(transformer.xbar_))
    count = len(transformer.get_feature_names_out())
    return graph.columns(graph.op("MatMul", matrix, np.asarray(transformer.scalings_)[:, :count]), count)


def _independent(graph: Graph, transformer: Any, columns: Columns) -> Columns:
    """FastICA."""
    matrix = graph.matrix(columns)
    if transformer.whiten:
        matrix = graph.op("Sub", matrix, np.asarray(transformer.mean_))
    made = graph.op("MatMul", matrix, np.asarray(transformer.components_).T)
    return graph.columns(made, len(transformer.components_))


def _texts(values: Sequence[str]) -> np.ndarray[Any, Any]:
    return np.asarray(values, dtype=object)


_OURS: Mapping[str, Callable[[Graph, Any, Columns], Columns]] = {
    **dict.fromkeys(("VarianceThreshold", "SelectKBest", "SelectPercentile", "RFE", "SelectFromModel"), _selected),
    **dict.fromkeys(("OneHotEncoder", "OrdinalEncoder", "TargetEncoder"), _looked_up),
    "SimpleImputer": _imputed,
    "IterativeImputer": _imputed_in_turn,
    "DateParts": _date_parts,
    "Arithmetic": _arithmetic,
    "ChangeType": _other_type,
    "Normalizer": _normalised,
    "PowerTransformer": _power,
    "KBinsDiscretizer": _binned,
    "Binarizer": _truths,
    "LinearDiscriminantAnalysis": _discriminants,
    "FastICA": _independent,
}

_NEVER: Mapping[str, str] = {
    "NMF": "what it makes of a row is found by iterations, which a graph cannot hold. Take PCA or truncated SVD",
    "SplineTransformer": "ONNX has no splines. Take polynomial features or bins",
}
"""Transformer -> why there is no ONNX for it, and what there is for."""
