"""Times of the form of crontab: minute, hour, day of the month, month, day of the week. Pure.

APScheduler computes them. Two things it reads in its own way, and they are brought into cron's here: it counts the
days of the week from Monday = 0, where cron has Sunday = 0 and 7; and a day of the month beside a day of the week
must both fit, where cron takes either, so that is refused.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.triggers.cron import CronTrigger

from app.errors import InvalidInput, Problem

EXAMPLE = "write minute, hour, day of month, month, day of week, as '0 * * * *' (every hour) or '30 2 * * 1-5'"

_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY_PART = re.compile(r"(?:\*|(?P<first>[a-z0-9]+)(?:-(?P<last>[a-z0-9]+))?)(?:/(?P<step>\d+))?")
_WITHIN = timedelta(days=8 * 366)
"""The 29th of February, the rarest of days, comes round within that."""


def next_time(cron: str, time_zone: str, after_ms: int) -> int:
    """The first time after ``after_ms`` (epoch milliseconds, both) that the expression names in that time zone.

    Raises:
        InvalidInput: what is wrong with the expression or the name of the time zone.
    """
    moment = datetime.fromtimestamp(after_ms // 1000 + 1, UTC)
    found = _trigger(cron, time_zone, moment).get_next_fire_time(None, moment)
    if found is None:
        raise InvalidInput(Problem(f"'{cron}' never comes", field="cron", remedy="name a day that the month has"))
    return int(found.timestamp() * 1000)


def _trigger(cron: str, time_zone: str, moment: datetime) -> CronTrigger:
    fields = cron.split()
    if len(fields) != len(_FIELDS):
        raise _refused(cron, f"it has {len(fields)} fields, and needs {len(_FIELDS)}")
    minute, hour, day, month, day_of_week = fields
    if day != "*" and day_of_week != "*":
        raise _refused(
            cron, "it names a day of the month and a day of the week: cron would take either, most people mean both"
        )
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        remedy = "use a name such as UTC, Asia/Shanghai or Europe/Berlin"
        raise InvalidInput(Problem(f"there is no time zone '{time_zone}'", field="timeZone", remedy=remedy)) from None
    try:
        return CronTrigger(
            minute=minute,
            hour=hour,
            day=day,
            month=month,
            day_of_week=_weekdays(day_of_week),
            second=0,
            timezone=zone,
            end_date=moment + _WITHIN,
        )
    except ValueError as error:
        raise _refused(cron, str(error)) from None


def _weekdays(field: str) -> str:
    """The days of the week by their names, which mean the same to everybody. Raises ``ValueError``."""
    if field == "*":
        return field
    days: set[str] = set()
    for part in field.lower().split(","):
        found = _DAY_PART.fullmatch(part)
        if found is None:
            raise ValueError(f"'{part}' is not a day of the week")
        first, last, step = found["first"], found["last"], int(found["step"] or 1)
        begin = 0 if first is None else _number(first)
        # "2/3" goes on to the end of the week, as in cron.
        end = _number(last) if last else begin if first is not None and found["step"] is None else 6
        if end == 0 < begin:
            end = 7  # "fri-sun"
        if step == 0 or end < begin:
            raise ValueError(f"'{part}' is not a range of days")
        days |= {_DAYS[day % 7] for day in range(begin, end + 1, step)}
    return ",".join(day for day in _DAYS if day in days)


def _number(day: str) -> int:
    if day.isdigit() and int(day) <= 7:
        return int(day)
    if day in _DAYS:
        return _DAYS.index(day)
    raise ValueError(f"'{day}' is not a day of the week: use 0 (Sunday) to 6 or sun to sat")


def _refused(cron: str, fault: str) -> InvalidInput:
    return InvalidInput(Problem(f"'{cron}' cannot be read: {fault}", field="cron", remedy=EXAMPLE))
