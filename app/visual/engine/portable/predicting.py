"""Estimators as ONNX: what they predict of a matrix of features.

Trees are written by us, in double precision, as scikit-learn computes them; skl2onnx has them in single precision,
which decides ties between classes by chance. Others are ours where skl2onnx lacks them. What is left is skl2onnx's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from app.visual.engine.portable import NotConvertible, library
from app.visual.engine.portable.graph import Graph, Operand

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Predicted:
    """Tensors: ``index`` ``[rows]`` of the class or the cluster, ``probabilities`` of each, ``value`` ``[rows, 1]``."""

    index: str | None = None
    probabilities: str | None = None
    value: str | None = None


def predict(graph: Graph, estimator: Any, matrix: str, width: int) -> Predicted:
    """Raises :class:`NotConvertible`, which names the estimator."""
    name = type(estimator).__name__
    if not hasattr(estimator, "predict"):
        raise NotConvertible(f"{name}: it only finds clusters among the rows that it is fitted on")
    try:
        if name in _OURS and _is_of_trees(estimator):
            return _OURS[name](graph, estimator, matrix)
        if name in _NEIGHBOURS and estimator.weights == "distance" and estimator.effective_metric_ == "euclidean":
            return _NEIGHBOURS[name](graph, estimator, matrix)
        if hasattr(estimator, "classes_"):
            return _classified(graph, estimator, matrix, width)
        results = library.convert(graph, estimator, matrix, width)
    except NotConvertible as error:
        raise NotConvertible(f"{name}: {error}") from error
    if not hasattr(estimator, "predict_proba") and "cluster" not in type(estimator).__module__:
        return Predicted(value=results[0])
    index = graph.op("Reshape", graph.cast(results[0], TensorProto.INT64), np.asarray([-1]))
    return Predicted(index, results[1] if hasattr(estimator, "predict_proba") else None)


def _is_of_trees(estimator: Any) -> bool:
    """Whether an ensemble is one of trees, as ours all are."""
    parts = np.ravel(np.asarray(getattr(estimator, "estimators_", ()), dtype=object))
    return all(hasattr(one, "tree_") for one in parts)


def _classified(graph: Graph, estimator: Any, matrix: str, width: int) -> Predicted:
    """A classifier of skl2onnx's. Classes that are neither numbers nor texts are numbered first."""
    if estimator.classes_.dtype.kind in "bf" and "classes_" in vars(estimator):
        estimator = copy.copy(estimator)
        estimator.classes_ = np.arange(len(estimator.classes_))
    linear = hasattr(estimator, "coef_") and hasattr(estimator, "decision_function")
    linear = linear and not hasattr(estimator, "support_vectors_")
    probabilities = None
    if hasattr(estimator, "predict_proba"):
        _, probabilities = library.convert(graph, estimator, matrix, width)
    if linear:
        scores = _linear(graph, estimator, matrix)
        return Predicted(_decided(graph, scores, len(estimator.classes_)), probabilities)
    if probabilities is not None:
        return Predicted(_largest(graph, probabilities), probabilities)
    estimator = copy.copy(estimator)
    estimator.classes_ = np.arange(len(estimator.classes_))
    index, _ = library.convert(graph, estimator, matrix, width)
    return Predicted(graph.op("Reshape", index, np.asarray([-1])))


def _largest(graph: Graph, scores: str) -> str:
    return graph.op("ArgMax", scores, axis=1, keepdims=0)


def _decided(graph: Graph, scores: str, classes: int) -> str:
    """The index of the class: of two it is told by the sign of one score."""
    if classes > 2:
        return _largest(graph, scores)
    second = graph.op("Greater", scores, np.zeros(1))
    return graph.op("Reshape", graph.cast(second, TensorProto.INT64), np.asarray([-1]))


def _row(values: Any) -> Array:
    row: Array = np.atleast_1d(np.asarray(values, dtype=float))
    return row


# Trees


@dataclass(frozen=True)
class _Tree:
    """A tree in arrays of its nodes: ``left`` is -1 at a leaf, ``values`` ``[nodes, targets]`` count there."""

    left: Array
    right: Array
    feature: Array
    threshold: Array
    missing_left: Array
    values: Array

    def scaled(self, by: float) -> _Tree:
        """With other values."""
        return self.valued(self.values * by)

    def valued(self, values: Array) -> _Tree:
        """With other values."""
        return _Tree(self.left, self.right, self.feature, self.threshold, self.missing_left, values)


