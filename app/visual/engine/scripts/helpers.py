"""Functions that come with a program where its nodes call them: their source is copied, with what they call.

They are the engine's steps without their checks; nothing here may need a module of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv
from sklearn import metrics
from sklearn.compose import ColumnTransformer


def read_table(path: str, encoding: str = "utf-8", delimiter: str = ",", header: bool = True) -> pd.DataFrame:
    """The rows of a CSV file; the values tell the columns' types."""
    table = csv.read_csv(
        path,
        read_options=csv.ReadOptions(use_threads=False, encoding=encoding, autogenerate_column_names=not header),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(strings_can_be_null=True, timestamp_parsers=[csv.ISO8601]),
    )
    for place, column in enumerate(table.schema):
        if pa.types.is_null(column.type):
            table = table.set_column(place, column.name, table.column(place).cast(pa.float64()))
        elif pa.types.is_time(column.type):
            table = table.set_column(place, column.name, table.column(place).cast(pa.string()))
    count = table.num_columns
    names = column_names(table.column_names) if header else [f"column{place}" for place in range(1, count + 1)]
    frame = table.rename_columns(names).to_pandas(use_threads=False, date_as_object=False)
    for name in frame.select_dtypes("object").columns:
        frame[name] = frame[name].mask(frame[name].isna(), np.nan)
    return frame


def column_names(header: Sequence[str]) -> list[str]:
    """Names, each once: one that repeats is numbered, one that is empty is called by its place."""
    names: list[str] = []
    for place, cell in enumerate(header):
        wanted = name = cell.strip() or f"Unnamed: {place}"
        times = 0
        while name in names:
            times += 1
            name = f"{wanted}.{times}"
        names.append(name)
    return names


def tidy(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows counted from 0 again, with plainer types where what stood against them is gone."""
    return rows.reset_index(drop=True).infer_objects()


def number_columns(rows: pd.DataFrame) -> list[str]:
    """The columns that models can compute with."""
    return list(rows.select_dtypes(["number", "bool"]).columns)


def text_columns(rows: pd.DataFrame) -> list[str]:
    """The columns of categories."""
    return list(rows.select_dtypes(exclude=["number", "bool", "datetime", "datetimetz"]).columns)


def time_columns(rows: pd.DataFrame) -> list[str]:
    """The columns of times."""
    return list(rows.select_dtypes(["datetime", "datetimetz"]).columns)


def on_columns(*parts: tuple[Any, Sequence[str]], remainder: str = "passthrough") -> ColumnTransformer:
    """Transformers, each of its own columns. The other columns come behind them, as they are."""
    named = [(f"part_{n}", transformer, list(columns)) for n, (transformer, columns) in enumerate(parts, 1)]
    made = ColumnTransformer(named, remainder=remainder, verbose_feature_names_out=False)
    return made.set_output(transform="pandas")


def are_classes(labels: pd.Series) -> bool:
    """Whether a target has classes: texts, or few whole numbers."""
    if not pd.api.types.is_numeric_dtype(labels):
        return True
    return labels.nunique() <= 20 and bool(np.all(labels == labels.round()))


def take_by_class(rows: pd.DataFrame, labels: pd.Series, wanted: Mapping[Any, int], seed: int) -> pd.DataFrame:
    """So many rows of each class, by chance; none comes up twice before all of its class are there."""
    chance = np.random.default_rng(seed)
    taken = []
    for name in labels.dropna().unique():
        there = np.flatnonzero(labels == name)
        more = max(0, wanted[name] - len(there))
        taken.append(chance.choice(there, wanted[name] - more, replace=False))
        taken.append(chance.choice(there, more, replace=True))
    return tidy(rows.iloc[np.sort(np.concatenate(taken))])


def show(title: str, figures: Mapping[str, Any]) -> None:
    """Print figures, one a line."""
    print(f"\n{title}")
    for name, value in figures.items():
        print(f"  {name}: {value}")


def show_table(title: str, columns: Mapping[str, Any]) -> None:
    """Print columns side by side."""
    print(f"\n{title}")
    print(pd.DataFrame(columns).to_string(index=False, float_format=str))


class Printed:
    """Takes what a component of one's own draws at a port: tables are printed, the rest is left out."""

    def __init__(self, port: str) -> None:
        self.port = port

    def table(self, columns: Mapping[str, Any]) -> None:
        """Print columns."""
        show_table(self.port, columns)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **more: nullcontext()


def framed(rows: pd.DataFrame, target: str | None) -> pd.DataFrame:
    """The rows as components of one's own take them: ``attrs`` tell the target."""
    frame = rows.copy()
    if target is not None:
        frame.attrs["target"] = target
    return frame


def class_scores(model: Any, features: pd.DataFrame) -> np.ndarray | None:
    """A column a class: the more, the more likely. None where a model does not tell."""
    if hasattr(model, "predict_proba"):
        return model.predict_proba(features)
    if not hasattr(model, "decision_function"):
        return None
    decided = model.decision_function(features)
    return np.column_stack([-decided, decided]) if decided.ndim == 1 else decided


def area_under_roc(true: pd.Series, scores: np.ndarray | None, classes: Sequence[Any]) -> float | None:
    """Of two classes that of the second, of more the mean of one against the rest."""
    if scores is None:
        return None
    told = [(1, classes[1])] if len(classes) == 2 else list(enumerate(classes))
    there = [(i, name) for i, name in told if 0 < (true == name).sum() < len(true)]
    areas = [metrics.roc_auc_score(true == name, scores[:, i]) for i, name in there]
    return float(np.mean(areas)) if areas else None


def classification_scores(
    model: Any, features: pd.DataFrame, true: pd.Series, average: str = "macro"
) -> dict[str, float | None]:
    """Scores of a classifier; of two classes precision, recall and f1 are those of the second."""
    predicted, classes = model.predict(features), model.classes_
    known = bool(true.isin(classes).all())
    how = {"average": "binary", "pos_label": classes[1]} if len(classes) == 2 and known else {"average": average}
    told = model.predict_proba(features) if hasattr(model, "predict_proba") else None
    return {
        "accuracy": metrics.accuracy_score(true, predicted),
        "balanced accuracy": metrics.balanced_accuracy_score(true, predicted),
        "precision": metrics.precision_score(true, predicted, zero_division=0, **how),
        "recall": metrics.recall_score(true, predicted, zero_division=0, **how),
        "f1": metrics.f1_score(true, predicted, zero_division=0, **how),
        "ROC AUC": area_under_roc(true, class_scores(model, features), classes),
        "log loss": None if told is None or not known else metrics.log_loss(true, told, labels=classes),
    }


def class_report(true: pd.Series, predicted: np.ndarray) -> dict[str, Any]:
    """Precision, recall and f1 of each class, of the 20 most frequent ones where there are more."""
    counts = pd.Series(np.concatenate([true.to_numpy(), predicted])).value_counts()
    classes = sorted(counts.index[:20])
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        true, predicted, labels=classes, zero_division=0
    )
    return {"class": list(map(str, classes)), "precision": precision, "recall": recall, "f1": f1, "rows": support}


