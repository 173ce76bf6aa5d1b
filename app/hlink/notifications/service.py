"""The rules of targets: who may be told of what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.background import repeated
from app.database import Database, now_ms
from app.errors import Conflict, InvalidInput, NotFound, Problem, Unavailable
from app.hlink.notifications import addresses, reading
from app.hlink.notifications.delivery import Delivery
from app.hlink.notifications.models import LONGEST_NAME, Kind, Notification, Target
from app.hlink.tables.fields import mask
from app.hlink.watch.jobs import names_of
from app.hlink.wire import NotificationQuery, TargetChange
from app.service import Service

DELIVERY = "hlink.notifications"
"""The part of the service that sends (:class:`~app.hlink.notifications.delivery.Delivery`)."""
OFF, ON, REMOVED = 0, 1, -1
"""``del_flag`` of a target."""

_READ_EVERY_S = 2.0
_SEND_EVERY_S = 1.0
_LOOK_UP_S = 3.0


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    """Derive notifications and send them while the block lasts."""
    database, settings = service.database, service.settings

    async def read(_over: asyncio.Event) -> None:
        await reading.read_events(database, settings)

    await reading.begin(database)
    async with Delivery(database).open() as delivery:
        service.parts[DELIVERY] = delivery
        async with (
            repeated("sending notifications", _SEND_EVERY_S, delivery.step),
            repeated("reading events for notifications", _READ_EVERY_S, read),
        ):
            yield


async def every(session: AsyncSession) -> Sequence[Target]:
    """The targets, those that are off too, the oldest first."""
    return (await session.exec(select(Target).where(Target.del_flag != REMOVED).order_by(col(Target.id)))).all()


async def add(database: Database, wanted: TargetChange) -> Target:
    """Take a target in. Nothing is sent to it.

    Raises :class:`~app.errors.InvalidInput` with everything that is wrong, and :class:`~app.errors.Conflict` for a
    name that is taken.
    """
    target = Target(name="", shown="", kinds=[], jobs=[])
    if not wanted.url:
        wanted = wanted.model_copy(update={"url": ""})
    return await _store(database, target, wanted)


async def change(database: Database, target_id: int, wanted: TargetChange) -> Target:
    """Change a target; what is not given stays. Raises what :func:`add` raises, and NotFound."""
    async with database.read() as session:
        target = await find(session, target_id)
    return await _store(database, target, wanted)


async def remove(session: AsyncSession, target_id: int) -> Target:
    """Take a target out of use, and its address away. Raises :class:`~app.errors.NotFound`."""
    target = await find(session, target_id)
    target.del_flag, target.secret = REMOVED, None
    return target


async def find(session: AsyncSession, target_id: int) -> Target:
    """The target of that id. Raises :class:`~app.errors.NotFound`."""
    target = await session.get(Target, target_id)
    if target is None or target.del_flag == REMOVED:
        raise NotFound(f"There is no target {target_id}: GET /notifications shows those there are")
    return target


async def test(database: Database, delivery: Delivery, target_id: int) -> Target:
    """Send a test to the target now. Raises :class:`~app.errors.Unavailable` with the reason when that fails."""
    async with database.read() as session:
        target = await find(session, target_id)
    reason = await delivery.try_at_once(
        (target.secret or {}).get("url", ""), "hlink: a test", f"The target '{target.name}' can be reached.", None
    )
    if reason is not None:
        raise Unavailable(f"Nothing could be sent to '{target.name}': {reason}. Correct its url, or see to the service")
    return target


async def page(session: AsyncSession, query: NotificationQuery) -> tuple[Sequence[tuple[Notification, str]], int]:
    """Notifications, newest first, each with its target's name: one page of them, and how many there are."""
    wanted = [] if query.state is None else [col(Notification.state) == query.state]
    if query.target_id is not None:
        wanted.append(col(Notification.target_id) == query.target_id)
    total = (await session.exec(select(func.count()).select_from(Notification).where(*wanted))).one()
    rows = await session.exec(
        select(Notification, Target.name)
        .join(Target, col(Target.id) == Notification.target_id)
        .where(*wanted)
        .order_by(col(Notification.id).desc())
        .offset(query.offset)
        .limit(query.size)
    )
    return rows.all(), total


async def _store(database: Database, target: Target, wanted: TargetChange) -> Target:
    problems: list[Problem] = []
    name = (wanted.name if wanted.name is not None else target.name).strip()
    if not name or len(name) > LONGEST_NAME:
        problems.append(
            Problem("it has no name, or a long one", field="name", remedy=f"give 1 to {LONGEST_NAME} characters")
        )
    url = wanted.url
    if url is not None and target.secret and url.strip() in (mask(), target.shown):
        url = None  # sent back as it was shown: it stays
    shown = target.shown
    if url is not None:
        try:
            shown = await asyncio.to_thread(addresses.checked, url)
            with suppress(TimeoutError):  # a name that cannot be looked up now: sending looks it up again
                async with asyncio.timeout(_LOOK_UP_S):
                    await asyncio.to_thread(addresses.reachable, url)
        except InvalidInput as error:
            problems += error.problems
    kinds = list(dict.fromkeys(wanted.events)) if wanted.events is not None else target.kinds
    if unknown := [kind for kind in kinds if kind not in list(Kind)]:
        problems.append(
            Problem(f"'{unknown[0][:100]}' is not an event", field="events", remedy=f"use {', '.join(Kind)}")
        )
    jobs = sorted(set(wanted.jobs)) if wanted.jobs is not None else target.jobs
    async with database.read() as session:
        known = await names_of(session, wanted.jobs or ())
        now = (await session.exec(select(now_ms()))).one()
    if lacking := [job_id for job_id in wanted.jobs or () if job_id not in known]:
        problems.append(
            Problem(f"there is no job {lacking[0]}", field="jobIds", remedy="take those that /jobs/list shows")
        )
    if problems:
        raise InvalidInput(*problems)
    try:
        async with database.write() as session:
            stored = target
            if target.secret is not None:
                stored = await find(session, target.id)
            if wanted.enabled is not None:
                if wanted.enabled and stored.del_flag == OFF:
                    stored.since = now
                stored.del_flag = ON if wanted.enabled else OFF
            stored.name, stored.shown, stored.kinds, stored.jobs = name, shown, kinds, jobs
            if url is not None:
                stored.secret = {"url": url.strip()}
            session.add(stored)
            await session.flush()
    except IntegrityError:
        raise Conflict(f"There is a target named '{name}' already: choose another name") from None
    return stored
