"""The demo's own check: the features by pandas, and that a difference in what a sink holds is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from app.demo import check, data
from app.demo.data import Year
from app.demo.record import RecordFile

Row = dict[str, Any]


def flight(hour: str, minute: int, delay: float | None, tailnum: str | None = "N1", carrier: str = "UA") -> Row:
    return {
        "time_hour": hour,
        "minute": minute,
        "dep_time": None if delay is None else 517.0,
        "dep_delay": delay,
        "arr_delay": delay,
        "carrier": carrier,
        "flight": 7,
        "tailnum": tailnum,
        "origin": "EWR",
        "dest": "IAH",
        "distance": 1400,
    }


TEN, ELEVEN, TWELVE = (f"2013-01-01T{hour}:00:00Z" for hour in (10, 11, 12))


@pytest.fixture
def year() -> Year:
    return data.prepared(
        pd.DataFrame(
            [
                flight(TWELVE, 5, 99.0),
                flight(TEN, 20, 10.0),
                flight(TEN, 15, 0.0, tailnum="N2"),
                flight(TEN, 59, None, tailnum=None),
                flight(TEN, 0, -5.0, carrier="AA"),
                flight(ELEVEN, 30, None),
            ]
        ),
        pd.DataFrame({"carrier": ["UA", "AA"], "name": ["United", "American"]}),
        pd.DataFrame(
            {
                "tailnum": ["N1", "N2"],
                "year": [2003.0, float("nan")],
                "manufacturer": "BOEING",
                "model": "737",
                "seats": 150,
            }
        ),
        pd.DataFrame(
            {"origin": ["EWR"], "time_hour": [TEN], "wind_speed": [11.5], "temp": [39.0], "visib": [10.0]},
        ),
    )


@pytest.fixture
def truth(year: Year) -> pd.DataFrame:
    return check.expected(year)


def rows(truth: pd.DataFrame) -> list[Row]:
    """The truth as a Kafka sink's consumer reads it: text for moments, None for what is missing."""
    texts = truth.assign(hour_start=truth["hour_start"].dt.strftime("%Y-%m-%d %H:%M:%S")).astype(object)
    return texts.where(texts.notna(), None).to_dict("records")


def test_flights_are_played_in_the_order_of_their_scheduled_departure(year: Year) -> None:
    played = [message.decode() for message in data.messages(year.flights)]

    assert played[0] == (
        '{"flight_id":5,"carrier":"AA","flight":7,"tailnum":"N1","origin":"EWR","dest":"IAH",'
        '"scheduled":"2013-01-01 10:00:00","dep_delay":-5.0,"arr_delay":-5.0,"distance":1400,"cancelled":false}'
    )
    assert '"tailnum":null' in played[3]
    assert '"dep_delay":null,"arr_delay":null,"distance":1400,"cancelled":true' in played[3]
    assert [text.split('"scheduled":"')[1][11:16] for text in played] == [
        "10:00",
        "10:15",
        "10:20",
        "10:59",
        "11:30",
        "12:05",
    ]


def test_features_of_an_hour(truth: pd.DataFrame) -> None:
    busy = truth.set_index(["carrier", "hour_start"]).loc[("UA", pd.Timestamp("2013-01-01 10:00"))]

    assert busy["airline"] == "United"
    assert (busy["flights"], busy["departures"]) == (3, 2)
    assert busy["mean_delay"] == 5.0
    assert busy["p90_delay"] == 9.0
    assert busy["cancelled_share"] == pytest.approx(1 / 3)
    assert busy["plane_age"] == 10.0, "planes of unknown age do not count"
    assert busy["wind_speed"] == 11.5


def test_an_hour_without_departures_or_weather_has_features_that_are_missing(truth: pd.DataFrame) -> None:
    empty = truth.set_index(["carrier", "hour_start"]).loc[("UA", pd.Timestamp("2013-01-01 11:00"))]

    assert (empty["flights"], empty["departures"], empty["cancelled_share"]) == (1, 0, 1.0)
    assert empty[["mean_delay", "p90_delay", "wind_speed"]].isna().all()