def _tree(estimator: Any, columns: Array | None = None) -> _Tree:
    """A fitted tree of the library's; ``columns`` are those of all that it was fitted on."""
    tree = estimator.tree_
    feature = np.maximum(tree.feature, 0)
    return _Tree(
        tree.children_left,
        tree.children_right,
        feature if columns is None else np.asarray(columns)[feature],
        tree.threshold,
        np.asarray(tree.missing_go_to_left, dtype=bool),
        tree.value[:, 0, :],
    )


def _grown(predictor: Any) -> _Tree:
    """A tree of histogram gradient boosting."""
    nodes = predictor.nodes
    if nodes["is_categorical"].any():
        raise NotConvertible("it splits columns of categories")
    leaf = nodes["is_leaf"].astype(bool)
    return _Tree(
        np.where(leaf, -1, nodes["left"].astype(np.int64)),
        np.where(leaf, -1, nodes["right"].astype(np.int64)),
        np.where(leaf, 0, nodes["feature_idx"]),
        nodes["num_threshold"],
        nodes["missing_go_to_left"].astype(bool),
        nodes["value"].reshape(-1, 1),
    )


def _sums(graph: Graph, matrix: str, trees: Sequence[_Tree], targets: Sequence[int]) -> str:
    """``[rows, targets]``: of each target the sum of its trees' values, of which a node has one."""
    parts: dict[str, list[Array]] = {}
    nodes_before = leaves_before = 0
    roots = []
    for tree, target in zip(trees, targets, strict=True):
        inner, leaf = np.flatnonzero(tree.left >= 0), np.flatnonzero(tree.left < 0)
        number = np.empty(len(tree.left), dtype=np.int64)
        number[inner] = nodes_before + np.arange(len(inner))
        number[leaf] = leaves_before + np.arange(len(leaf))
        split, left, right = inner, tree.left[inner], tree.right[inner]
        to_left, to_right = number[left], number[right]
        if not len(inner):
            # A tree that is one leaf becomes a node with two of it: onnxruntime before 1.31 reads another tree's leaf
            # where both ways lead to the same.
            split = left = right = leaf
            to_left, to_right = number[leaf], number[leaf] + 1
            leaf = np.repeat(leaf, 2)
        for name, values in {
            "nodes_featureids": tree.feature[split],
            "nodes_splits": tree.threshold[split].astype(float),
            "nodes_missing_value_tracks_true": tree.missing_left[split],
            "nodes_truenodeids": to_left,
            "nodes_trueleafs": tree.left[left] < 0,
            "nodes_falsenodeids": to_right,
            "nodes_falseleafs": tree.left[right] < 0,
            "leaf_weights": tree.values[leaf, 0].astype(float),
            "leaf_targetids": np.full(len(leaf), target),
        }.items():
            parts.setdefault(name, []).append(values)
        roots.append(nodes_before)
        nodes_before += len(split)
        leaves_before += len(leaf)
    whole = {name: np.concatenate(some) for name, some in parts.items()}
    tensors = {"nodes_splits", "leaf_weights"}
    return graph.op(
        "TreeEnsemble",
        matrix,
        domain="ai.onnx.ml",
        n_targets=max(targets) + 1,
        aggregate_function=_SUM,
        tree_roots=roots,
        nodes_modes=numpy_helper.from_array(np.full(nodes_before, _AT_MOST, dtype=np.uint8)),
        **{name: some.astype(np.int64).tolist() for name, some in whole.items() if name not in tensors},
        **{name: numpy_helper.from_array(whole[name]) for name in tensors},
    )


_SUM, _AT_MOST = 1, 0
"""Of the operator TreeEnsemble: how trees are put together, and which way a node goes."""


def _rows_of_leaves(graph: Graph, matrix: str, trees: Sequence[_Tree]) -> str:
    """``[rows, values]``: the sums of the trees' values, of which a node has several.

    The operator has one number a leaf: here that is the leaf's row in a table of all of them.
    """
    first = np.cumsum([0, *(len(tree.values) for tree in trees)])
    numbered = [
        tree.valued(np.arange(start, start + len(tree.values)).reshape(-1, 1))
        for tree, start in zip(trees, first, strict=False)
    ]
    places = graph.cast(_sums(graph, matrix, numbered, range(len(trees))), TensorProto.INT64)
    table = np.concatenate([tree.values for tree in trees]).astype(float)
    return graph.op("ReduceSum", graph.op("Gather", table, places, axis=0), np.asarray([1]), keepdims=0)