def regression_scores(true: pd.Series, predicted: np.ndarray) -> dict[str, float | None]:
    """Errors of a regression, and how much of the variance it explains."""
    return {
        "MAE": metrics.mean_absolute_error(true, predicted),
        "MSE": metrics.mean_squared_error(true, predicted),
        "RMSE": np.sqrt(metrics.mean_squared_error(true, predicted)),
        "median absolute error": metrics.median_absolute_error(true, predicted),
        "R2": metrics.r2_score(true, predicted) if len(true) > 1 else None,
        "MAPE": metrics.mean_absolute_percentage_error(true, predicted),
    }


def clustering_scores(features: np.ndarray, found: np.ndarray, seed: int) -> dict[str, float | None]:
    """Scores that need no truth, of the rows that are in a cluster; -1 stands for none."""
    rows, clusters = features[found != -1], found[found != -1]
    count = len(np.unique(clusters))
    silhouette = None
    comparable = 2 <= count < len(clusters)
    if comparable:
        sampled = {"sample_size": 10_000, "random_state": seed} if len(clusters) > 10_000 else {}
        try:
            silhouette = float(metrics.silhouette_score(rows, clusters, **sampled))
        except ValueError:  # the rows that were chosen are all of one cluster
            silhouette = None
    return {
        "clusters": count,
        "rows of no cluster": int((found == -1).sum()),
        "silhouette": silhouette,
        "Calinski-Harabasz": metrics.calinski_harabasz_score(rows, clusters) if comparable else None,
        "Davies-Bouldin": metrics.davies_bouldin_score(rows, clusters) if comparable else None,
    }


def columns_of(model: Any) -> list[str]:
    """The columns that a fitted model or pipeline takes, without those that it leaves out at once."""
    parts = getattr(model[0], "transformers_", ()) if hasattr(model, "steps") else ()
    dropped = {name for _, one, names in parts if isinstance(one, str) and one == "drop" for name in names}
    return [name for name in model.feature_names_in_ if name not in dropped]
