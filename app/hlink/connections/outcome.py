"""What a look at a table's outside finds: each check with its problem if there is one, and what a form can use."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import Problem

TIMEOUT_S = 5.0
"""The longest the check of all of a job's tables may take."""
CONNECT_TIMEOUT_S = 3.0
"""The longest that one broker or database may take to answer."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was asked: ``name`` of it, what was found in words, and the problem when it is not in order."""

    name: str
    found: str = ""
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class FoundColumn:
    """A database's column: its own type, and the Flink type to define it with; none when Flink cannot read it."""

    name: str
    database_type: str
    flink_type: str | None
    in_key: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that was found. ``partitions`` of a topic; ``columns`` and ``key`` of a database's table."""

    checks: Sequence[Check]
    partitions: int | None = None
    columns: Sequence[FoundColumn] = ()
    key: Sequence[str] = ()

    @property
    def problems(self) -> list[Problem]:
        return [check.problem for check in self.checks if check.problem is not None]


def failed(name: str, problem: Problem, *before: Check) -> Outcome:
    """An outcome that ends with this problem, after the checks before it."""
    return Outcome((*before, Check(name, problem=problem)))


async def unreachable(addresses: Sequence[tuple[str, int]]) -> str | None:
    """Why none of the addresses takes a connection; None when one does."""
    outcomes = await asyncio.gather(*(_refusal(host, port) for host, port in addresses))
    return None if None in outcomes else outcomes[0]


async def _refusal(host: str, port: int) -> str | None:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"no connection within {CONNECT_TIMEOUT_S:g} s"
    except OSError as error:
        return {111: "connection refused"}.get(error.errno or 0, error.strerror or str(error))
    writer.close()
    return None
