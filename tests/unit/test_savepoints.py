"""Savepoints of runs on a double of an outside system: stops that give up, schedules, limits, and what is removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, select, update

from app.database import Database, now_ms
from app.errors import Conflict, InvalidInput, NotFound
from app.ids import NodeLease
from app.migrations import migrate
from app.settings import Settings
from app.supervisor import (
    Desired,
    Pace,
    Purpose,
    Retained,
    Run,
    Savepoint,
    SavepointProgress,
    State,
    StopMode,
    Supervisor,
    create_run,
    latest_runs,
    request_restart,
    request_savepoint,
    request_stop,
    savepoints,
)
from app.supervisor.models import SavepointSchedule
from app.supervisor.retention import DAY_MS, hold_savepoint, savepoint_at, set_retention, surplus
from app.supervisor.runners.base import Outcome, Report
from app.supervisor.schedules import fire_due, remove_schedule, schedules, set_schedule
from app.supervisor.transitions import MAX_STOPS, Seen, gives_up_stop
from tests.outside import Outside, OutsideRunner

PACE = Pace(tick_s=0.05, lease_s=5, lost_after_s=0, grace_s=0.2, look_s=0.5, drain_s=1, retention_s=0)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(Settings(home=tmp_path).database())
    await migrate(opened)
    await NodeLease(opened).claim()
    yield opened
    await opened.close()


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    return Outside(tmp_path / "outside.db")


@pytest.fixture
def supervisor(database: Database, outside: Outside, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    monkeypatch.setattr("app.supervisor.loop.backoff_s", lambda attempts: 0.0)
    return supervising(database, outside)


def supervising(database: Database, outside: Outside, pace: Pace = PACE, **limits: int) -> Supervisor:
    made = Supervisor(database, "me", pace, Retained(**limits))
    made.register("test", OutsideRunner(outside))
    return made


async def ticks(supervisor: Supervisor, count: int = 1) -> None:
    for _ in range(count):
        await supervisor.tick()
        await supervisor.settled()


async def running(supervisor: Supervisor, database: Database, subject: str = "job:1", **spec: Any) -> Run:
    async with database.write() as session:
        run = await create_run(session, "test", subject, spec)
    await ticks(supervisor)
    return await now(supervisor, run)


async def now(supervisor: Supervisor, run: Run) -> Run:
    return await supervisor.wait(run.id, timeout_s=0)


async def newest(database: Database, subject: str = "job:1") -> Run:
    async with database.read() as session:
        return (await latest_runs(session, [subject]))[subject]


async def stop(database: Database, mode: StopMode = StopMode.SAVEPOINT, *, native: bool = False) -> Run:
    async with database.write() as session:
        stopped = await request_stop(session, "job:1", mode, native=native)
    assert stopped is not None
    return stopped


async def restart(database: Database, mode: StopMode = StopMode.SAVEPOINT, **spec: Any) -> Run:
    async with database.write() as session:
        asked = await request_restart(session, "job:1", spec, mode)
    assert asked is not None
    return asked


async def kept(database: Database, subject: str = "job:1") -> list[Savepoint]:
    """Newest first."""
    async with database.read() as session:
        return list(await savepoints(session, subject))


async def save(supervisor: Supervisor, database: Database, subject: str = "job:1") -> Savepoint:
    async with database.write() as session:
        asked = await request_savepoint(session, subject)
    await ticks(supervisor, 2)
    (made,) = [one for one in await kept(database, subject) if one.id == asked.id]
    assert (made.state, made.verified) == (SavepointProgress.COMPLETED, True)
    return made


# Stops


async def test_given_a_run_that_cannot_be_saved_then_its_stop_is_given_up_and_it_goes_on(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await running(supervisor, database)
    outside.fail_stops("disk full")
    await stop(database)
    await ticks(supervisor, MAX_STOPS + 1)

    goes_on = await now(supervisor, run)
    assert (goes_on.state, goes_on.desired, goes_on.stop_mode) == (State.RUNNING, Desired.RUNNING, None)
    assert goes_on.reason == (
        "Not stopped, it goes on as before: 3 attempts to make its savepoint failed, the last one because: disk full. "
        "Mend that and ask again, or do it without a savepoint (mode=none)"
    )
    assert [one.state for one in await kept(database)] == [SavepointProgress.FAILED] * MAX_STOPS
    outside.fail_stops(None)
    await ticks(supervisor, 2)
    assert outside.jobs() == {run.external_id: "RUNNING"}
    await stop(database)
    await ticks(supervisor, 2)
    assert (await now(supervisor, run)).state is State.FINISHED


@pytest.mark.parametrize(
    ("mode", "attempts", "since_s", "passing", "given_up"),
    [
        (StopMode.SAVEPOINT, MAX_STOPS - 1, 1000, False, False),
        (StopMode.SAVEPOINT, MAX_STOPS, 0, False, True),
        (StopMode.DRAIN, MAX_STOPS, 0, False, True),
        (StopMode.SAVEPOINT, 50, 119, True, False),
        (StopMode.SAVEPOINT, 50, 120, True, True),
        (StopMode.SAVEPOINT, MAX_STOPS - 1, 1000, True, False),
        (StopMode.CANCEL, 50, 1000, False, False),
    ],
)
def test_a_stop_is_given_up_after_some_attempts_and_what_passes_after_some_time(
    mode: StopMode, attempts: int, since_s: float, passing: bool, given_up: bool
) -> None:
    decided = gives_up_stop(mode=mode, attempts=attempts, since_request_s=since_s, passing=passing, patience_s=120)
    assert decided is given_up


async def test_given_tasks_that_do_not_run_yet_then_the_stop_waits_for_them(
    database: Database, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(OutsideRunner):
        async def stop(self, run: Run, mode: StopMode) -> Report:
            report = await super().stop(run, mode)
            return replace(report, passing=report.outcome is Outcome.FAILED)

    monkeypatch.setattr("app.supervisor.loop.backoff_s", lambda attempts: 0.0)
    supervisor = supervising(database, outside)
    supervisor.register("test", Slow(outside))
    run = await running(supervisor, database)
    outside.fail_stops("not all tasks run")
    await stop(database)
    await ticks(supervisor, 3 * MAX_STOPS)
    assert (await now(supervisor, run)).state is State.STOPPING
    outside.fail_stops(None)
    await ticks(supervisor, 2)

    assert (await now(supervisor, run)).state is State.FINISHED


@pytest.mark.parametrize("begins_as", [None, Seen.STARTING])
async def test_given_a_run_that_is_still_being_started_then_it_is_stopped_at_once(
    supervisor: Supervisor, database: Database, outside: Outside, begins_as: Seen | None
) -> None:
    async with database.write() as session:
        run = await create_run(session, "test", "job:1", {"begins_as": begins_as} if begins_as else {})
    if begins_as:
        await ticks(supervisor)
    assert (await stop(database)).stop_mode is StopMode.CANCEL
    await ticks(supervisor, 2)

    assert (await now(supervisor, run)).state is State.CANCELED
    assert await kept(database) == []


@pytest.mark.parametrize(
    ("mode", "native", "drained"), [(StopMode.SAVEPOINT, True, False), (StopMode.DRAIN, False, True)]
)
async def test_given_a_way_to_stop_then_the_history_says_how_the_savepoint_was_made(
    supervisor: Supervisor, database: Database, mode: StopMode, native: bool, drained: bool
) -> None:
    await running(supervisor, database)
    await stop(database, mode, native=native)
    await ticks(supervisor, 3)

    (made,) = await kept(database)
    assert (made.native, made.drained, made.purpose, made.made_with) == (native, drained, Purpose.STOP, "1.0")


async def test_given_a_place_that_forgets_everything_after_a_stop_then_the_savepoint_is_found_and_the_run_has_finished(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await running(supervisor, database)
    outside.die_at_stops()
    await stop(database)
    await ticks(supervisor, 4)

    ended = await now(supervisor, run)
    (made,) = await kept(database)
    assert (ended.state, ended.savepoint) == (State.FINISHED, made.path)
    assert ended.reason == "Stopped: its savepoint is whole. outside does not know the run any more"
    assert (made.state, made.verified) == (SavepointProgress.COMPLETED, True)


async def test_given_a_place_that_forgets_everything_in_a_restart_then_it_goes_on_from_the_savepoint(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await running(supervisor, database)
    outside.die_at_stops()
    await restart(database)
    await ticks(supervisor, 6)

    after, (made,) = await newest(database), await kept(database)
    assert (after.predecessor_id, after.state, after.spec["restore"]) == (run.id, State.RUNNING, made.path)


# Restarts


async def test_given_a_restart_under_way_when_somebody_stops_it_then_the_same_attempt_goes_on_and_nothing_is_started(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await running(supervisor, database)
    await restart(database)
    stopped = await stop(database)
    assert (stopped.successor, stopped.stop_mode) == (None, StopMode.SAVEPOINT)
    await ticks(supervisor, 3)

    assert (await newest(database)).id == run.id
    assert outside.jobs() == {run.external_id: "FINISHED"}


async def test_given_a_restart_without_savepoint_then_it_goes_on_from_the_newest_checkpoint(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await running(supervisor, database)
    async with database.write() as session:
        await session.exec(update(Run).values(checkpoint="/checkpoints/chk-7", checkpoint_at=1))
    made = await save(supervisor, database)
    await restart(database, StopMode.CANCEL, version=2)
    await ticks(supervisor, 4)

    after = await newest(database)
    assert (after.predecessor_id, after.state) == (run.id, State.RUNNING)
    assert after.spec == {"version": 2, "restore": "/checkpoints/chk-7", "restore_others": [made.path]}
    assert outside.jobs() == {run.external_id: "CANCELED", after.external_id: "RUNNING"}


@pytest.mark.parametrize("wanted", ["/savepoints/older", None])
async def test_given_what_a_restart_is_to_start_from_then_the_savepoint_of_the_stop_is_kept_beside(
    supervisor: Supervisor, database: Database, wanted: str | None
) -> None:
    run = await running(supervisor, database)
    await restart(database, restore=wanted)
    await ticks(supervisor, 4)

    after, (made,) = await newest(database), await kept(database)
    assert (after.predecessor_id, after.spec, after.state) == (run.id, {"restore": wanted}, State.RUNNING)
    assert made.state is SavepointProgress.COMPLETED


async def test_given_a_run_that_fails_in_its_restart_before_it_left_any_state_then_it_goes_on_from_where_it_began(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    await running(supervisor, database, restore="/savepoints/first")
    outside.fail_stops("a task has failed")
    await restart(database)
    await ticks(supervisor)
    outside.becomes(Seen.FAILED)
    await ticks(supervisor, 2)

    assert (await newest(database)).spec == {"restore": "/savepoints/first"}


async def test_given_a_restart_then_how_long_nothing_ran_is_noted_once(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    before = await running(supervisor, database)
    await restart(database)
    await ticks(supervisor, 4)
    after, ended = await newest(database), await now(supervisor, before)
    assert after.down_ms == (after.started_at or 0) - (ended.ended_at or 0)
    assert before.down_ms is None
    outside.becomes(Seen.RESTARTING)
    await ticks(supervisor)
    await asyncio.sleep(0.01)
    outside.becomes(Seen.RUNNING)
    await ticks(supervisor)

    assert (await now(supervisor, after)).down_ms == after.down_ms
    told = [event.message or "" for event in await supervisor.events(after.id)]
    assert sum(f", {after.down_ms} ms after the run before" in message for message in told) == 1


# Schedules


async def due(database: Database, subject: str = "job:1", missed_ms: int = 1000) -> None:
    """The schedule's time came a while ago."""
    async with database.write() as session:
        await session.exec(
            update(SavepointSchedule)
            .where(col(SavepointSchedule.subject) == subject)
            .values(next_at=now_ms() - missed_ms)
        )


