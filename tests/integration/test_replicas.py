"""Replicas as real processes: killed between every two steps, and sharing one database."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.database import Database
from app.ids import NodeLease
from app.migrations import migrate
from app.settings import Settings
from app.supervisor import (
    Purpose,
    Retained,
    Run,
    Savepoint,
    SavepointProgress,
    State,
    StopMode,
    create_run,
    latest_runs,
    request_restart,
    request_savepoint,
    request_stop,
    savepoints,
    want_no_more,
)
from app.supervisor.faults import POINTS, VARIABLE
from app.supervisor.retention import Retention
from app.supervisor.schedules import set_schedule
from app.supervisor.store import events
from app.supervisor.transitions import Seen
from stream_jobs.local.endpoints import Endpoints
from tests.databases import postgres_schema
from tests.outside import Outside
from tests.replica import LEASE_S, TICK_S

ROOT = Path(__file__).resolve().parents[2]


class World:
    """A database, an outside system, and replicas that work on them."""

    def __init__(self, url: str, outside: Path) -> None:
        self.url = url
        self.database = Database(Settings.model_validate({"database_url": url}).database())
        self.outside = Outside(outside)
        self.replicas: list[asyncio.subprocess.Process] = []

    async def start_replica(self, crash_at: str | None = None) -> asyncio.subprocess.Process:
        environment = {**os.environ, **({VARIABLE: crash_at} if crash_at else {})}
        replica = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.replica", self.url, str(self.outside.path)),
            cwd=ROOT,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self.replicas.append(replica)
        return replica

    async def create(self, subject: str = "job:1", **spec: Any) -> Run:
        async with self.database.write() as session:
            return await create_run(session, "test", subject, spec)

    async def stop(self, mode: StopMode, subject: str = "job:1") -> None:
        async with self.database.write() as session:
            await request_stop(session, subject, mode)

    async def load(self, run: Run) -> Run:
        async with self.database.read() as session:
            found = await session.get(Run, run.id)
        assert found is not None
        return found

    async def until(self, run: Run, holds: Callable[[Run], bool], within_s: float = 30.0) -> Run:
        deadline = time.monotonic() + within_s
        while not holds(found := await self.load(run)):
            assert time.monotonic() < deadline, f"still {found!r}"
            await asyncio.sleep(0.05)
        return found

    async def close(self) -> None:
        for replica in self.replicas:
            with suppress(ProcessLookupError):
                replica.kill()
            await replica.wait()
        self.outside.close()
        await self.database.close()


async def _world(url: str, tmp_path: Path) -> World:
    made = World(url, tmp_path / "outside.db")
    await migrate(made.database)
    await NodeLease(made.database).claim()
    return made


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """On SQLite."""
    made = await _world(f"sqlite:///{tmp_path}/hlink.db", tmp_path)
    yield made
    await made.close()


@pytest.fixture
def schema(endpoints: Endpoints) -> Iterator[str]:
    with postgres_schema(endpoints.postgres) as address:
        yield address


@pytest.fixture
async def shared_world(schema: str, tmp_path: Path) -> AsyncIterator[World]:
    """On PostgreSQL."""
    made = await _world(schema, tmp_path)
    yield made
    await made.close()


async def exit_code(replica: asyncio.subprocess.Process, within_s: float = 30) -> int:
    async with asyncio.timeout(within_s):
        return await replica.wait()


async def died(replica: asyncio.subprocess.Process) -> None:
    assert await exit_code(replica) == -signal.SIGKILL


# Killed at each step. Whatever the moment, another replica must end up with one job and the right outcome.

STARTING = (
    "lease.claimed",
    "transition.uncommitted",
    "submission.begun",
    "submission.done",
    "submission.noted",
)
STOPPING = ("stop.begun", "stop.asked", "stop.noted")
SCHEDULED = ("schedule.uncommitted", "schedule.fired")
REMOVING = ("removal.noted", "removal.done")


def test_every_crash_point_is_tried_below() -> None:
    in_the_families = {"run.created"}
    elsewhere = {
        *("submission.refused", "observation.unrecorded", "savepoint.asked"),
        *("recovery.found", "recovery.chosen", "lost.superfluous"),
    }
    assert {*STARTING, *STOPPING, *SCHEDULED, *REMOVING} | elsewhere == set(POINTS) - in_the_families


@pytest.mark.parametrize("point", STARTING)
async def test_given_a_service_killed_while_it_starts_a_run_then_the_next_one_brings_it_to_run_once(
    world: World, point: str
) -> None:
    run = await world.create()
    await died(await world.start_replica(point))
    await world.start_replica()

    await world.until(run, lambda run: run.state is State.RUNNING)
    assert world.outside.jobs() == {run.external_id: "RUNNING"}
    assert world.outside.ever() == 1


async def test_given_a_service_killed_on_a_refusal_then_the_next_one_is_told_the_same(world: World) -> None:
    run = await world.create(refuse="no such table")
    await died(await world.start_replica("submission.refused"))
    assert (await world.load(run)).state is State.SUBMITTING
    await world.start_replica()

    assert (await world.until(run, lambda run: run.state is State.FAILED)).reason == "no such table"
    assert world.outside.ever() == 0


@pytest.mark.parametrize("point", STOPPING)
@pytest.mark.parametrize(("mode", "end"), [(StopMode.CANCEL, State.CANCELED), (StopMode.SAVEPOINT, State.FINISHED)])
async def test_given_a_service_killed_while_it_stops_a_run_then_the_next_one_carries_the_stop_out(
    world: World, point: str, mode: StopMode, end: State
) -> None:
    run = await world.create()
    first = await world.start_replica(point)
    await world.until(run, lambda run: run.state is State.RUNNING)
    await world.stop(mode)
    await died(first)
    await world.start_replica()

    ended = await world.until(run, lambda run: run.state is end)
    assert ended.savepoint == (f"/savepoints/{ended.stop_token}/savepoint-1" if mode is StopMode.SAVEPOINT else None)
    assert world.outside.stops() == 1


@pytest.mark.parametrize("point", [*STOPPING, *(point for point in STARTING if point != "lease.claimed")])
async def test_given_a_service_killed_while_it_restarts_a_run_then_one_run_goes_on_from_the_savepoint(
    world: World, point: str
) -> None:
    run = await world.create()
    first = await world.start_replica()
    await world.until(run, lambda run: run.state is State.RUNNING)
    first.kill()
    await first.wait()
    async with world.database.write() as session:
        await request_restart(session, run.subject, {})
    await died(await world.start_replica(point))
    await world.start_replica()

    ended = await world.until(run, lambda run: run.state is State.FINISHED)
    async with world.database.read() as session:
        after = (await latest_runs(session, [run.subject]))[run.subject]
    await world.until(after, lambda run: run.state is State.RUNNING)
    assert (after.predecessor_id, after.spec["restore"]) == (run.id, ended.savepoint)
    assert world.outside.jobs() == {run.external_id: "FINISHED", after.external_id: "RUNNING"}
    assert (world.outside.ever(), world.outside.stops()) == (2, 1)


@pytest.mark.parametrize("point", ["recovery.chosen", *(point for point in STARTING if point != "lease.claimed")])
async def test_given_a_service_killed_while_it_starts_a_lost_run_again_then_it_is_started_once(
    world: World, point: str
) -> None:
    run = await world.create(recovery={"of": ["LOST"]})
    first = await world.start_replica()
    await world.until(run, lambda run: run.state is State.RUNNING)
    first.kill()
    await first.wait()
    world.outside.has_state(run.external_id, "/checkpoints/chk-7")
    world.outside.restart()
    await died(await world.start_replica(point))
    await world.start_replica()

    await world.until(run, lambda run: run.state is State.LOST)
    async with world.database.read() as session:
        after = (await latest_runs(session, [run.subject]))[run.subject]
    after = await world.until(after, lambda run: run.state is State.RUNNING)
    assert (after.predecessor_id, after.spec["restore"]) == (run.id, "/checkpoints/chk-7")
    assert world.outside.jobs() == {after.external_id: "RUNNING"}


async def test_given_a_service_killed_when_a_lost_job_is_there_again_then_the_next_one_takes_it(world: World) -> None:
    queue = {"place": "outside", "slots": 1}
    world.outside.has_slots(1)
    run = await world.create(recovery={"of": ["LOST"]}, queue=queue)
    first = await world.start_replica("recovery.found")
    await world.until(run, lambda run: run.state is State.RUNNING)
    world.outside.has_slots(0)
    world.outside.restart()
    await world.until(run, lambda run: run.state is State.LOST)
    # In this order: with slots in its second life, the run could be started there in between.
    world.outside.returns_to(1)
    world.outside.has_slots(1)
    await died(first)
    await world.start_replica()

    async with world.database.read() as session:
        after = (await latest_runs(session, [run.subject]))[run.subject]
    after = await world.until(after, lambda run: run.state is State.RUNNING)
    assert after.external_id == run.external_id
    assert world.outside.ever() == 1


async def test_given_a_service_killed_before_it_cancels_a_lost_job_that_is_back_then_the_next_one_does(
    world: World,
) -> None:
    run = await world.create()
    first = await world.start_replica("lost.superfluous")
    await world.until(run, lambda run: run.state is State.RUNNING)
    world.outside.restart()
    await world.until(run, lambda run: run.state is State.LOST)
    async with world.database.write() as session:
        await want_no_more(session, run.subject)
    world.outside.returns_to(1)
    await died(first)
    assert world.outside.jobs() == {run.external_id: "RUNNING"}
    await world.start_replica()

    deadline = time.monotonic() + 30
    while world.outside.jobs() != {run.external_id: "CANCELED"}:
        assert time.monotonic() < deadline, world.outside.jobs()
        await asyncio.sleep(0.05)


async def test_given_a_service_killed_when_it_had_asked_for_a_savepoint_then_the_next_one_settles_it(
    world: World,
) -> None:
    run = await world.create()
    first = await world.start_replica("savepoint.asked")
    await world.until(run, lambda run: run.state is State.RUNNING)
    async with world.database.write() as session:
        asked = await request_savepoint(session, run.subject)
    await died(first)
    await world.start_replica()

    deadline = time.monotonic() + 30
    while True:
        async with world.database.read() as session:
            (made,) = await savepoints(session, run.subject)
        if made.verified_at is not None:
            break
        assert time.monotonic() < deadline, f"still {made!r}"
        await asyncio.sleep(0.05)
    assert (made.id, made.path) == (asked.id, f"/savepoints/{asked.token}/savepoint-1")


async def _savepoints(world: World, run: Run, settled: int) -> list[Savepoint]:
    """The run's savepoints, newest first, once so many of them are complete and looked into."""
    deadline = time.monotonic() + 30
    while True:
        async with world.database.read() as session:
            found = list(await savepoints(session, run.subject))
        if sum(one.verified_at is not None for one in found) >= settled:
            return found
        assert time.monotonic() < deadline, f"still {found!r}"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("point", SCHEDULED)
