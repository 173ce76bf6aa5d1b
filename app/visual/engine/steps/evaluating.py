"""Steps that tell how good a model is: figures at the port ``metrics``, no values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.inspection import permutation_importance
from sklearn.model_selection import KFold, StratifiedKFold, cross_validate, learning_curve
from sklearn.preprocessing import StandardScaler

from app.visual.engine import checks
from app.visual.engine.figures import Figures
from app.visual.engine.statistics import histogram
from app.visual.engine.steps import Task, applying
from app.visual.engine.steps.learning import CLUSTER
from app.visual.engine.values import Model, NodeFailure, Table, Value

Outputs = Mapping[str, Value]

MOST_POINTS = 2_000
"""So many points of a curve or a cloud are drawn; of more, some that are spread evenly or chosen by chance."""
MOST_CLASSES = 20
"""So many classes have a curve and a row of their own, the most frequent ones first."""
MOST_COMPARED = 10_000
"""Of more rows the silhouette is told by so many, chosen by chance: it compares every two."""
GRID = np.linspace(0, 1, 101)
"""Where curves of several classes are read, which have points of their own each."""


def classification(task: Task) -> Outputs:
    """Scores, a report by class, the confusion matrix, ROC and precision-recall curves."""
    model, true = _model_and_truth(task, "classification")
    figures = task.figures("metrics")
    judged = _Classified(model, task.table(), true, task.parameters.get("average", "macro"))
    figures.table(_named_values({name: score(judged) for name, score in CLASSIFICATION.items()}))
    shown = _most_frequent(true, judged.predicted)
    _report(figures, true, judged.predicted, shown)
    matrix = metrics.confusion_matrix(true, judged.predicted, labels=shown)
    figures.confusion([str(name) for name in shown], matrix)
    if judged.scores is not None:
        _curves(figures, true, judged.scores, judged.classes)
    return {}


class _Classified:
    """What a model says of rows, beside what is true; found out as it is asked for."""

    def __init__(self, model: Model, table: Table, true: pd.Series, average: str) -> None:
        self.true = true
        self.classes = model.estimator.classes_
        self._estimator = model.estimator
        self._model = model
        self._features = applying.prepared(model, table)
        self.known = bool(true.isin(self.classes).all())
        """Whether the model knows all classes that are true."""
        self.how: dict[str, Any] = {"average": average, "zero_division": 0}
        if len(self.classes) == 2 and self.known:
            self.how |= {"average": "binary", "pos_label": self.classes[1]}

    @cached_property
    def predicted(self) -> np.ndarray[Any, Any]:
        return applying.labels(self._model, self._features)

    @cached_property
    def told(self) -> np.ndarray[Any, Any] | None:
        """Probabilities, where the model tells them."""
        return self._estimator.predict_proba(self._features) if hasattr(self._estimator, "predict_proba") else None

    @cached_property
    def scores(self) -> np.ndarray[Any, Any] | None:
        return _decisions(self._estimator, self._features) if self.told is None else self.told

    def log_loss(self) -> float | None:
        if self.told is None or not self.known:
            return None
        return float(metrics.log_loss(self.true, self.told, labels=self.classes))


CLASSIFICATION: Mapping[str, Callable[[_Classified], float | None]] = {
    "accuracy": lambda of: metrics.accuracy_score(of.true, of.predicted),
    "balanced accuracy": lambda of: metrics.balanced_accuracy_score(of.true, of.predicted),
    "precision": lambda of: metrics.precision_score(of.true, of.predicted, **of.how),
    "recall": lambda of: metrics.recall_score(of.true, of.predicted, **of.how),
    "f1": lambda of: metrics.f1_score(of.true, of.predicted, **of.how),
    "ROC AUC": lambda of: _area(of.true, of.scores, of.classes),
    "log loss": _Classified.log_loss,
}
"""Name -> score of a classification; None where it is not defined."""


def regression(task: Task) -> Outputs:
    """Scores, what is predicted against what is true, and the residuals."""
    model, true = _model_and_truth(task, "regression")
    predicted = applying.labels(model, applying.prepared(model, task.table()))
    figures = task.figures("metrics")
    figures.table(_named_values({name: score(true, predicted) for name, score in REGRESSION.items()}))
    some = _some_rows(len(true), task.random_state)
    figures.scatter("predicted and true", true.to_numpy()[some], predicted[some], "true", "predicted")
    counts, edges = histogram(true.to_numpy() - predicted)
    figures.histogram("residuals", edges, counts, "true - predicted")
    return {}


REGRESSION: Mapping[str, Callable[[pd.Series, np.ndarray[Any, Any]], float | None]] = {
    "MAE": metrics.mean_absolute_error,
    "MSE": metrics.mean_squared_error,
    "RMSE": lambda true, predicted: np.sqrt(metrics.mean_squared_error(true, predicted)),
    "median absolute error": metrics.median_absolute_error,
    "R2": lambda true, predicted: metrics.r2_score(true, predicted) if len(true) > 1 else None,
    "MAPE": metrics.mean_absolute_percentage_error,
}
"""Name -> score of a regression; None where it is not defined."""

ERRORS = ("log loss", "MAE", "MSE", "RMSE", "median absolute error", "MAPE")
"""The scores of which less is better."""


def score(name: str, model: Model, table: Table) -> float | None:
    """One score, as the evaluation of a classification or a regression tells it; None where it is not defined."""
    if model.task == "classification":
        found = CLASSIFICATION[name](_Classified(model, table, table.labels, "macro"))
    else:
        found = REGRESSION[name](table.labels, applying.labels(model, applying.prepared(model, table)))
    return None if found is None else float(found)


def clustering(task: Task) -> Outputs:
    """Scores that need no truth, the clusters' sizes, and the rows on the plane of their main components."""
    features, found = _clustered(task)
    figures = task.figures("metrics")
    grouped = found != -1
    some, of_some = features[grouped], found[grouped]
    count = len(np.unique(of_some))
    comparable = 2 <= count < len(of_some)
    sampled = {"sample_size": min(len(of_some), MOST_COMPARED), "random_state": task.random_state}
    figures.table(
        _named_values(
            {
                "clusters": count,
                "rows of no cluster": int((~grouped).sum()),
                "silhouette": _silhouette(some, of_some, sampled) if comparable else None,
                "Calinski-Harabasz": metrics.calinski_harabasz_score(some, of_some) if comparable else None,
                "Davies-Bouldin": metrics.davies_bouldin_score(some, of_some) if comparable else None,
            }
        )
    )
    names, sizes = np.unique(found, return_counts=True)
    figures.bars("cluster sizes", [str(name) for name in names], sizes)
    _plane(figures, features, found, task.random_state)
    return {}