async def scheduled(database: Database, cron: str = "0 * * * *", **options: Any) -> SavepointSchedule:
    async with database.write() as session:
        return await set_schedule(session, "job:1", cron, **options)


async def the_schedule(database: Database) -> SavepointSchedule:
    async with database.read() as session:
        (found,) = await schedules(session)
    return found


async def test_given_a_schedule_when_its_time_has_come_then_one_savepoint_is_made_for_all_that_was_missed(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await running(supervisor, database)
    await scheduled(database, native=True)
    await ticks(supervisor)
    assert await kept(database) == []
    await due(database, missed_ms=10 * 24 * 3600 * 1000)
    await ticks(supervisor, 3)

    (made,) = await kept(database)
    assert (made.purpose, made.native, made.state) == (Purpose.SCHEDULE, True, SavepointProgress.COMPLETED)
    found = await the_schedule(database)
    assert found.outcome == f"savepoint {made.id} was asked for by me"
    assert found.fired_at is not None
    assert found.fired_at < found.next_at <= found.fired_at + 3600 * 1000
    assert outside.jobs() == {run.external_id: "RUNNING"}


async def test_given_many_replicas_when_a_time_has_come_then_one_of_them_fires(
    supervisor: Supervisor, database: Database
) -> None:
    await running(supervisor, database)
    await scheduled(database)
    await due(database)
    fired = await asyncio.gather(*(fire_due(database, f"replica {number}") for number in range(8)))

    assert sum(fired) == 1
    assert len(await kept(database)) == 1


async def test_given_a_run_that_does_not_run_when_the_time_has_come_then_that_is_noted_and_skipped(
    supervisor: Supervisor, database: Database
) -> None:
    await scheduled(database)
    await due(database)
    await ticks(supervisor)

    found = await the_schedule(database)
    assert found.outcome == "skipped: job:1 is not running: a savepoint can be made of what runs"
    assert found.next_at > (found.fired_at or 0)
    assert await kept(database) == []


async def test_given_a_schedule_when_it_is_set_again_or_removed_then_the_old_times_do_not_come(
    supervisor: Supervisor, database: Database
) -> None:
    await running(supervisor, database)
    await scheduled(database)
    await due(database)
    changed = await scheduled(database, "30 4 * * *", time_zone="Asia/Shanghai")
    await ticks(supervisor)
    assert ((await the_schedule(database)).cron, await kept(database)) == ("30 4 * * *", [])
    assert changed.next_at % DAY_MS == (20 * 60 + 30) * 60 * 1000
    with pytest.raises(InvalidInput, match="cannot be read"):
        await scheduled(database, "never")
    assert (await the_schedule(database)).cron == "30 4 * * *"

    async with database.write() as session:
        assert await remove_schedule(session, "job:1")
        assert not await remove_schedule(session, "job:1")
        assert await schedules(session) == []


async def test_given_a_schedule_that_cannot_be_read_any_more_then_it_says_so_and_others_are_not_held_up(
    supervisor: Supervisor, database: Database
) -> None:
    await running(supervisor, database, "job:2")
    async with database.write() as session:
        session.add(SavepointSchedule(subject="job:1", cron="* * * * *", time_zone="Asia/Atlantis", next_at=1))
        session.add(SavepointSchedule(subject="job:2", cron="* * * * *", time_zone="UTC", next_at=2))
    await ticks(supervisor)

    async with database.read() as session:
        outcomes = {one.subject: one.outcome or "" for one in await schedules(session)}
    assert outcomes["job:1"].startswith("skipped: timeZone: there is no time zone 'Asia/Atlantis'")
    assert len(await kept(database, "job:2")) == 1


# What is kept


def of_age(number: int, days: float, verified: bool | None = True) -> Savepoint:
    return Savepoint(
        id=number, run_id=1, subject="job:1", token=f"{number:032x}", purpose=Purpose.REQUEST, verified=verified,
        ended_at=int(-days * DAY_MS),
    )  # fmt: skip


def test_given_limits_then_what_is_too_old_or_too_many_is_surplus() -> None:
    found = [of_age(5, 1), of_age(4, 2), of_age(3, 3), of_age(2, 30), of_age(1, 31)]

    assert surplus(found, Retained(), 0) == {}
    assert list(surplus(found, Retained(most=3), 0)) == [2, 1]
    assert surplus(found, Retained(days=30), 0) == {1: "it is older than 30 days"}
    assert list(surplus(found, Retained(most=4, days=2), 0)) == [3, 2, 1]


def test_given_limits_then_the_newest_whole_one_and_what_is_newer_is_never_surplus() -> None:
    limits = Retained(most=1, days=1)
    assert surplus([of_age(1, 1000)], limits, 0) == {}
    assert list(surplus([of_age(4, 10, None), of_age(3, 20, False), of_age(2, 30), of_age(1, 40)], limits, 0)) == [1]
    assert surplus([of_age(2, 10, False), of_age(1, 20, None)], limits, 0) == {}


async def test_given_more_than_are_kept_then_the_oldest_are_removed_once_and_it_is_told(
    database: Database, outside: Outside
) -> None:
    supervisor = supervising(database, outside, most=2)
    run = await running(supervisor, database)
    made = [await save(supervisor, database) for _ in range(4)]
    await ticks(supervisor, 3)

    assert [one.state for one in await kept(database)] == [SavepointProgress.COMPLETED] * 2 + [
        SavepointProgress.REMOVED
    ] * 2
    assert outside.disposed() == [one.path for one in made[:2]]
    gone = (await kept(database))[-1]
    assert (gone.removal, gone.reason) == ("2 are kept, and as many are newer", None)
    assert gone.removed_at is not None
    messages = [event.message for event in await supervisor.events(run.id)]
    assert f"{made[0].path} removed: 2 are kept, and as many are newer" in messages


async def test_given_own_limits_then_they_hold_instead_of_those_for_all(database: Database, outside: Outside) -> None:
    supervisor = supervising(database, outside, most=1)
    async with database.write() as session:
        await set_retention(session, "job:1", Retained(most=0, days=0))
    await running(supervisor, database)
    for _ in range(3):
        await save(supervisor, database)
    assert outside.disposed() == []
    async with database.write() as session:
        await set_retention(session, "job:1", None)
    await ticks(supervisor)

    assert len(outside.disposed()) == 2


async def test_given_files_that_cannot_be_deleted_then_it_says_why_and_is_tried_again(
    database: Database, outside: Outside
) -> None:
    supervisor = supervising(database, outside, most=1)
    await running(supervisor, database)
    outside.fail_disposals("permission denied")
    made = await save(supervisor, database)
    await save(supervisor, database)
    await ticks(supervisor, 2)
    stuck = (await kept(database))[-1]
    assert (stuck.state, stuck.reason) == (SavepointProgress.REMOVING, "Not removed yet: permission denied")
    assert outside.asked("dispose") == 1, "not in every tick"
    outside.fail_disposals(None)
    async with database.write() as session:
        await session.exec(update(Savepoint).values(removal_attempted_at=0))
    await ticks(supervisor)

    assert (await kept(database))[-1].state is SavepointProgress.REMOVED
    assert outside.disposed() == [made.path]


@pytest.mark.parametrize("holder", ["an active run", "the last run", "a restart", "another subject's run"])
async def test_given_a_savepoint_that_a_run_goes_on_from_then_it_stays(
    database: Database, outside: Outside, holder: str
) -> None:
    supervisor = supervising(database, outside)
    await running(supervisor, database)
    first = await save(supervisor, database)
    for _ in range(2):
        await save(supervisor, database)
    if holder == "another subject's run":
        # Written in another way, as people do.
        await running(supervisor, database, "job:2", restore=f"file://{first.path}/_metadata")
    elif holder == "a restart":
        outside.be_reachable(False)
        await restart(database, restore=first.path)
    else:
        await restart(database, restore=first.path)
        await ticks(supervisor, 4)
        if holder == "the last run":
            outside.becomes(Seen.FAILED)
            await ticks(supervisor, 2)
            assert (await newest(database)).state is State.FAILED
    limited = supervising(database, outside, most=1)
    async with database.write() as session:
        with pytest.raises(Conflict, match=r"is kept: run \d+ of job:[12] \(\w+\) goes on from it"):
            await limited.retention.remove(session, "job:1", first.id, "asked for")
    await limited.retention.turn()

    states = {one.id: one.state for one in await kept(database)}
    assert states[first.id] is SavepointProgress.COMPLETED
    assert SavepointProgress.REMOVED in states.values() or holder == "a restart"


async def test_given_a_family_that_needs_a_savepoint_then_it_stays(database: Database, outside: Outside) -> None:
    supervisor = supervising(database, outside, most=1)

    async def need(session: Any, savepoint: Savepoint) -> str | None:
        return "it is dear to us"

    supervisor.retention.guard(need)
    await running(supervisor, database)
    older, _ = await save(supervisor, database), await save(supervisor, database)
    await ticks(supervisor, 2)
    async with database.write() as session:
        with pytest.raises(Conflict, match="is kept: it is dear to us"):
            await supervisor.retention.remove(session, "job:1", older.id, "asked for")

    assert outside.disposed() == []


async def test_given_a_request_then_a_savepoint_that_nobody_needs_is_removed(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    await running(supervisor, database)
    older, newer = await save(supervisor, database), await save(supervisor, database)
    for _ in range(2):
        async with database.write() as session:
            await supervisor.retention.remove(session, "job:1", older.id, "asked for by me")
    async with database.write() as session:
        with pytest.raises(Conflict, match="the newest one that is known to be whole"):
            await supervisor.retention.remove(session, "job:1", newer.id, "asked for")
        with pytest.raises(NotFound, match="job:2 has no savepoint"):
            await supervisor.retention.remove(session, "job:2", newer.id, "asked for")
        with pytest.raises(Conflict, match="is removing: asked for by me"):
            await hold_savepoint(session, "job:1", older.id)
        found = await savepoint_at(session, f"file:{older.path}")
        assert found is not None
        assert found.id == older.id
        assert await savepoint_at(session, "file:/elsewhere/savepoint-1") is None
    await ticks(supervisor, 2)

    assert outside.disposed() == [older.path]
    async with database.read() as session:
        rows = (await session.exec(select(Savepoint.state).order_by(col(Savepoint.id)))).all()
    assert rows == [SavepointProgress.REMOVED, SavepointProgress.COMPLETED]
