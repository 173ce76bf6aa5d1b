"""Notifications on their way: each is tried by one replica at a time until it is sent or given up.

An attempt is counted, and the next one set, before anything is sent; so a replica that dies while it sends leaves
the notification to another one, after a pause. It may have arrived by then: a target may be told twice of something,
never not at all because of that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import func, update
from sqlmodel import col, select

from app import metrics
from app.database import Database, now_ms
from app.hlink.notifications import addresses
from app.hlink.notifications.models import Kind, Notification, Progress, Target

logger = logging.getLogger(__name__)

PAUSES_S = (30, 60, 300, 1800, 7200)
"""Before the second attempt, the third, ...; the first is more than an attempt may take."""
LONGEST_S = 25.0
"""How long a caller waits for one attempt; the thread that makes it ends by itself soon after."""
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class _Parcel:
    id: int
    target_id: int
    attempt: int
    url: str
    kind: Kind
    title: str
    body: str


class Delivery:
    """Sends what is due. Sending blocks, so it has threads of its own: nobody else waits behind a slow target."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="notifications")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Delivery]:
        """What is being sent at the end is not waited for."""
        try:
            yield self
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def try_at_once(self, url: str, title: str, body: str, kind: Kind | None) -> str | None:
        """Send something; why that was not possible, or None."""
        sending = asyncio.get_running_loop().run_in_executor(
            self._threads, partial(addresses.send, url, title, body, kind)
        )
        try:
            async with asyncio.timeout(LONGEST_S):
                reason = await sending
        except TimeoutError:
            reason = f"no answer within {LONGEST_S:g} s"
        metrics.NOTIFICATIONS.labels("sent" if reason is None else "failed").inc()
        return reason

    async def step(self, over: asyncio.Event) -> None:
        """Send what is due, until nothing is: to each target one at a time, so that a slow one holds up itself only."""
        under_way: dict[asyncio.Task[None], int] = {}
        while True:
            if not over.is_set() and len(under_way) < _AT_ONCE:
                for parcel in await self._claim(_AT_ONCE - len(under_way), set(under_way.values())):
                    under_way[asyncio.create_task(self._deliver(parcel))] = parcel.target_id
            if not under_way:
                return
            ended, _ = await asyncio.wait(under_way, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                del under_way[task]
                task.result()

    async def _claim(self, most: int, busy: Collection[int] = ()) -> list[_Parcel]:
        """What is due, one of each target that is not busy; given up what cannot be sent any more."""
        due = (col(Notification.state) == Progress.PENDING) & (col(Notification.next_at) <= now_ms())
        async with self._database.read() as session:
            first = (
                select(func.min(Notification.id))
                .where(due, col(Notification.target_id).not_in(list(busy)))
                .group_by(col(Notification.target_id))
            )
            found = (await session.exec(first.limit(most))).all()
        claimed: list[_Parcel] = []
        for notification_id in found:
            async with self._database.write() as session:
                row = await session.get(Notification, notification_id, with_for_update={"skip_locked": True})
                now = (await session.exec(select(now_ms()))).one()
                if row is None or row.state is not Progress.PENDING or (row.next_at or 0) > now:
                    continue  # another replica was faster
                target = await session.get(Target, row.target_id)
                if target is None or target.del_flag != 1 or not target.secret:
                    row.state, row.ended_at = Progress.GIVEN_UP, now
                    row.reason = "its target was removed or switched off"
                elif row.attempts > len(PAUSES_S):  # whoever made the last attempt did not live to say how it went
                    row.state, row.ended_at = Progress.GIVEN_UP, now
                    row.reason = row.reason or "how the last attempt went is not known"
                else:
                    row.attempts += 1
                    row.next_at = now + PAUSES_S[min(row.attempts, len(PAUSES_S)) - 1] * 1000
                    claimed.append(
                        _Parcel(row.id, target.id, row.attempts, target.secret["url"], row.kind, row.title, row.body)
                    )
        return claimed

    async def _deliver(self, parcel: _Parcel) -> None:
        began = time.monotonic()
        reason = await self.try_at_once(parcel.url, parcel.title, parcel.body, parcel.kind)
        last = parcel.attempt > len(PAUSES_S)
        outcome: dict[str, Any]
        if reason is None:
            outcome = {"state": Progress.SENT, "ended_at": now_ms(), "reason": None}
        elif last:
            outcome = {"state": Progress.GIVEN_UP, "ended_at": now_ms(), "reason": reason}
        else:
            outcome = {"reason": reason}
        async with self._database.write() as session:
            await session.exec(
                update(Notification)
                .where(
                    col(Notification.id) == parcel.id,
                    col(Notification.attempts) == parcel.attempt,
                    col(Notification.state) == Progress.PENDING,
                )
                .values(**outcome)
                .execution_options(synchronize_session=False)
            )
        if reason is not None:
            logger.warning(
                "notification %s was not sent%s, after %.1f s: %s",
                parcel.id,
                ", given up" if last else "",
                time.monotonic() - began,
                reason,
            )
