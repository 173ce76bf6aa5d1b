"""The queue for slots, on SQLite and on PostgreSQL, against a double of an outside system that counts slots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.database import now_ms
from app.supervisor import State, request_restart
from app.supervisor.transitions import Seen
from tests.supervision import World


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    made = await World.on(database_url, tmp_path)
    made.outside.has_slots(4)
    yield made
    await made.close()


async def test_given_free_slots_then_a_run_starts_at_once_and_its_place_is_asked_once(world: World) -> None:
    run = await world.submit(slots=4)
    await world.ticks()

    assert (await world.now(run)).state is State.RUNNING
    assert world.outside.asked("room") == 1


async def test_given_too_few_free_slots_then_the_run_waits_and_says_for_what(world: World) -> None:
    await world.submit(1, slots=3)
    await world.ticks()
    waiting, behind = await world.submit(2, slots=2), await world.submit(3, slots=1)
    await world.ticks(4)

    holder = f"name of {(await world.newest(1)).external_id[:4]} (3)"
    first, second = await world.now(waiting), await world.now(behind)
    assert (first.state, second.state) == (State.CREATED, State.CREATED)
    arithmetic = "Waits for slots: it needs {}, outside has 1 free of 4; the others are held by " + holder
    assert first.reason == arithmetic.format(2) + "; first in the queue"
    assert second.reason == arithmetic.format(1) + "; place 2 in the queue, behind job 2 (2)"
    assert len(await world.told(waiting, "queued")) == 1
    assert set(world.outside.jobs().values()) == {"RUNNING"}


async def test_given_slots_that_become_free_then_the_first_by_priority_and_then_by_age_starts(world: World) -> None:
    await world.submit(1, slots=4)
    await world.ticks()
    older, younger, urgent = (
        await world.submit(2, slots=3),
        await world.submit(3, slots=3),
        await world.submit(4, slots=3, priority=5),
    )
    await world.ticks()
    started = []
    for number in (1, 4, 2):
        await world.stop(number)
        await world.ticks(3)
        started += [run.id for run in (older, younger, urgent) if (await world.now(run)).state is State.RUNNING]

    assert started == [urgent.id, older.id, younger.id]


async def test_given_many_at_once_then_no_more_are_started_than_there_are_slots(world: World) -> None:
    runs = [await world.submit(number, slots=1) for number in range(1, 11)]
    await world.ticks(3)

    states = [(await world.now(run)).state for run in runs]
    assert states == [State.RUNNING] * 4 + [State.CREATED] * 6
    last = await world.now(runs[-1])
    assert (last.reason or "").endswith(
        "place 6 in the queue, behind job 5 (1), job 6 (1), job 7 (1), job 8 (1), job 9 (1)"
    )


async def test_given_two_replicas_that_start_at_once_then_they_share_the_slots(world: World) -> None:
    other = world.replica("other")
    runs = [await world.submit(number, slots=3) for number in range(1, 7)]
    for _ in range(3):
        await asyncio.gather(world.supervisor.tick(), other.tick())
        await asyncio.gather(world.supervisor.settled(), other.settled())

    assert [(await world.now(run)).state for run in runs] == [State.RUNNING, *[State.CREATED] * 5]
    assert world.outside.ever() == 1


async def test_given_a_large_run_ahead_then_a_small_one_does_not_overtake_it(world: World) -> None:
    await world.submit(1, slots=2)
    await world.ticks()
    large, small = await world.submit(2, slots=4), await world.submit(3, slots=1)
    await world.ticks(2)

    assert [(await world.now(run)).state for run in (large, small)] == [State.CREATED, State.CREATED]


async def test_given_a_run_ahead_that_the_place_cannot_hold_now_then_it_keeps_nobody_waiting(world: World) -> None:
    large, small = await world.submit(1, slots=9), await world.submit(2, slots=2)
    await world.ticks(2)

    assert (await world.now(small)).state is State.RUNNING
    assert "they are too few in all: add a TaskManager" in ((await world.now(large)).reason or "")
    world.outside.has_slots(16)
    await world.ticks(2)
    assert (await world.now(large)).state is State.RUNNING


async def test_given_no_task_manager_then_runs_wait_until_one_comes(world: World) -> None:
    world.outside.has_slots(0)
    run = await world.submit(slots=1)
    await world.ticks(2)
    assert (await world.now(run)).reason == (
        "Waits for slots: it needs 1, outside has 0 free of 0; no TaskManager is there; first in the queue"
    )
    world.outside.has_slots(4)
    await world.ticks(2)
    assert (await world.now(run)).state is State.RUNNING


async def test_given_a_run_that_waits_when_it_is_canceled_then_it_leaves_the_queue_at_once(world: World) -> None:
    await world.submit(1, slots=4)
    await world.ticks()
    gone, next_one = await world.submit(2, slots=4), await world.submit(3, slots=1)
    await world.ticks()
    await world.stop(2)
    await world.ticks(2)

    assert (await world.now(gone)).state is State.CANCELED
    assert ((await world.now(next_one)).reason or "").endswith("first in the queue")
    assert world.outside.asked("submit") == 1


async def test_given_a_limit_when_a_run_has_waited_so_long_then_it_fails_and_says_for_what(world: World) -> None:
    await world.submit(1, slots=4)
    await world.ticks()
    patient, late = await world.submit(2, slots=2), await world.submit(3, slots=2, wait_s=60)
    await world.ticks()
    await world.change(late, queued_at=now_ms() - 61_000)
    await world.change(patient, queued_at=now_ms() - 61_000)
    await world.ticks()

    failed = await world.now(late)
    assert failed.state is State.FAILED
    assert (failed.reason or "").startswith("Waits for slots: it needs 2, outside has 0 free of 4")
    assert (failed.reason or "").endswith("That was its last moment: it waited as long as it may")
    assert (await world.now(patient)).state is State.CREATED


async def test_given_a_full_place_when_a_run_is_restarted_then_nobody_takes_its_slots(world: World) -> None:
    await world.submit(1, slots=4)
    await world.ticks()
    waiting = await world.submit(2, slots=1, priority=9)
    await world.ticks()
    queue = {"place": "outside", "slots": 4, "name": "job 1"}
    async with world.database.write() as session:
        await request_restart(session, "job:1", {"queue": queue})
    await world.ticks(4)

    after = await world.newest(1)
    assert (after.state, after.predecessor_id is not None) == (State.RUNNING, True)
    assert (await world.now(waiting)).state is State.CREATED


async def test_given_an_unreachable_place_then_those_who_wait_say_so_and_go_on_waiting(world: World) -> None:
    await world.submit(1, slots=4)
    await world.ticks()
    waiting = await world.submit(2, slots=1, wait_s=60)
    await world.ticks()
    await world.change(waiting, queued_at=now_ms() - 61_000)
    world.outside.be_reachable(False)
    await world.ticks()
    assert (await world.now(waiting)).reason == "Not submitted yet: outside does not answer (switched off by the test)"
    world.outside.be_reachable(True)
    world.outside.becomes(Seen.FINISHED)
    await world.ticks(2)

    assert (await world.now(waiting)).state is State.RUNNING


async def test_given_a_started_loop_when_there_is_no_room_then_whoever_waits_is_told_at_once(world: World) -> None:
    await world.submit(1, slots=4)
    await world.ticks()
    await world.supervisor.start()
    try:
        run = await world.submit(2, slots=1)
        room = await world.supervisor._runners["test"].room(run)
        world.supervisor.kick(run, room)
        told = await world.supervisor.wait(run.id, timeout_s=30, known=run)
    finally:
        await world.supervisor.stop()

    assert (told.state, (told.reason or "")[:16]) == (State.CREATED, "Waits for slots:")