def validation(task: Task) -> Outputs:
    """Scores of models that are fitted anew, preparation and all, each without the rows it is tested on."""
    model, features, labels = _refittable(task)
    names = SCORES[model.task]
    try:
        found = cross_validate(
            clone(model.pipeline), features, labels, cv=_folds(task, model, labels), scoring=names, error_score="raise"
        )
    except ValueError as error:
        raise NodeFailure(f"A fold cannot be fitted: {error}") from error
    scores = {name: _told(name, found[f"test_{name}"]) for name in names}
    folds = len(next(iter(scores.values())))
    figures = task.figures("metrics")
    figures.table({"fold": list(range(1, folds + 1)), **{plain_name(name): some for name, some in scores.items()}})
    figures.table(
        {
            "metric": [plain_name(name) for name in scores],
            "mean": [some.mean() for some in scores.values()],
            "std": [some.std() for some in scores.values()],
        }
    )
    return {}


def learning(task: Task) -> Outputs:
    """How the score grows with the number of rows that are learnt from."""
    model, features, labels = _refittable(task)
    name = next(iter(SCORES[model.task]))
    shares = np.linspace(0.1, 1.0, task.parameters.get("points", 5))
    try:
        sizes, train, test = learning_curve(
            clone(model.pipeline),
            features,
            labels,
            train_sizes=shares,
            cv=_folds(task, model, labels),
            scoring=name,
            shuffle=True,
            random_state=task.random_state,
            error_score="raise",
        )
    except ValueError as error:
        raise NodeFailure(f"The least part of the rows cannot be fitted: {error}. Bring in more rows") from error
    lines = {"train": _told(name, train).mean(axis=1), "validation": _told(name, test).mean(axis=1)}
    task.figures("metrics").curves("learning curve", sizes, lines, "rows", plain_name(name))
    return {}


