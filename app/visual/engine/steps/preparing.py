"""Steps that make features: what is fitted on ``data`` is used on ``test``, and kept for rows to come.

All that is fitted goes into the table's preparation as a ColumnTransformer of scikit-learn's, which works on columns by
name and leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype
from sklearn.compose import ColumnTransformer
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  without it the imputer cannot be imported
from sklearn.model_selection import KFold, StratifiedKFold

from app.visual.engine import checks, transformers
from app.visual.engine.steps import Task, library_class
from app.visual.engine.values import Model, NodeFailure, Table, Value

Outputs = Mapping[str, Value]
Parts = Sequence[tuple[str, Any, Sequence[str]]]

MOST_CATEGORIES = 1_000
"""Of a column that becomes a column a category."""


def numbers(task: Task) -> Outputs:
    """A transformer of the library's, of the columns of numbers unless others are chosen."""
    return _of_numbers(task, task.make())


def texts(task: Task) -> Outputs:
    """An encoder of the library's, of the columns of texts unless others are chosen."""
    table = task.table()
    columns = _chosen(task, checks.text_columns(table.features), "text")
    made = task.make(**dense(task.of, task.parameters))
    if hasattr(made, "sparse_output") and not task.parameters.get("max_categories"):
        _few_categories(table.features[columns])
    return transform(task, [(_name(made), made, columns)])


def encode_by_target(task: Task) -> Outputs:
    """TargetEncoder, whose folds are shuffled with the run's seed."""
    table = task.table()
    columns = _chosen(task, checks.text_columns(table.features), "text")
    count, folds, kind = task.parameters.get("cv", 5), KFold, "continuous"
    if is_classification(task):
        classes = checks.classes(table)
        checks.class_sizes(classes, count, f"{count} folds")
        folds, kind = StratifiedKFold, "binary" if classes.nunique() == 2 else "multiclass"
    made = task.make(cv=folds(count, shuffle=True, random_state=task.random_state), target_type=kind)
    return transform(task, [(_name(made), made, columns)])


def impute(task: Task) -> Outputs:
    """SimpleImputer; columns of numbers and of texts are filled apart, so that numbers stay numbers."""
    features, strategy = task.table().features, task.parameters.get("strategy", "mean")
    of_numbers = [name for name in checks.number_columns(features) if not is_bool_dtype(features[name])]
    of_texts = [] if strategy in ("mean", "median") else checks.text_columns(features)
    columns = _chosen(task, of_numbers + of_texts, "values")
    if others := [name for name in columns if name not in of_numbers + of_texts]:
        raise NodeFailure(
            f"{checks.named(others)} cannot be filled by the strategy {strategy}: texts can by most_frequent and "
            f"constant, times and truths by none"
        )
    kinds = (("numbers", float, of_numbers), ("texts", str, of_texts))
    return transform(
        task,
        [
            (kind, _filling(task, read), chosen)
            for kind, read, some in kinds
            if (chosen := [name for name in columns if name in some])
        ],
    )


def select_by_score(task: Task) -> Outputs:
    """The columns of numbers that tell most about the target, one by one."""
    name = task.parameters.get("score_func", "f_classif")
    score: Any = library_class(f"sklearn.feature_selection.{name}")
    if name.startswith("mutual_info"):
        score = partial(score, random_state=task.random_state)
    return _of_numbers(task, task.make(score_func=score))


def select_by_model(task: Task) -> Outputs:
    """The columns of numbers that a model finds important."""
    of = MODELS[task.parameters.get("estimator", "random_forest")][is_classification(task)]
    more: dict[str, Any] = {"estimator": library_class(of[0])(**_seeded(task, of[1]))}
    if (threshold := task.parameters.get("threshold")) is not None:
        more["threshold"] = number_or_text(threshold)
    return _of_numbers(task, task.make(**more))


def drop_columns(task: Task) -> Outputs:
    """Leave out the chosen columns."""
    table = task.table()
    dropped = checks.feature_columns(table, task.parameters.get("columns", []))
    kept = [name for name in table.features.columns if name not in dropped]
    if not kept:
        raise NodeFailure("No column beside the target would be left: drop fewer")
    return transform(task, [("kept", "passthrough", kept)], remainder="drop")


def date_parts(task: Task) -> Outputs:
    """Numbers out of times."""
    table = task.table()
    times = [str(name) for name in table.features.columns if is_datetime64_any_dtype(table.frame[name])]
    columns = _chosen(task, times, "times")
    made = task.make()
    return transform(task, [(_name(made), made, columns)])


def arithmetic(task: Task) -> Outputs:
    """A column computed from two."""
    table = task.table()
    left, right = checks.feature_columns(table, [task.parameters["left"], task.parameters["right"]])
    checks.are_numbers(table.features[[left, right]])
    operation = task.parameters.get("operation", "add")
    name = task.parameters.get("name") or f"{left}_{operation}_{right}"
    if name in table.frame.columns:
        raise NodeFailure(f"There is a column '{name}' already: choose another name for the new one")
    made = transformers.Arithmetic(left, right, operation, name)
    return transform(task, [("arithmetic", made, list(dict.fromkeys([left, right])))])