async def test_given_a_service_killed_when_a_savepoint_was_due_then_it_is_made_once(world: World, point: str) -> None:
    run = await world.create()
    first = await world.start_replica(point)
    await world.until(run, lambda run: run.state is State.RUNNING)
    async with world.database.write() as session:
        schedule = await set_schedule(session, run.subject, "0 0 1 1 *")
        schedule.next_at = 1
    await died(first)
    await world.start_replica()

    (made,) = await _savepoints(world, run, settled=1)
    assert (made.purpose, made.path) == (Purpose.SCHEDULE, f"/savepoints/{made.token}/savepoint-1")
    await asyncio.sleep(5 * TICK_S)
    assert len(await _savepoints(world, run, settled=1)) == 1


@pytest.mark.parametrize("point", REMOVING)
async def test_given_a_service_killed_while_it_removes_a_savepoint_then_the_next_one_does_it_and_no_other_goes(
    world: World, point: str
) -> None:
    run = await world.create()
    first = await world.start_replica(point)
    await world.until(run, lambda run: run.state is State.RUNNING)
    for number in (1, 2):
        async with world.database.write() as session:
            await request_savepoint(session, run.subject)
        newer, *older = await _savepoints(world, run, settled=number)
    async with world.database.write() as session:
        await Retention(world.database, "test", {}, Retained(), 30).remove(
            session, run.subject, older[0].id, "asked for"
        )
    await died(first)
    await world.start_replica()

    deadline = time.monotonic() + 30
    while (found := await _savepoints(world, run, settled=2))[1].state is not SavepointProgress.REMOVED:
        assert time.monotonic() < deadline, f"still {found!r}"
        await asyncio.sleep(0.05)
    assert found[0].state is SavepointProgress.COMPLETED
    assert set(world.outside.disposed()) == {older[0].path}
    assert newer.path not in world.outside.disposed()