def importance(task: Task) -> Outputs:
    """How much the score falls when a column's values are shuffled."""
    model, true = _model_and_truth(task, *SCORES)
    features = applying.prepared(model, task.table())
    name = next(iter(SCORES[model.task]))
    found = permutation_importance(
        model.estimator,
        features,
        true,
        scoring=name,
        n_repeats=task.parameters.get("n_repeats", 5),
        random_state=task.random_state,
    )
    order = np.argsort(-found.importances_mean, kind="stable")
    means, deviations = found.importances_mean[order], found.importances_std[order]
    names = [str(features.columns[i]) for i in order]
    figures = task.figures("metrics")
    figures.bars(f"permutation importance ({plain_name(name)})", names, means, deviations)
    figures.table({"column": names, "importance": means, "std": deviations})
    return {}


SCORES: Mapping[str, Sequence[str]] = {
    "classification": ("accuracy", "precision_macro", "recall_macro", "f1_macro"),
    "regression": ("r2", "neg_mean_absolute_error", "neg_root_mean_squared_error"),
}
"""Task -> what is told of its models, the main one first."""


def _told(name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Errors as such: scikit-learn has them negative, so that more is always better."""
    return -values if name.startswith("neg_") else values


def plain_name(name: str) -> str:
    """A score's name for people."""
    return name.removeprefix("neg_").replace("_", " ")


def _model_and_truth(task: Task, *kinds: str) -> tuple[Model, pd.Series]:
    model = task.model()
    if model.task not in kinds:
        raise NodeFailure(f"This evaluation is of {' or '.join(kinds)}; the model is of {model.task}")
    frame = task.table().frame
    if model.target not in frame.columns:
        raise NodeFailure(f"The table has no column '{model.target}', which the model predicts: tie rows that have it")
    table = Table(frame, model.target)
    if model.task == "regression":
        return model, checks.numbers(table)
    if missing := int(table.labels.isna().sum()):
        raise NodeFailure(f"{missing} rows have no value in the target '{model.target}': drop the rows that miss it")
    return model, table.labels


def _named_values(values: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {"metric": list(values), "value": list(values.values())}


def _decisions(estimator: Any, features: pd.DataFrame) -> np.ndarray[Any, Any] | None:
    """A column a class: the more, the more likely. None where an estimator does not tell."""
    if not hasattr(estimator, "decision_function"):
        return None
    decided: np.ndarray[Any, Any] = estimator.decision_function(features)
    return np.column_stack([-decided, decided]) if decided.ndim == 1 else decided


def _area(true: pd.Series, scores: np.ndarray[Any, Any] | None, classes: np.ndarray[Any, Any]) -> float | None:
    """Of two classes that of the second, of more the mean of one against the rest. None where it is not defined."""
    if scores is None:
        return None
    areas = [metrics.roc_auc_score(true == name, scores[:, i]) for i, name in _against_the_rest(true, classes)]
    return float(np.mean(areas)) if areas else None


def _against_the_rest(true: pd.Series, classes: np.ndarray[Any, Any]) -> list[tuple[int, Any]]:
    """The classes that have a curve: those that some of the rows have, but not all.

    Of two it is the second, as the first's says the same.
    """
    told = [(1, classes[1])] if len(classes) == 2 else list(enumerate(classes))
    counts = true.value_counts()
    return [(i, name) for i, name in told if 0 < counts.get(name, 0) < len(true)]


def _most_frequent(true: pd.Series, predicted: np.ndarray[Any, Any]) -> list[Any]:
    counts = pd.Series(np.concatenate([true.to_numpy(), predicted])).value_counts()
    return sorted(counts.index[:MOST_CLASSES])


def _report(figures: Figures, true: pd.Series, predicted: np.ndarray[Any, Any], classes: list[Any]) -> None:
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        true, predicted, labels=classes, zero_division=0
    )
    names = [str(name) for name in classes]
    figures.table({"class": names, "precision": precision, "recall": recall, "f1": f1, "rows": support})


def _curves(figures: Figures, true: pd.Series, scores: np.ndarray[Any, Any], classes: np.ndarray[Any, Any]) -> None:
    frequent = true.value_counts().index[:MOST_CLASSES]
    there = [(i, name) for i, name in _against_the_rest(true, classes) if len(classes) == 2 or name in frequent]
    for title, curve, x_label, y_label in _CURVES:
        lines = {str(name): curve(true == name, scores[:, i]) for i, name in there}
        if len(classes) == 2:
            for x, y in lines.values():
                few = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).astype(int))
                figures.curve(title, x[few], y[few], x_label, y_label)
        elif lines:
            read = {name: np.interp(GRID, x, y) for name, (x, y) in lines.items()}
            figures.curves(f"{title}, one class against the rest", GRID, read, x_label, y_label)


