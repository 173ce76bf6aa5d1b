"""Times of the form of crontab, as cron means them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from app.errors import InvalidInput
from app.supervisor.cron import next_time

FRIDAY = datetime(2026, 1, 2, 10, 30, tzinfo=UTC)


def after(moment: datetime, cron: str, zone: str = "UTC") -> datetime:
    return datetime.fromtimestamp(next_time(cron, zone, int(moment.timestamp() * 1000)) / 1000, ZoneInfo(zone))


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("* * * * *", "2026-01-02T10:31"),
        ("30 10 * * *", "2026-01-03T10:30"),
        ("*/20 * * * *", "2026-01-02T10:40"),
        ("0 3 1 * *", "2026-02-01T03:00"),
        ("0 0 29 feb *", "2028-02-29T00:00"),
        ("0 0 * * 0", "2026-01-04T00:00"),
        ("0 0 * * 7", "2026-01-04T00:00"),
        ("0 0 * * sun", "2026-01-04T00:00"),
        ("0 0 * * 1", "2026-01-05T00:00"),
        ("0 0 * * 1-5", "2026-01-05T00:00"),
        ("0 0 * * fri-sun", "2026-01-03T00:00"),
        ("0 0 * * SUN,tue", "2026-01-04T00:00"),
        ("0 0 * * */3", "2026-01-03T00:00"),
        ("0 0 * * 2/2", "2026-01-03T00:00"),
    ],
)
def test_given_an_expression_then_its_next_time_is_that_of_cron(cron: str, expected: str) -> None:
    assert after(FRIDAY, cron).isoformat(timespec="minutes").removesuffix("+00:00") == expected


def test_given_a_time_that_is_just_now_then_the_next_one_is_later() -> None:
    assert after(FRIDAY, "30 10 * * *") > FRIDAY


def test_given_a_time_zone_then_the_times_are_of_its_clock() -> None:
    assert after(FRIDAY, "0 2 * * *", "Asia/Shanghai") == datetime(2026, 1, 2, 18, 0, tzinfo=UTC)
    # In the night in which the clock goes from 2 to 3, and on the day after.
    before = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)
    assert after(before, "0 9 * * *", "Europe/Berlin") == datetime(2026, 3, 29, 7, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "fault"),
    [
        ("", "it has 0 fields, and needs 5"),
        ("0 0 0 * * *", "it has 6 fields, and needs 5"),
        ("@daily", "it has 1 fields, and needs 5"),
        ("60 * * * *", "'60 * * * *' cannot be read: "),
        ("x * * * *", "'x * * * *' cannot be read: "),
        ("0 0 * * 8", "'8' is not a day of the week"),
        ("0 0 * * monday", "'monday' is not a day of the week"),
        ("0 0 * * 5-1", "'5-1' is not a range of days"),
        ("0 0 * * */0", "'*/0' is not a range of days"),
        ("0 0 1 * 1", "a day of the month and a day of the week"),
        ("0 0 30 2 *", "'0 0 30 2 *' never comes"),
    ],
)
def test_given_what_is_no_expression_then_it_says_what_is_wrong_and_how_to_write_one(cron: str, fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        next_time(cron, "UTC", 0)
    assert fault in refused.value.message
    assert refused.value.problems[0].field == "cron"
    assert refused.value.problems[0].remedy


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../etc/passwd", "a" * 300, "/etc"])
def test_given_what_is_no_time_zone_then_it_says_so(zone: str) -> None:
    with pytest.raises(InvalidInput, match="there is no time zone"):
        next_time("* * * * *", zone, 0)
