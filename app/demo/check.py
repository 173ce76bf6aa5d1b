"""The features once more, by pandas, and the comparison with what the job has written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.demo.data import Year
from app.demo.features import FEATURES, WINDOW_KEY

TOLERANCE = 1e-9
"""How far two fractions may differ, relative to their size: sums are not added in the same order everywhere."""
_HOUR = pd.Timedelta(hours=1)
_EXACT = ("airline", "flights", "departures")
_FRACTIONS = ("mean_delay", "p90_delay", "cancelled_share", "plane_age", "wind_speed")
_SHOWN = 10


@dataclass(frozen=True)
class Comparison:
    """What came out of a comparison.

    :param windows: how many rows there have to be.
    :param problems: how many differences there are.
    :param differences: the first of them, each as a line.
    """

    windows: int
    problems: int = 0
    differences: Sequence[str] = ()

    @property
    def equal(self) -> bool:
        return self.problems == 0


def expected(year: Year) -> pd.DataFrame:
    """The features of every closed window: one row for each carrier, origin and hour that had a flight.

    A window is closed when the stream's event time has reached its end. The newest flight's own hour stays open:
    whether another flight follows in it, the job cannot know.
    """
    flights = year.flights.assign(hour_start=year.flights["scheduled"].dt.floor("h"))
    closed = flights["hour_start"] + _HOUR <= flights["scheduled"].max()
    enriched = (
        flights[closed]
        .merge(year.airlines.rename(columns={"name": "airline"}), on="carrier", how="left")
        .merge(year.planes[["tailnum", "built"]], on="tailnum", how="left")
        .merge(
            year.weather[["origin", "time_hour", "wind_speed"]],
            left_on=["origin", "hour_start"],
            right_on=["origin", "time_hour"],
            how="left",
        )
    )
    enriched["plane_age"] = 2013 - enriched["built"].astype("Float64")
    windows = enriched.groupby(list(WINDOW_KEY))
    features = pd.DataFrame(
        {
            "airline": windows["airline"].first(),
            "flights": windows.size(),
            "departures": windows["dep_delay"].count(),
            "mean_delay": windows["dep_delay"].mean(),
            "p90_delay": windows["dep_delay"].quantile(0.9),
            "cancelled_share": windows["cancelled"].mean(),
            "plane_age": windows["plane_age"].mean().astype("float64"),
            "wind_speed": windows["wind_speed"].max(),
        }
    )
    return features.reset_index()[list(FEATURES)]


def compare(truth: pd.DataFrame, rows: Iterable[Mapping[str, Any]]) -> Comparison:
    """Compare feature rows with the truth: none missing, none twice, none besides, and every value the same.

    :param rows: as they were read from a sink; ``hour_start`` is a moment or its text.
    """
    found = pd.DataFrame(list(rows), columns=list(FEATURES))
    found["hour_start"] = pd.to_datetime(found["hour_start"])
    keys = list(WINDOW_KEY)
    twice = found[found.duplicated(keys)]
    both = truth.merge(found.drop_duplicates(keys), on=keys, how="outer", suffixes=("", " found"), indicator=True)
    lines = _Lines()
    lines.add(twice, lambda row: "is there twice")
    lines.add(both[both["_merge"] == "left_only"], lambda row: "is missing")
    lines.add(both[both["_merge"] == "right_only"], lambda row: "should not be there")
    matched = both[both["_merge"] == "both"]
    for name in (*_EXACT, *_FRACTIONS):
        different = ~_same(matched[name], matched[f"{name} found"], exact=name in _EXACT)
        lines.add(matched[different], lambda row, n=name: f"{n} is {row[f'{n} found']} and should be {row[n]}")
    return Comparison(len(truth), lines.count, tuple(lines.shown))


def _same(wanted: pd.Series, found: pd.Series, *, exact: bool) -> pd.Series:
    if exact:
        return (wanted == found) | (wanted.isna() & found.isna())
    close = np.isclose(_numbers(wanted), _numbers(found), rtol=TOLERANCE, atol=TOLERANCE)
    return pd.Series(close, index=wanted.index) | (wanted.isna() & found.isna())


def _numbers(values: pd.Series) -> npt.NDArray[np.float64]:
    return np.asarray(pd.to_numeric(values).to_numpy("float64", na_value=np.nan))


class _Lines:
    """Differences: all are counted, the first are told."""

    def __init__(self) -> None:
        self.count = 0
        self.shown: list[str] = []

    def add(self, rows: pd.DataFrame, what: Any) -> None:
        self.count += len(rows)
        for _, row in rows.head(max(0, _SHOWN - len(self.shown))).iterrows():
            self.shown.append(f"{row['carrier']} from {row['origin']} at {row['hour_start']}: {what(row)}")
