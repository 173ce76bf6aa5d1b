"""Steps in the background: they go on after a fault, and are asked to end instead of being cancelled."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.exc import OperationalError

from app.background import repeated


async def test_a_step_that_raises_is_logged_and_taken_again(caplog: pytest.LogCaptureFixture) -> None:
    faults: list[Exception] = [ValueError("why"), OperationalError("SELECT 1", {}, Exception("gone"))]
    done = asyncio.Event()

    async def step(_over: asyncio.Event) -> None:
        if faults:
            raise faults.pop(0)
        done.set()

    async with repeated("counting", 0.001, step):
        async with asyncio.timeout(10):
            await done.wait()
    assert [record.getMessage() for record in caplog.records] == [
        "counting failed; trying again",
        "counting: the database failed: OperationalError; trying again",
    ]


async def test_a_step_under_way_is_asked_to_end_and_waited_for() -> None:
    began, ended = asyncio.Event(), False

    async def step(over: asyncio.Event) -> None:
        nonlocal ended
        began.set()
        await over.wait()
        await asyncio.sleep(0.01)
        ended = True

    async with repeated("waiting", 3600, step):
        async with asyncio.timeout(10):
            await began.wait()
    assert ended