def test_the_newest_flights_hour_is_open(truth: pd.DataFrame) -> None:
    assert truth["hour_start"].max() == pd.Timestamp("2013-01-01 11:00")


def test_equal_rows_compare_equal_in_any_order(truth: pd.DataFrame) -> None:
    compared = check.compare(truth, reversed(rows(truth)))

    assert compared.equal
    assert compared.windows == 3


def test_a_difference_within_rounding_is_none(truth: pd.DataFrame) -> None:
    found = rows(truth)
    found[0]["mean_delay"] *= 1 + 1e-12

    assert check.compare(truth, found).equal


def missing(found: list[Row]) -> None:
    del found[1]


def doubled(found: list[Row]) -> None:
    found.append(dict(found[1]))


def besides(found: list[Row]) -> None:
    found.append({**found[1], "origin": "LGA"})


def at_another_hour(found: list[Row]) -> None:
    found[1]["hour_start"] = "2013-01-01 09:00:00"


@pytest.mark.parametrize(
    ("damage", "problems", "told"),
    [
        (missing, 1, "UA from EWR at 2013-01-01 10:00:00: is missing"),
        (doubled, 1, "is there twice"),
        (besides, 1, "UA from LGA at 2013-01-01 10:00:00: should not be there"),
        (at_another_hour, 2, "is missing"),
        (lambda found: found.clear(), 3, "is missing"),
    ],
)
def test_a_row_too_few_or_too_many_is_found(
    truth: pd.DataFrame, damage: Callable[[list[Row]], None], problems: int, told: str
) -> None:
    found = rows(truth)
    damage(found)

    compared = check.compare(truth, found)

    assert compared.problems == problems
    assert told in "\n".join(compared.differences)


@pytest.mark.parametrize(
    ("feature", "wrong"),
    [
        ("airline", "Untied"),
        ("airline", None),
        ("flights", 4),
        ("departures", 3),
        ("mean_delay", 5.0 + 1e-6),
        ("mean_delay", None),
        ("p90_delay", 10.0),
        ("cancelled_share", 0.0),
        ("plane_age", 11.0),
        ("wind_speed", None),
    ],
)
def test_a_wrong_value_is_found(truth: pd.DataFrame, feature: str, wrong: object) -> None:
    found = rows(truth)
    found[1][feature] = wrong

    compared = check.compare(truth, found)

    assert compared.problems == 1
    assert compared.differences[0].startswith(f"UA from EWR at 2013-01-01 10:00:00: {feature} is ")


def test_a_value_where_there_should_be_none_is_found(truth: pd.DataFrame) -> None:
    found = rows(truth)
    found[2]["mean_delay"] = 0.0

    assert check.compare(truth, found).problems == 1


def test_only_the_first_differences_are_told_and_all_are_counted(truth: pd.DataFrame) -> None:
    many = pd.concat([truth.assign(origin=f"X{n}") for n in range(20)], ignore_index=True)

    compared = check.compare(many, [])

    assert compared.problems == 60
    assert len(compared.differences) == 10


def test_what_a_run_leaves_behind_is_known_to_the_next(tmp_path: Any) -> None:
    RecordFile(tmp_path).note(tag="1", stack_is_ours=True, processes=((12, 3.5),))

    last = RecordFile(tmp_path).last

    assert (last.tag, last.stack_is_ours, last.processes, last.job_id) == ("1", True, ((12, 3.5),), None)


def test_a_damaged_record_is_as_none(tmp_path: Any) -> None:
    RecordFile(tmp_path).note(tag="1")
    (tmp_path / "demo" / "last.json").write_text('{"tag": ')

    assert RecordFile(tmp_path).last.tag == ""
