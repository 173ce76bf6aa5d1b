"""PostgreSQL sessions that stay open for a moment, because logging in takes longer than all that a check asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg.rows import DictRow, dict_row

LIFE_S = 10.0
"""How long a session is used after its login: a password that was changed is noticed at the latest then."""

T = TypeVar("T")

Session = psycopg.AsyncConnection[DictRow]
_Key = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class _Kept:
    session: Session
    until: float
    """By the event loop's clock."""


class Sessions:
    """Sessions by all that they were opened with, the password included. :meth:`close` them at the end."""

    def __init__(self) -> None:
        self._idle: dict[_Key, list[_Kept]] = {}

    async def ask(self, parameters: Mapping[str, Any], question: Callable[[Session], Awaitable[T]]) -> T:
        """What ``question`` answers, in a session that is at hand or in a new one.

        Raises ``psycopg.Error``. A session that its server has ended is replaced.
        """
        key = tuple(sorted(parameters.items()))
        while idle := self._idle.get(key):
            kept = idle.pop()
            try:
                return await self._use(key, kept, question)
            except psycopg.OperationalError:
                if not kept.session.broken:
                    raise
        session = await psycopg.AsyncConnection.connect(**parameters, autocommit=True, row_factory=dict_row)
        loop = asyncio.get_running_loop()
        kept = _Kept(session, loop.time() + LIFE_S)
        loop.call_at(kept.until, self._end_if_idle, key, kept)
        return await self._use(key, kept, question)

    async def close(self) -> None:
        """End what is open."""
        idle, self._idle = self._idle, {}
        for kept in (kept for same in idle.values() for kept in same):
            await kept.session.close()

    async def _use(self, key: _Key, kept: _Kept, question: Callable[[Session], Awaitable[T]]) -> T:
        try:
            answer = await question(kept.session)
        except BaseException:
            await kept.session.close()
            raise
        if asyncio.get_running_loop().time() < kept.until:
            self._idle.setdefault(key, []).append(kept)
        else:
            await kept.session.close()
        return answer

    def _end_if_idle(self, key: _Key, kept: _Kept) -> None:
        same = self._idle.get(key, [])
        if kept in same:
            same.remove(kept)
            kept.session.pgconn.finish()
        if not same:
            self._idle.pop(key, None)