def _roc(positive: pd.Series, scores: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    false_rate, true_rate, _ = metrics.roc_curve(positive, scores)
    return false_rate, true_rate


def _precision_recall(
    positive: pd.Series, scores: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    precision, recall, _ = metrics.precision_recall_curve(positive, scores)
    return recall[::-1], precision[::-1]


_CURVES: Sequence[
    tuple[str, Callable[[pd.Series, np.ndarray[Any, Any]], tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]], str, str]
] = (
    ("ROC curve", _roc, "false positive rate", "true positive rate"),
    ("precision-recall curve", _precision_recall, "recall", "precision"),
)


def _some_rows(count: int, seed: int) -> np.ndarray[Any, Any]:
    if count <= MOST_POINTS:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, MOST_POINTS, replace=False))


def _clustered(task: Task) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rows as numbers, and the cluster of each: the table's own column, or what the model says."""
    table = task.table()
    model = task.model() if "model" in task.inputs else None
    if model is not None and model.task != "clustering":
        raise NodeFailure(f"This evaluation is of clustering; the model is of {model.task}")
    if CLUSTER in table.features.columns:
        of = [name for name in table.features.columns if name != CLUSTER] if model is None else list(model.features)
        features = table.frame[checks.columns(table.frame, of)]
        checks.takes(PCA(), features)
        return features.to_numpy(dtype=float), table.frame[CLUSTER].to_numpy()
    if model is None:
        raise NodeFailure(f"The table has no column '{CLUSTER}': tie the port 'data' of a clustering, or its model")
    features = applying.prepared(model, table)
    return features.to_numpy(dtype=float), applying.labels(model, features)


def _silhouette(rows: np.ndarray[Any, Any], found: np.ndarray[Any, Any], sampled: Mapping[str, Any]) -> float | None:
    try:
        return float(metrics.silhouette_score(rows, found, **(sampled if len(found) > MOST_COMPARED else {})))
    except ValueError:
        return None  # the rows that were chosen are all of one cluster


def _plane(figures: Figures, rows: np.ndarray[Any, Any], found: np.ndarray[Any, Any], seed: int) -> None:
    some = _some_rows(len(rows), seed)
    if min(rows.shape) < 2:
        return
    at = PCA(n_components=2, random_state=seed).fit_transform(StandardScaler().fit_transform(rows))[some]
    figures.scatter("clusters", at[:, 0], at[:, 1], "component 1", "component 2", [str(name) for name in found[some]])


def _refittable(task: Task) -> tuple[Model, pd.DataFrame, pd.Series]:
    """The pipeline, rows that it takes, and their labels."""
    model = task.model("pipeline")
    if model.task not in SCORES:
        raise NodeFailure(f"Only a classification or a regression has scores to compare; the model is of {model.task}")
    table = task.table()
    needed = checks.needed_by(model.preparation[0][1]) if model.preparation else list(model.features)
    features = table.frame[checks.columns(table.frame, needed)]
    if not model.preparation:
        checks.takes(model.estimator, features)
    target = Table(table.frame, checks.columns(table.frame, [str(model.target)])[0])
    return model, features, checks.classes(target) if model.task == "classification" else checks.numbers(target)


def _folds(task: Task, model: Model, labels: pd.Series) -> Any:
    count = task.parameters.get("cv", 5)
    if model.task == "classification":
        checks.class_sizes(labels, count, f"{count} folds")
        return StratifiedKFold(count, shuffle=True, random_state=task.random_state)
    if len(labels) < count:
        raise NodeFailure(f"{len(labels)} rows cannot be divided into {count} folds: take fewer folds")
    return KFold(count, shuffle=True, random_state=task.random_state)