def _single(graph: Graph, matrix: str) -> str:
    """As scikit-learn's trees round the features."""
    return graph.double(graph.cast(matrix, TensorProto.FLOAT))


def _mean(graph: Graph, sums: str, count: int) -> str:
    return sums if count == 1 else graph.op("Div", sums, np.asarray([float(count)]))


def _voted(graph: Graph, matrix: str, trees: Sequence[_Tree]) -> Predicted:
    sums = _rows_of_leaves(graph, _single(graph, matrix), trees)
    return Predicted(_largest(graph, sums), _mean(graph, sums, len(trees)))


def _averaged(graph: Graph, matrix: str, trees: Sequence[_Tree]) -> Predicted:
    sums = _sums(graph, _single(graph, matrix), trees, [0] * len(trees))
    return Predicted(value=_mean(graph, sums, len(trees)))


def _tree_classifier(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    return _voted(graph, matrix, [_tree(estimator)])


def _tree_regressor(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    return _averaged(graph, matrix, [_tree(estimator)])


def _forest_classifier(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    return _voted(graph, matrix, [_tree(one) for one in estimator.estimators_])


def _forest_regressor(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    return _averaged(graph, matrix, [_tree(one) for one in estimator.estimators_])


def _bagging_classifier(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    trees = []
    for one, columns in zip(estimator.estimators_, estimator.estimators_features_, strict=True):
        tree = _tree(one, columns)
        # A tree may have seen some of the classes only; to it they are numbers.
        values = np.zeros((len(tree.values), len(estimator.classes_)))
        values[:, np.asarray(one.classes_, dtype=int)] = tree.values
        trees.append(tree.valued(values))
    return _voted(graph, matrix, trees)


def _bagging_regressor(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    pairs = zip(estimator.estimators_, estimator.estimators_features_, strict=True)
    return _averaged(graph, matrix, [_tree(one, columns) for one, columns in pairs])


def _boosting_classifier(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    raw = _boosted(graph, estimator, matrix, estimator.decision_function)
    if len(estimator.classes_) == 2 and estimator.loss == "exponential":
        raw = graph.op("Mul", raw, np.asarray([2.0]))
    return _of_raw(graph, raw, len(estimator.classes_))


def _boosting_regressor(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    return Predicted(value=_boosted(graph, estimator, matrix, estimator.predict))


def _boosted(graph: Graph, estimator: Any, matrix: str, tell: Callable[[Array], Array]) -> str:
    """``[rows, targets]``: what gradient boosting begins with, and the trees' shares."""
    stages = estimator.estimators_
    trees = [_tree(one).scaled(estimator.learning_rate) for one in stages.ravel()]
    targets = [*range(stages.shape[1])] * len(stages)
    # What it begins with is what it says of a row, without the trees.
    row = np.zeros((1, estimator.n_features_in_))
    grown = np.sum([[one.predict(row)[0] for one in stage] for stage in stages], axis=0) * estimator.learning_rate
    bare = copy.copy(estimator)
    bare.__dict__.pop("feature_names_in_", None)
    first = np.ravel(getattr(bare, tell.__name__)(row)) - grown
    return graph.op("Add", _sums(graph, _single(graph, matrix), trees, targets), first)


def _histogram_classifier(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    return _of_raw(graph, _histogram(graph, estimator, matrix), len(estimator.classes_))


def _histogram_regressor(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    raw = _histogram(graph, estimator, matrix)
    return Predicted(value=graph.op("Exp", raw) if estimator.loss in ("gamma", "poisson") else raw)


def _histogram(graph: Graph, estimator: Any, matrix: str) -> str:
    rounds = estimator._predictors
    trees = [_grown(one) for some in rounds for one in some]
    targets = [*range(len(rounds[0]))] * len(rounds)
    return graph.op("Add", _sums(graph, matrix, trees, targets), _row(np.ravel(estimator._baseline_prediction)))


def _of_raw(graph: Graph, raw: str, classes: int) -> Predicted:
    if classes > 2:
        return Predicted(_largest(graph, raw), graph.op("Softmax", raw, axis=1))
    return Predicted(_decided(graph, raw, classes), _of_two(graph, graph.op("Sigmoid", raw)))


def _discriminant(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    """LinearDiscriminantAnalysis."""
    return _of_raw(graph, _linear(graph, estimator, matrix), len(estimator.classes_))


def _linear(graph: Graph, estimator: Any, matrix: str) -> str:
    """``[rows, classes]``, or one score where there are two."""
    products = graph.op("MatMul", matrix, np.asarray(estimator.coef_, dtype=float).T)
    return graph.op("Add", products, _row(estimator.intercept_))


def _of_two(graph: Graph, second: str) -> str:
    """The probabilities of two classes, by that of the second."""
    return graph.op("Concat", graph.op("Sub", np.ones(1), second), second, axis=1)


def _ada_boost_classifier(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    count = len(estimator.classes_)
    weights = estimator.estimator_weights_[: len(estimator.estimators_)]
    trees = []
    for one, weight in zip(estimator.estimators_, weights, strict=True):
        tree = _tree(one)
        chosen = np.searchsorted(estimator.classes_, one.classes_[tree.values.argmax(axis=1)])
        trees.append(tree.valued(np.where(np.arange(count) == chosen[:, None], weight, -weight / (count - 1))))
    votes = graph.op("Div", _rows_of_leaves(graph, _single(graph, matrix), trees), np.asarray([weights.sum()]))
    index = _largest(graph, votes)
    # Of two classes the votes are each other's opposites, and their difference counts half.
    return Predicted(index, graph.op("Softmax", graph.op("Div", votes, np.asarray([count - 1.0])), axis=1))


def _ada_boost_regressor(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    """The median of the trees, by their weights."""
    count = len(estimator.estimators_)
    trees = [_tree(one) for one in estimator.estimators_]
    told = _sums(graph, _single(graph, matrix), trees, range(count))
    values, order = graph.ops("TopK", told, np.asarray([count]), results=2, axis=1, largest=0, sorted=1)
    reached = graph.op("CumSum", graph.op("Gather", estimator.estimator_weights_[:count], order), np.asarray(1))
    half = graph.op("Mul", np.asarray([0.5]), graph.op("Gather", reached, np.asarray([count - 1]), axis=1))
    above = graph.cast(graph.op("GreaterOrEqual", reached, half), TensorProto.INT64)
    return Predicted(value=graph.op("GatherElements", values, graph.op("ArgMax", above, axis=1, keepdims=1), axis=1))


# Support vectors, of which onnxruntime has the regression in single precision


def _support_vectors(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    vectors = np.asarray(estimator.support_vectors_)
    kernel = _KERNELS[estimator.kernel](graph, estimator, matrix, vectors)
    summed = graph.op("MatMul", kernel, np.asarray(estimator.dual_coef_).T)
    return Predicted(value=graph.op("Add", summed, _row(estimator.intercept_)))


def _products(graph: Graph, matrix: str, vectors: Array) -> str:
    return graph.op("MatMul", matrix, vectors.T)


def _scaled_products(graph: Graph, estimator: Any, matrix: str, vectors: Array) -> str:
    scaled = graph.op("Mul", _products(graph, matrix, vectors), _row(estimator._gamma))
    return graph.op("Add", scaled, _row(estimator.coef0))


def _distances(graph: Graph, matrix: str, vectors: Array) -> str:
    """``[rows, vectors]``: the squares of the Euclidean distances."""
    own = graph.op("ReduceSumSquare", matrix, np.asarray([1]), keepdims=1)
    both = graph.op("Mul", _products(graph, matrix, vectors), np.asarray([-2.0]))
    return graph.op("Add", graph.op("Add", own, both), (vectors**2).sum(axis=1))


def _radial(graph: Graph, estimator: Any, matrix: str, vectors: Array) -> str:
    return graph.op("Exp", graph.op("Mul", _distances(graph, matrix, vectors), _row(-estimator._gamma)))


_KERNELS: Mapping[str, Callable[[Graph, Any, str, Array], str]] = {
    "linear": lambda graph, _, matrix, vectors: _products(graph, matrix, vectors),
    "rbf": _radial,
    "poly": lambda graph, one, matrix, vectors: graph.op(
        "Pow", _scaled_products(graph, one, matrix, vectors), _row(one.degree)
    ),
    "sigmoid": lambda graph, one, matrix, vectors: graph.op("Tanh", _scaled_products(graph, one, matrix, vectors)),
}


# Neighbours that count by their distance: it has to be exact, as one of zero counts for everything


def _neighbours(graph: Graph, estimator: Any, matrix: str) -> tuple[str, str]:
    """``[rows, neighbours]``: which they are, and what they count."""
    known = np.asarray(estimator._fit_X, dtype=float)
    count = np.asarray([estimator.n_neighbors])
    nearest = graph.ops("TopK", _distances(graph, matrix, known), count, results=2, axis=1, largest=0)[1]
    apart = graph.op("Sub", graph.op("Unsqueeze", matrix, np.asarray([1])), graph.op("Gather", known, nearest, axis=0))
    distance = graph.op("ReduceL2", apart, np.asarray([2]), keepdims=0)
    there = graph.op("Equal", distance, np.zeros(1))
    any_there = graph.cast(
        graph.op("ReduceMax", graph.cast(there, TensorProto.INT64), np.asarray([1]), keepdims=1), TensorProto.BOOL
    )
    by_distance = graph.op("Reciprocal", graph.op("Where", there, np.ones(1), distance))
    return nearest, graph.op("Where", any_there, graph.double(there), by_distance)


def _neighbour_classifier(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    nearest, weights = _neighbours(graph, estimator, matrix)
    of_class = np.eye(len(estimator.classes_))[np.ravel(estimator._y)]
    votes = graph.op(
        "Mul", graph.op("Gather", of_class, nearest, axis=0), graph.op("Unsqueeze", weights, np.asarray([2]))
    )
    sums = graph.op("ReduceSum", votes, np.asarray([1]), keepdims=0)
    shares = graph.op("Div", sums, graph.op("ReduceSum", sums, np.asarray([1]), keepdims=1))
    return Predicted(_largest(graph, sums), shares)


def _neighbour_regressor(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    nearest, weights = _neighbours(graph, estimator, matrix)
    values = graph.op("Mul", graph.op("Gather", np.ravel(estimator._y).astype(float), nearest, axis=0), weights)
    sums, counts = (graph.op("ReduceSum", one, np.asarray([1]), keepdims=1) for one in (values, weights))
    return Predicted(value=graph.op("Div", sums, counts))


_NEIGHBOURS: Mapping[str, Callable[[Graph, Any, str], Predicted]] = {
    "KNeighborsClassifier": _neighbour_classifier,
    "KNeighborsRegressor": _neighbour_regressor,
}


# Clusterings


def _nearest(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    if not len(estimator.cluster_centers_):
        raise NotConvertible("it has no clusters, as it did not converge")
    return Predicted(_nearest_of(graph, matrix, np.asarray(estimator.cluster_centers_, dtype=float)))


def _nearest_of(graph: Graph, matrix: str, centers: Array) -> str:
    return graph.op("ArgMin", _distances(graph, matrix, centers), axis=1, keepdims=0)


def _bisected(graph: Graph, estimator: Any, matrix: str) -> Predicted:
    """Down the tree of clusters, to the nearer of two at each step."""

    def label(node: Any) -> Operand:
        if node.left is None:
            return np.asarray([node.label], dtype=np.int64)
        centers = np.stack([node.left.center, node.right.center]) + mean
        second = graph.cast(_nearest_of(graph, matrix, centers), TensorProto.BOOL)
        return graph.op("Where", second, label(node.right), label(node.left))

    mean = getattr(estimator, "_X_mean", 0.0)
    found = label(estimator._bisecting_tree)
    if isinstance(found, str):
        return Predicted(found)
    return Predicted(_nearest_of(graph, matrix, np.asarray(estimator.cluster_centers_)))


_OURS: Mapping[str, Callable[[Graph, Any, str], Predicted]] = {
    "DecisionTreeClassifier": _tree_classifier,
    "DecisionTreeRegressor": _tree_regressor,
    **dict.fromkeys(("RandomForestClassifier", "ExtraTreesClassifier"), _forest_classifier),
    **dict.fromkeys(("RandomForestRegressor", "ExtraTreesRegressor"), _forest_regressor),
    "GradientBoostingClassifier": _boosting_classifier,
    "GradientBoostingRegressor": _boosting_regressor,
    "HistGradientBoostingClassifier": _histogram_classifier,
    "HistGradientBoostingRegressor": _histogram_regressor,
    "BaggingClassifier": _bagging_classifier,
    "BaggingRegressor": _bagging_regressor,
    "AdaBoostClassifier": _ada_boost_classifier,
    "AdaBoostRegressor": _ada_boost_regressor,
    "LinearDiscriminantAnalysis": _discriminant,
    "SVR": _support_vectors,
    **dict.fromkeys(("MeanShift", "AffinityPropagation"), _nearest),
    "BisectingKMeans": _bisected,
}