def change_type(task: Task) -> Outputs:
    """Other types for the chosen columns."""
    made = task.make()
    return transform(task, [(_name(made), made, checks.feature_columns(task.table(), task.parameters["columns"]))])


def transform(task: Task, parts: Parts, remainder: str = "passthrough") -> Outputs:
    """Fit transformers, each with its columns, on ``data``; give ``data``, ``test`` where there is one, and ``model``.

    What they bring out comes first, then the columns that they leave as they are.
    """
    table = task.table()
    made = parts[0][1]
    labels = None if isinstance(made, str) else checks.target_required(table, made)
    fitted = ColumnTransformer(list(parts), remainder=remainder, verbose_feature_names_out=False)
    fitted.set_output(transform="pandas")
    try:
        features = fitted.fit_transform(table.features, labels)
    except ValueError as error:
        raise NodeFailure(_reason(error)) from error
    step = (f"{len(table.preparation) + 1}_{_name(made)}", fitted)
    outputs: dict[str, Value] = {
        "data": _prepared(table, features, step),
        "model": Model(
            fitted, "transformation", list(table.features.columns), table.target, table.preparation, table.columns
        ),
    }
    if (test := task.optional_table("test")) is not None:
        outputs["test"] = _prepared(*_transformed(fitted, table, test), step)
    return outputs


def _transformed(fitted: Any, table: Table, test: Table) -> tuple[Table, pd.DataFrame]:
    if table.target in test.frame.columns:
        test = replace(test, target=table.target)
    checks.columns(test.features, checks.needed_by(fitted))
    try:
        return test, fitted.transform(test.features)
    except ValueError as error:
        raise NodeFailure(f"The rows at 'test' cannot be transformed: {_reason(error)}") from error


def _prepared(table: Table, features: pd.DataFrame, step: tuple[str, Any]) -> Table:
    if table.target in features.columns:
        raise NodeFailure(f"A new feature would have the target's name '{table.target}': call the target otherwise")
    return table.with_features(features, step)


def _of_numbers(task: Task, made: Any) -> Outputs:
    table = task.table()
    columns = _chosen(task, checks.number_columns(table.features), "numbers")
    checks.takes(made, table.features[columns])
    return transform(task, [(_name(made), made, columns)])


def _chosen(task: Task, otherwise: list[str], what: str) -> list[str]:
    if chosen := task.parameters.get("columns"):
        return checks.feature_columns(task.table(), chosen)
    if not otherwise:
        raise NodeFailure(f"The table has no column of {what} for this node: take the node out, or choose columns")
    return otherwise


def _name(transformer: Any) -> str:
    return "columns" if isinstance(transformer, str) else type(transformer).__name__.lower()


def dense(of: str | None, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What encoders need for tables, or leave out where it would be refused."""
    if of is not None and of.endswith("OneHotEncoder"):
        return {"sparse_output": False}
    return {"unknown_value": None} if parameters.get("handle_unknown") == "error" else {}


def _few_categories(features: pd.DataFrame) -> None:
    for name in features.columns:
        if (count := features[name].nunique(dropna=False)) > MOST_CATEGORIES:
            raise NodeFailure(
                f"Column '{name}' has {count} categories, each of which would become a column; {MOST_CATEGORIES} are "
                f"the most: set max_categories, or take the ordinal or the target encoder, or drop the column"
            )


def _filling(task: Task, kind: type) -> Any:
    value = task.parameters.get("fill_value")
    if value is None or task.parameters.get("strategy") != "constant":
        return task.make(fill_value=None)
    try:
        return task.make(fill_value=kind(value))
    except ValueError:
        raise NodeFailure(f"Columns of numbers cannot be filled with '{value}': choose the columns of texts") from None


def is_classification(task: Task) -> bool:
    """Whether the target is taken for classes: as the parameter ``task`` says, or as its values look."""
    chosen = task.parameters.get("task", "auto")
    if chosen != "auto":
        return bool(chosen == "classification")
    labels = task.table().labels
    return not checks.is_number(labels) or (labels.nunique() <= _FEW_CLASSES and bool(np.all(labels == labels.round())))


_FEW_CLASSES = 20
"""So many different whole numbers are taken for classes."""

MODELS: Mapping[str, Mapping[bool, tuple[str, Mapping[str, Any]]]] = {
    "random_forest": {
        True: ("sklearn.ensemble.RandomForestClassifier", {}),
        False: ("sklearn.ensemble.RandomForestRegressor", {}),
    },
    "extra_trees": {
        True: ("sklearn.ensemble.ExtraTreesClassifier", {}),
        False: ("sklearn.ensemble.ExtraTreesRegressor", {}),
    },
    "linear": {
        True: ("sklearn.linear_model.LogisticRegression", {"max_iter": 1000}),
        False: ("sklearn.linear_model.Ridge", {}),
    },
}
"""What tells how important columns are -> for classes, for numbers."""


def _seeded(task: Task, more: Mapping[str, Any]) -> dict[str, Any]:
    return {"random_state": task.random_state, **more}


def number_or_text(threshold: str) -> float | str:
    """What text stands for."""
    try:
        return float(threshold)
    except ValueError:
        return threshold


def _reason(error: ValueError) -> str:
    if "not unique" in str(error):
        return f"Two columns would have one name: drop or choose columns so that names differ. {error}"
    return str(error)