async def test_given_a_service_killed_before_it_records_an_end_then_the_next_one_records_it(world: World) -> None:
    run = await world.create()
    first = await world.start_replica()
    await world.until(run, lambda run: run.state is State.RUNNING)
    first.kill()
    await first.wait()
    second = await world.start_replica("observation.unrecorded")
    world.outside.becomes(Seen.FAILED)
    await died(second)
    assert (await world.load(run)).state is State.RUNNING
    await world.start_replica()

    assert (await world.until(run, lambda run: run.state is State.FAILED)).reason == "it broke"


# Replicas that share a database


async def test_given_two_replicas_on_one_database_then_every_run_is_handled_by_one_of_them(shared_world: World) -> None:
    world = shared_world
    runs = [await world.create(f"job:{number}") for number in range(30)]
    await asyncio.gather(world.start_replica(), world.start_replica())
    more = [await world.create(f"more:{number}") for number in range(30)]

    for run in (*runs, *more):
        await world.until(run, lambda run: run.state is State.RUNNING)
    submitted = [external_id for external_id, _ in world.outside.askers("submit")]
    assert sorted(submitted) == sorted(run.external_id for run in (*runs, *more))
    assert world.outside.ever() == 60


async def test_given_a_killed_replica_then_its_runs_are_taken_over_within_lease_and_tick(shared_world: World) -> None:
    world = shared_world
    run = await world.create()
    first = await world.start_replica()
    held = await world.until(run, lambda run: run.state is State.RUNNING)
    second = await world.start_replica()
    assert second.stdout is not None
    async with asyncio.timeout(30):
        await second.stdout.readline()
    await asyncio.sleep(2 * LEASE_S)
    assert (await world.load(run)).lease_owner == held.lease_owner

    first.kill()
    await first.wait()
    killed_at = time.monotonic()
    await world.until(run, lambda run: run.lease_owner not in (held.lease_owner, None))
    took_s = time.monotonic() - killed_at
    assert took_s <= LEASE_S + TICK_S + 0.5, "half a second more than promised, for a machine busy with other tests"
    assert second.returncode is None
    async with world.database.read() as session:
        assert "taken over" in [event.what for event in await events(session, run.id)]


async def test_given_a_replica_that_ends_in_order_then_its_runs_are_free_at_once(world: World) -> None:
    run = await world.create()
    replica = await world.start_replica()
    await world.until(run, lambda run: run.state is State.RUNNING)
    assert replica.stdin is not None
    replica.stdin.close()

    assert await exit_code(replica, 15) == 0
    assert (await world.load(run)).lease_owner is None


async def test_given_a_crash_point_that_does_not_exist_then_the_service_refuses_to_start(world: World) -> None:
    replica = await world.start_replica("no.such.point")

    assert await exit_code(replica) not in (0, -signal.SIGKILL)
