"""Notifications on their way: each is tried by one replica at a time until it is sent or given up.

An attempt is counted, and the next one set, before anything is sent; so a replica that dies while it sends leaves
the notification to another one, after a pause. It may have arrived by then: a target may be told twice of something,
never not at all because of that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import update
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
_MOST = 16


@dataclass(frozen=True, slots=True)
class _Parcel:
    id: int
    attempt: int
    url: str | None
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
            reason = await asyncio.wait_for(sending, LONGEST_S)
        except TimeoutError:
            reason = f"no answer within {LONGEST_S:g} s"
        metrics.NOTIFICATIONS.labels("sent" if reason is None else "failed").inc()
        return reason

    async def step(self, over: asyncio.Event) -> None:
        """Send what is due, until nothing is."""
        while not over.is_set() and (parcels := await self._claim()):
            await asyncio.gather(*map(self._deliver, parcels))

    async def _claim(self) -> list[_Parcel]:
        due = (col(Notification.state) == Progress.PENDING) & (col(Notification.next_at) <= now_ms())
        async with self._database.read() as session:
            found = (await session.exec(select(Notification.id).where(due).limit(_MOST))).all()
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
                    claimed.append(_Parcel(row.id, row.attempts, target.secret["url"], row.kind, row.title, row.body))
        return claimed

    async def _deliver(self, parcel: _Parcel) -> None:
        began = time.monotonic()
        reason = await self.try_at_once(parcel.url or "", parcel.title, parcel.body, parcel.kind)
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
