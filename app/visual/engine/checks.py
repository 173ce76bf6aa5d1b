"""What a node can work with: each check raises :class:`NodeFailure`, which names what is wrong and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.multiclass import type_of_target

from app.visual.engine.images import is_image
from app.visual.engine.values import NodeFailure, Table

MOST_NAMED = 8
"""So many columns or classes are named in a message, the others counted."""
MOST_ROWS: Mapping[str, int] = {
    "AffinityPropagation": 10_000,
    "AgglomerativeClustering": 20_000,
    "KernelPCA": 20_000,
    "SpectralClustering": 20_000,
}
"""Classes that hold numbers for every two rows: one number for each of 20 000 is 3 GB."""


def named(names: Sequence[Any]) -> str:
    """Names for a message."""
    first = ", ".join(f"'{name}'" for name in names[:MOST_NAMED])
    return first if len(names) <= MOST_NAMED else f"{first} and {len(names) - MOST_NAMED} more"


def columns(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """The names, each of which is a column's."""
    for name in names:
        if name not in frame.columns:
            near = difflib.get_close_matches(name, map(str, frame.columns), n=3)
            others = f"did you mean {named(near)}?" if near else f"it has {named(list(frame.columns))}"
            raise NodeFailure(f"The table has no column '{name}': {others}")
    return list(names)


def feature_columns(table: Table, names: Sequence[str]) -> list[str]:
    """The names, each of which is a feature's."""
    if table.target in names:
        raise NodeFailure(f"'{table.target}' is the target, which stays as it is here: take it off the columns")
    return columns(table.features, names)


def needed_by(fitted: Any) -> list[str]:
    """The columns that a fitted transformer takes: those that a ColumnTransformer leaves out may be missing."""
    parts = getattr(fitted, "transformers_", ())
    dropped = [names for _, one, names in parts if isinstance(one, str) and one == "drop"]
    return [str(name) for name in fitted.feature_names_in_ if not any(name in names for names in dropped)]


def is_number(column: pd.Series) -> bool:
    """Whether models can compute with it; true and false count as 1 and 0."""
    return types.is_numeric_dtype(column) or types.is_bool_dtype(column)


def number_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that models can compute with."""
    return [str(name) for name in frame.columns if is_number(frame[name])]


def text_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of categories: neither numbers nor times nor images."""
    return [
        str(name)
        for name in frame.columns
        if not is_number(frame[name]) and not types.is_datetime64_any_dtype(frame[name]) and not is_image(frame[name])
    ]


def image_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of images."""
    return [str(name) for name in frame.columns if is_image(frame[name])]


def only_images(features: pd.DataFrame) -> None:
    """Whether there is one column, of images, each of which is there."""
    if len(features.columns) > 1:
        raise NodeFailure(
            f"A network takes images or numbers, not both: leave out what is beside {named(image_columns(features))}"
        )
    if missing := int(features.iloc[:, 0].isna().sum()):
        raise NodeFailure(f"{missing} rows have no image: drop the rows that miss it")


def takes(estimator: Any, features: pd.DataFrame) -> None:
    """Whether an estimator or a transformer of numbers can work with these columns."""
    if not len(features.columns):
        raise NodeFailure("The table has no column beside the target: there is nothing to learn from")
    if not len(features):
        raise NodeFailure("The table has no rows: look at what the nodes before it leave over")
    if getattr(estimator, "takes_images", False) and image_columns(features):
        only_images(features)
        return
    if isinstance(estimator, Pipeline):
        return  # it prepares the rows itself
    are_numbers(features)
    most = MOST_ROWS.get(type(estimator).__name__)
    if most is not None and len(features) > most:
        raise NodeFailure(
            f"{type(estimator).__name__} compares every two rows, and {len(features)} are more than the {most} that "
            f"memory is for: sample rows before, or take an algorithm that goes through rows one by one"
        )
    tags = get_tags(estimator).input_tags
    if not tags.allow_nan and (missing := [name for name in features.columns if features[name].isna().any()]):
        rows = int(features[missing].isna().any(axis=1).sum())
        raise NodeFailure(
            f"{type(estimator).__name__} cannot work with missing values, which {rows} rows have in {named(missing)}: "
            f"put an imputer before it, or drop rows with missing values"
        )
    numbers = features.select_dtypes("float")
    if infinite := [name for name in numbers.columns if np.isinf(numbers[name].to_numpy()).any()]:
        raise NodeFailure(f"There are infinite values in {named(infinite)}: filter outliers or drop the column")
    if tags.positive_only and (negative := [name for name in features.columns if (features[name] < 0).any()]):
        raise NodeFailure(
            f"{type(estimator).__name__} cannot work with negative values, which are in {named(negative)}: "
            f"put a min-max scaler before it"
        )


def are_numbers(features: pd.DataFrame) -> None:
    """Whether all columns can be computed with."""
    if images := image_columns(features):
        raise NodeFailure(f"{named(images)} has images, which only networks can learn from: use frameId 4 or 2")
    if texts := text_columns(features):
        filled = features[texts[0]].dropna()
        example = f" (such as {filled.iloc[0]!r})" if len(filled) else ""
        raise NodeFailure(
            f"Only numbers can be computed with, and {named(texts)}{example} are none: encode or drop them"
        )
    if times := [name for name in features.columns if not is_number(features[name])]:
        raise NodeFailure(f"Only numbers can be computed with, and {named(times)} are times: take parts of the date")


def classes(table: Table) -> pd.Series:
    """The target's column as classes, of which there are two at least."""
    labels = _all_there(table)
    if type_of_target(labels.to_numpy()).startswith("continuous"):
        raise NodeFailure(
            f"The target '{table.target}' has numbers such as {labels.iloc[0]:g}, which are no classes: "
            f"take a regression, or choose another target"
        )
    counts = labels.value_counts()
    if len(counts) < 2:
        raise NodeFailure(
            f"All {len(labels)} rows have the class '{counts.index[0]}' in the target '{table.target}': "
            f"two classes at least are needed to tell them apart"
        )
    return labels


def class_sizes(labels: pd.Series, least: int, what: str) -> None:
    """Whether every class has so many rows."""
    small = {name: count for name, count in labels.value_counts().items() if count < least}
    if small:
        some = [f"{name} ({count})" for name, count in small.items()]
        raise NodeFailure(
            f"{what} need {least} rows of every class of '{labels.name}', and there are fewer of {named(some)}: "
            f"take fewer, or bring in more rows of these classes"
        )


def numbers(table: Table) -> pd.Series:
    """The target's column as numbers."""
    labels = _all_there(table)
    if not is_number(labels):
        raise NodeFailure(
            f"The target '{table.target}' has {labels.iloc[0]!r}, which is no number: take a classification, "
            f"or choose another target"
        )
    return labels.astype(float) if types.is_bool_dtype(labels) else labels


def target_required(table: Table, estimator: Any) -> pd.Series | None:
    """The target's column for a transformer; None where there is none and none is needed."""
    if table.target is not None and not table.labels.isna().any():
        return table.labels
    return _all_there(table) if get_tags(estimator).target_tags.required else None


def _all_there(table: Table) -> pd.Series:
    labels = table.labels
    if not len(labels):
        raise NodeFailure("The table has no rows: look at what the nodes before it leave over")
    if missing := int(labels.isna().sum()):
        raise NodeFailure(
            f"{missing} rows have no value in the target '{table.target}': drop the rows that miss it before learning"
        )
    return labels
