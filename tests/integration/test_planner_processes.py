"""Planner processes that end while nobody asks them anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import uvloop

from stream_jobs.planner.client import Planner
from tests.planners import planner_config, planner_process, planner_processes


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_planner_that_dies_while_it_is_idle_is_replaced_before_anybody_notices(
    tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def kill_and_ask() -> None:
        async with Planner(planner_config(tmp_path)) as planner:
            for number in range(2):
                await planner.parse([f"SELECT {number}"])
                worker = planner_process(tmp_path)
                worker.children()[0].kill()
                # To wait for it would take its exit status away from the loop.
                while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                async with asyncio.timeout(30):
                    while any(one.is_alive for one in planner._processes):  # noqa: ASYNC110 - the loop is told later
                        await asyncio.sleep(0.01)
                assert "tree" in (await planner.parse([f"SELECT {number}"]))[0]
            assert planner.statistics.restarts == 2

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(kill_and_ask())
    assert not planner_processes(tmp_path)
