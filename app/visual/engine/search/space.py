"""What is tried: algorithms with the ranges of their parameters, and the ways to prepare rows for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial
from sklearn.utils import get_tags

from app.visual.engine.plan import Drawn
from app.visual.engine.search import pipelines
from app.visual.engine.search.columns import Columns
from app.visual.engine.steps import library_class

ESTIMATOR, ENCODING, FILL = "estimator", "encoding", "fill"
MOST_CLASSES_BY_TARGET = 10
"""Of more classes the mean of the target is no encoding: it makes a column a class of each column."""


@dataclass(frozen=True)
class Algorithm:
    """A component, the ranges of its parameters, and what is tried first."""

    uuid: str
    ranges: Mapping[str, BaseDistribution]
    first: Mapping[str, Any]
    fixed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Learner:
    """An algorithm for classes and one for numbers."""

    classes: Algorithm
    numbers: Algorithm
    scaled: bool = False
    """Whether it wants columns of one scale, and categories that are columns of their own."""


def _reals(low: float, high: float) -> FloatDistribution:
    return FloatDistribution(low, high, log=True)


def _wholes(low: int, high: int) -> IntDistribution:
    return IntDistribution(low, high, log=True)


def _pair(
    classes: str,
    numbers: str,
    ranges: Mapping[str, BaseDistribution],
    first: Mapping[str, Any],
    *,
    fixed: Mapping[str, Any] | None = None,
    scaled: bool = False,
) -> Learner:
    of_classes, of_numbers = (Algorithm(uuid, ranges, first, fixed or {}) for uuid in (classes, numbers))
    return Learner(of_classes, of_numbers, scaled)


_LEAVES = {"max_leaf_nodes": _wholes(8, 4096), "min_samples_leaf": _wholes(1, 64)}
_FOREST = {
    "n_estimators": _wholes(20, 300),
    **_LEAVES,
    "max_features": CategoricalDistribution(["sqrt", "log2", "none"]),
}
_FIRST_FOREST = {"n_estimators": 60, "max_leaf_nodes": 512, "min_samples_leaf": 1, "max_features": "sqrt"}

LEARNERS: Mapping[str, Learner] = {
    "hist_gradient_boosting": _pair(
        "sklearn.hist_gradient_boosting_classifier",
        "sklearn.hist_gradient_boosting_regressor",
        {
            "learning_rate": _reals(0.01, 0.5),
            "max_iter": _wholes(20, 500),
            "max_leaf_nodes": _wholes(4, 127),
            "min_samples_leaf": _wholes(2, 200),
            "l2_regularization": _reals(1e-6, 10.0),
        },
        {
            "learning_rate": 0.1,
            "max_iter": 100,
            "max_leaf_nodes": 31,
            "min_samples_leaf": 20,
            "l2_regularization": 1e-6,
        },
        # Left to itself it begins to stop early at so many rows: all stages of a trial are to learn in the same way.
        fixed={"early_stopping": False},
    ),
    "linear": Learner(
        Algorithm("sklearn.logistic_regression", {"C": _reals(1e-4, 1e3)}, {"C": 1.0}, {"max_iter": 200}),
        Algorithm("sklearn.ridge", {"alpha": _reals(1e-4, 1e4)}, {"alpha": 1.0}),
        scaled=True,
    ),
    "extra_trees": _pair("sklearn.extra_trees_classifier", "sklearn.extra_trees_regressor", _FOREST, _FIRST_FOREST),
    "random_forest": _pair(
        "sklearn.random_forest_classifier", "sklearn.random_forest_regressor", _FOREST, _FIRST_FOREST
    ),
    "decision_tree": _pair(
        "sklearn.decision_tree_classifier",
        "sklearn.decision_tree_regressor",
        _LEAVES,
        {"max_leaf_nodes": 64, "min_samples_leaf": 8},
    ),
    "k_neighbors": _pair(
        "sklearn.k_neighbors_classifier",
        "sklearn.k_neighbors_regressor",
        {
            "n_neighbors": _wholes(1, 100),
            "weights": CategoricalDistribution(["uniform", "distance"]),
            "p": CategoricalDistribution([1.0, 2.0]),
        },
        {"n_neighbors": 5, "weights": "uniform", "p": 2.0},
        scaled=True,
    ),
}
"""Name -> algorithm, in the order in which they are tried first."""


@dataclass(frozen=True)
class Space:
    """All pipelines that may be tried on a table."""

    columns: Columns
    classes: bool
    """Whether classes are told apart, or numbers predicted."""
    estimators: Sequence[str]
    by_target: bool
    """Whether texts may be encoded by the target."""
    seed: int

    def first(self) -> list[dict[str, Any]]:
        """What is tried before anything is known: each algorithm once, as it is used most."""
        tried = []
        for name in self.estimators:
            chosen = {f"{name}.{parameter}": value for parameter, value in self.algorithm(name).first.items()}
            tried.append({ESTIMATOR: name, **chosen})
        return tried

    def suggest(self, trial: Trial) -> list[Drawn]:
        """The next pipeline, from the split rows to the evaluation."""
        name = trial.suggest_categorical(ESTIMATOR, list(self.estimators))
        algorithm = self.algorithm(name)
        found = {key: _suggest(trial, f"{name}.{key}", one) for key, one in algorithm.ranges.items()}
        chosen = {
            kind: options[0] if len(options) == 1 else trial.suggest_categorical(f"{name}.{kind}", options)
            for kind, options in self._choices(name).items()
        }
        return pipelines.pipeline(
            self.columns,
            algorithm.uuid,
            {**algorithm.fixed, **found},
            encoding=chosen[ENCODING],
            fill=chosen.get(FILL),
            scaled=LEARNERS[name].scaled,
            classes=self.classes,
            seed=self.seed,
        )

    def algorithm(self, name: str) -> Algorithm:
        """The algorithm of that name for what is predicted here."""
        return LEARNERS[name].classes if self.classes else LEARNERS[name].numbers

    def _choices(self, name: str) -> dict[str, list[str]]:
        """The ways to prepare rows for an algorithm; one that has only one is no choice."""
        known = ["one_hot"] if LEARNERS[name].scaled else ["ordinal"]
        choices = {ENCODING: [*known, "target"] if self.columns.texts and self.by_target else known}
        if self.columns.missing and not _takes_missing(self.algorithm(name).uuid):
            choices[FILL] = ["median", "mean"]
        return choices


def _suggest(trial: Trial, name: str, one: BaseDistribution) -> Any:
    match one:
        case IntDistribution():
            return trial.suggest_int(name, one.low, one.high, log=one.log)
        case FloatDistribution():
            return trial.suggest_float(name, one.low, one.high, log=one.log)
        case CategoricalDistribution():
            return trial.suggest_categorical(name, one.choices)
    raise TypeError(f"{name} has no range of a known kind: {one}")


def _takes_missing(uuid: str) -> bool:
    made = pipelines.component(uuid).of
    assert made is not None
    return bool(get_tags(library_class(made)()).input_tags.allow_nan)
