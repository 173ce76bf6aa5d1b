"""The supervisor's loop on a real database, against a double of an outside system (``tests/outside.py``)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import col, select, update

from app.database import Database
from app.errors import Conflict
from app.ids import NodeLease
from app.migrations import migrate
from app.settings import Settings
from app.supervisor import (
    Desired,
    Pace,
    Purpose,
    Run,
    Savepoint,
    SavepointProgress,
    State,
    StopMode,
    Supervisor,
    create_run,
    latest_runs,
    loop,
    request_restart,
    request_savepoint,
    request_stop,
    savepoints,
)
from app.supervisor.runners.base import Observation, Outcome, Report
from app.supervisor.transitions import Seen
from tests.outside import Outside, OutsideRunner

PACE = Pace(tick_s=0.05, lease_s=5, lost_after_s=0, grace_s=0.2, look_s=0.5, drain_s=1)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(Settings(home=tmp_path).database())
    await migrate(opened)
    node = NodeLease(opened)
    await node.claim()
    yield opened
    await opened.close()


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    return Outside(tmp_path / "outside.db")


@pytest.fixture
def supervisor(database: Database, outside: Outside) -> Supervisor:
    made = Supervisor(database, "me", PACE)
    made.register("test", OutsideRunner(outside))
    return made


async def submit(database: Database, subject: str = "job:1", **spec: Any) -> Run:
    async with database.write() as session:
        return await create_run(session, "test", subject, spec)


async def stop(database: Database, mode: StopMode, subject: str = "job:1") -> Run:
    async with database.write() as session:
        stopped = await request_stop(session, subject, mode)
    assert stopped is not None
    return stopped


async def ticks(supervisor: Supervisor, count: int = 1) -> None:
    for _ in range(count):
        await supervisor.tick()
        await supervisor.settled()


async def now(supervisor: Supervisor, run: Run) -> Run:
    return await supervisor.wait(run.id, timeout_s=0)


async def first_tick(supervisor: Supervisor) -> None:
    """Waits for its end, and for that of what it set off: the next one comes after ``tick_s``."""
    async with asyncio.timeout(10):
        while supervisor.tick_age_s is None:  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0.01)
    await supervisor.settled()


async def story(supervisor: Supervisor, run: Run) -> list[str]:
    return [f"{event.what}: {event.state}" for event in await supervisor.events(run.id)]


async def test_given_a_new_run_when_the_loop_ticks_then_it_runs_under_its_own_id(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)

    assert (await now(supervisor, run)).state is State.RUNNING
    assert outside.jobs() == {run.external_id: "RUNNING"}
    assert await story(supervisor, run) == [
        "created: CREATED",
        "state: SUBMITTING",
        "state: RUNNING",
    ]


async def test_given_a_refused_submission_then_it_has_failed_with_what_was_said(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database, refuse="no such table: orders")
    await ticks(supervisor)

    failed = await now(supervisor, run)
    assert (failed.state, failed.reason) == (State.FAILED, "no such table: orders")
    assert outside.ever() == 0


async def test_given_an_unreachable_place_then_nothing_is_submitted_until_it_answers(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    outside.be_reachable(False)
    run = await submit(database)
    await ticks(supervisor, 3)

    waiting = await now(supervisor, run)
    assert waiting.state is State.CREATED
    assert "does not answer" in (waiting.reason or "")
    assert list(supervisor.unreachable) == ["outside"]

    outside.be_reachable(True)
    await ticks(supervisor)
    assert (await now(supervisor, run)).state is State.RUNNING
    assert outside.asked("submit") == 1


async def test_given_a_running_run_when_its_place_does_not_answer_then_the_last_observation_stands(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor, 2)
    before = await now(supervisor, run)
    outside.be_reachable(False)
    await ticks(supervisor, 3)

    assert (await now(supervisor, run)).model_dump(exclude={"lease_until"}) == before.model_dump(
        exclude={"lease_until"}
    )


async def test_given_a_run_that_does_not_change_then_observing_adds_no_events_but_its_time(
    supervisor: Supervisor, database: Database
) -> None:
    run = await submit(database)
    await ticks(supervisor, 2)
    before, told = await now(supervisor, run), await story(supervisor, run)
    await asyncio.sleep(0.01)
    await ticks(supervisor, 2)

    after = await now(supervisor, run)
    assert await story(supervisor, run) == told
    assert after.observed_at is not None
    assert before.observed_at is not None
    assert after.observed_at > before.observed_at


async def test_given_many_runs_at_one_place_then_a_tick_costs_one_request(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    for number in range(40):
        await submit(database, f"job:{number}")
    await ticks(supervisor, 2)
    before = outside.asked("look")
    await ticks(supervisor, 3)

    assert outside.asked("look") - before == 3


class WithLastSavepoint(OutsideRunner):
    """It tells of a savepoint of each run that nobody here had asked for."""

    async def observe(self, runs: Sequence[Run]) -> Mapping[int, Observation]:
        seen = await super().observe(runs)
        return {run_id: replace(one, latest_savepoint=f"/outside/{run_id}") for run_id, one in seen.items()}


async def end_outside(supervisor: Supervisor, database: Database, outside: Outside, run: Run, **ended: Any) -> Run:
    """Somebody else cancels the run, and it is time to look for its last savepoint."""
    outside.end((await now(supervisor, run)).external_id, Seen.CANCELED)
    await ticks(supervisor)
    async with database.write() as session:
        await session.exec(update(Run).where(col(Run.id) == run.id).values(look_again_at=1, **ended))
    return await now(supervisor, run)


async def test_given_a_run_that_was_ended_outside_then_looking_for_its_last_savepoint_costs_no_request_of_its_own(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    supervisor.register("test", WithLastSavepoint(outside))
    run, *_ = [await submit(database, f"job:{number}") for number in range(3)]
    await ticks(supervisor, 2)
    ended = await end_outside(supervisor, database, outside, run)
    before = outside.asked("look")
    await ticks(supervisor)

    after = await now(supervisor, run)
    assert outside.asked("look") - before == 1
    assert (after.state, after.look_again_at, after.latest_savepoint) == (State.CANCELED, None, f"/outside/{run.id}")
    assert (after.observed_at, after.lease_owner) == (ended.observed_at, None)
    async with database.read() as session:
        assert [one.purpose for one in await savepoints(session, run.subject)] == [Purpose.OUTSIDE]


async def test_given_a_place_with_nothing_but_a_run_that_was_ended_outside_then_it_is_looked_at_until_it_answers(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    supervisor.register("test", WithLastSavepoint(outside))
    run = await submit(database)
    await ticks(supervisor)
    await end_outside(supervisor, database, outside, run)
    outside.be_reachable(False)
    await ticks(supervisor, 2)
    assert (await now(supervisor, run)).look_again_at is not None
    assert set(supervisor.unreachable) == {"outside"}
    outside.be_reachable(True)
    await ticks(supervisor)
    before = outside.asked("look")
    await ticks(supervisor)

    assert (await now(supervisor, run)).latest_savepoint == f"/outside/{run.id}"
    assert (outside.asked("look"), supervisor.unreachable) == (before, {})


async def test_given_many_runs_that_were_ended_outside_then_a_look_asks_of_some_of_them_and_the_next_of_others(
    supervisor: Supervisor, database: Database, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_ENDED_AT_ONCE", 2)
    for number in range(3):
        await submit(database, f"job:{number}")
    await ticks(supervisor)
    outside.becomes(Seen.CANCELED)
    await ticks(supervisor)
    async with database.write() as session:
        await session.exec(update(Run).values(look_again_at=1))
    left = []
    for _ in range(2):
        await ticks(supervisor)
        async with database.read() as session:
            left.append(len((await session.exec(select(Run).where(col(Run.look_again_at).is_not(None)))).all()))

    assert left == [1, 0]


async def test_given_a_run_that_was_ended_outside_long_ago_then_its_last_savepoint_is_given_up_without_a_look(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)
    await end_outside(supervisor, database, outside, run, ended_at=1)
    before = outside.asked("look")
    await ticks(supervisor)

    assert (await now(supervisor, run)).look_again_at is None
    assert outside.asked("look") == before


async def test_given_a_failed_job_then_the_root_cause_is_the_reason(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)
    outside.becomes(Seen.FAILED)
    await ticks(supervisor)

    failed = await now(supervisor, run)
    assert (failed.state, failed.reason, failed.exception) == (State.FAILED, "it broke", "it broke")
    assert failed.ended_at is not None


async def test_given_a_restarting_job_then_it_is_followed_there_and_back(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)
    outside.becomes(Seen.RESTARTING)
    await ticks(supervisor)
    assert (await now(supervisor, run)).state is State.RESTARTING
    outside.becomes(Seen.RUNNING)
    await ticks(supervisor)
    assert (await now(supervisor, run)).state is State.RUNNING


async def test_given_a_restarted_place_when_it_does_not_know_the_run_twice_then_the_run_is_lost(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)
    outside.restart()
    await ticks(supervisor)
    assert (await now(supervisor, run)).state is State.RUNNING
    await ticks(supervisor)

    lost = await now(supervisor, run)
    assert lost.state is State.LOST
    assert "was restarted" in (lost.reason or "")
    assert outside.ever() == 1


async def test_given_a_submission_that_was_cut_off_then_it_is_tried_again_and_given_up_at_last(
    supervisor: Supervisor, database: Database, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.supervisor.transitions.backoff_s", lambda attempts: 0.0)
    run = await submit(database, cut_off="the planner died")
    await ticks(supervisor, 4)
    await asyncio.sleep(PACE.grace_s)
    await ticks(supervisor)

    failed = await now(supervisor, run)
    assert failed.state is State.FAILED
    assert "the planner died" in (failed.reason or "")
    assert outside.asked("submit") == 3


async def test_given_a_submission_for_which_nothing_was_sent_then_it_waits_and_no_attempt_is_used_up(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database, not_sent=5)
    await ticks(supervisor, 5)

    waiting = await now(supervisor, run)
    assert (waiting.state, waiting.attempts) == (State.SUBMITTING, 0)
    assert waiting.reason == "Not submitted yet: no planner is ready"
    await ticks(supervisor, 2)
    assert (await now(supervisor, run)).state is State.RUNNING
    assert outside.ever() == 1


async def test_given_a_cut_off_submission_when_the_place_was_restarted_then_it_is_not_submitted_again(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database, cut_off="the planner died")
    await ticks(supervisor)
    outside.restart()
    await ticks(supervisor)

    assert (await now(supervisor, run)).state is State.LOST
    assert outside.asked("submit") == 1


async def test_given_a_submission_by_a_process_that_died_then_the_running_job_is_adopted(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    async with database.write() as session:  # SUBMITTING is committed before anything is sent
        await session.exec(update(Run).values(state=State.SUBMITTING, attempts=1))
    outside.take(run.external_id, Seen.RUNNING)
    await ticks(supervisor)

    assert (await now(supervisor, run)).state is State.RUNNING
    assert outside.asked("submit") == 1


async def test_given_a_run_that_is_not_started_when_it_is_stopped_then_it_never_starts(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await stop(database, StopMode.SAVEPOINT)
    await ticks(supervisor)

    assert (await now(supervisor, run)).state is State.CANCELED
    assert outside.asked("submit") == 0


async def test_given_a_running_run_when_it_is_canceled_then_that_is_carried_out(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)
    await stop(database, StopMode.CANCEL)
    await ticks(supervisor, 2)

    assert (await now(supervisor, run)).state is State.CANCELED


async def test_given_a_job_that_is_set_up_without_end_when_it_is_canceled_then_it_ends(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database, begins_as=Seen.STARTING)
    await ticks(supervisor)
    assert (await now(supervisor, run)).state is State.SUBMITTING
    await stop(database, StopMode.CANCEL)
    await ticks(supervisor)

    assert (await now(supervisor, run)).state is State.CANCELED


async def test_given_a_stop_with_savepoint_then_the_run_ends_and_says_where_the_savepoint_is(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)
    await stop(database, StopMode.SAVEPOINT)
    await ticks(supervisor, 2)

    ended = await now(supervisor, run)
    assert (ended.state, ended.savepoint) == (State.FINISHED, f"/savepoints/{ended.stop_token}/savepoint-1")


async def test_given_a_savepoint_that_fails_then_the_stop_is_tried_again_under_a_new_token(
    supervisor: Supervisor, database: Database, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.supervisor.loop.backoff_s", lambda attempts: 0.0)
    run = await submit(database)
    await ticks(supervisor)
    outside.fail_stops("the disk is full")
    await stop(database, StopMode.SAVEPOINT)
    await ticks(supervisor, 2)

    trying = await now(supervisor, run)
    assert (trying.state, trying.observed) == (State.STOPPING, "RUNNING")
    assert "the disk is full" in (trying.reason or "")

    outside.fail_stops(None)
    await ticks(supervisor, 2)
    assert (await now(supervisor, run)).state is State.FINISHED
    assert outside.stops() == 3


async def test_given_a_stop_with_savepoint_that_does_not_succeed_when_a_cancel_is_asked_for_then_it_replaces_it(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)
    outside.fail_stops("the disk is full")
    await stop(database, StopMode.SAVEPOINT)
    await ticks(supervisor)
    await stop(database, StopMode.CANCEL)
    await ticks(supervisor, 2)

    assert (await now(supervisor, run)).state is State.CANCELED


async def test_given_an_unreachable_place_then_a_stop_is_carried_out_when_it_answers_again(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)
    outside.be_reachable(False)
    await stop(database, StopMode.CANCEL)
    await ticks(supervisor, 2)
    assert not (await now(supervisor, run)).state.ended
    outside.be_reachable(True)
    await ticks(supervisor, 2)

    assert (await now(supervisor, run)).state is State.CANCELED


async def test_given_a_place_that_hangs_then_others_are_served_meanwhile(database: Database, outside: Outside) -> None:
    class Hanging(OutsideRunner):
        async def observe(self, runs: Any) -> Any:
            await asyncio.sleep(3600)

    supervisor = Supervisor(database, "me", Pace(look_s=3600, submissions=1, drain_s=0))
    supervisor.register("hanging", Hanging(outside))
    supervisor.register("test", OutsideRunner(outside))
    async with database.write() as session:
        await create_run(session, "hanging", "job:hanging", {"place": "far away"})
    run = await submit(database)
    await supervisor.start()
    try:
        assert (await supervisor.wait(run.id, timeout_s=10)).state is State.RUNNING
    finally:
        await supervisor.stop()


async def test_given_a_look_that_takes_too_long_then_the_place_counts_as_unreachable(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    class Hanging(OutsideRunner):
        async def observe(self, runs: Any) -> Any:
            await asyncio.sleep(3600)

    supervisor.register("test", Hanging(outside))
    run = await submit(database)
    await ticks(supervisor)

    assert (await now(supervisor, run)).state is State.SUBMITTING
    assert "no answer within 0.5 s" in supervisor.unreachable["outside"]


async def test_given_a_runner_with_a_fault_then_it_is_recorded_on_the_run_and_the_loop_goes_on(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    class Faulty(OutsideRunner):
        async def start(self, run: Run) -> None:
            raise ZeroDivisionError("a fault of ours")

    supervisor.register("faulty", Faulty(outside))
    async with database.write() as session:
        faulty = await create_run(session, "faulty", "job:faulty", {})
    run = await submit(database)
    await ticks(supervisor)

    assert "ZeroDivisionError: a fault of ours" in ((await now(supervisor, faulty)).reason or "")
    assert (await now(supervisor, run)).state is State.RUNNING


async def test_given_a_kind_without_a_runner_then_the_run_says_so(supervisor: Supervisor, database: Database) -> None:
    async with database.write() as session:
        run = await create_run(session, "unheard of", "job:x", {})
    await ticks(supervisor)

    assert "unheard of" in ((await now(supervisor, run)).reason or "")


async def test_given_a_started_loop_when_a_run_is_kicked_then_it_does_not_wait_for_the_tick(
    database: Database, outside: Outside
) -> None:
    slow = Supervisor(database, "me", Pace(tick_s=60, lease_s=120))
    slow.register("test", OutsideRunner(outside))
    await slow.start()
    try:
        await first_tick(slow)
        run = await submit(database)
        slow.kick(run)
        assert (await slow.wait(run.id, timeout_s=10)).state is State.RUNNING

        slow.kick(await stop(database, StopMode.CANCEL))
        await slow.settled()
        assert set(outside.jobs().values()) == {"CANCELED"}
    finally:
        await slow.stop()


async def test_given_a_run_that_was_just_written_when_it_starts_then_who_waits_gets_it_without_a_read(
    database: Database, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Supervisor(database, "me", Pace(tick_s=60, lease_s=120))
    slow.register("test", OutsideRunner(outside))
    await slow.start()
    try:
        await first_tick(slow)
        run = await submit(database)
        with monkeypatch.context() as patched:
            patched.setattr(database, "read", lambda: pytest.fail("the database was read"))
            slow.kick(run)
            assert (await slow.wait(run.id, known=run)).state is State.RUNNING
    finally:
        await slow.stop()


async def test_given_a_stopped_supervisor_then_another_one_takes_its_runs_at_once(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await supervisor.start()
    await supervisor.wait(run.id)
    await supervisor.stop()

    other = Supervisor(database, "other", PACE)
    other.register("test", OutsideRunner(outside))
    outside.becomes(Seen.FINISHED)
    await ticks(other)
    assert (await now(other, run)).state is State.FINISHED


async def test_given_a_run_that_another_replica_holds_then_it_is_left_alone(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)
    other = Supervisor(database, "other", PACE)
    other.register("test", OutsideRunner(outside))
    before = outside.asked("look")
    await ticks(other)

    assert outside.asked("look") == before
    assert (await now(other, run)).lease_owner == "me"


async def test_given_an_observation_that_fails_with_a_fault_then_the_run_keeps_its_state(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)

    class Broken(OutsideRunner):
        async def observe(self, runs: Any) -> Any:
            raise KeyError("a fault of ours")

    supervisor.register("test", Broken(outside))
    await ticks(supervisor)
    assert (await now(supervisor, run)).state is State.RUNNING
    assert "KeyError" in supervisor.unreachable["outside"]


# Savepoints and restarts


async def restart(database: Database, subject: str = "job:1", **spec: Any) -> Run:
    async with database.write() as session:
        asked = await request_restart(session, subject, spec)
    assert asked is not None
    return asked


async def newest(database: Database, subject: str = "job:1") -> Run:
    async with database.read() as session:
        return (await latest_runs(session, [subject]))[subject]


async def kept(database: Database, subject: str = "job:1") -> list[Savepoint]:
    async with database.read() as session:
        return list(await savepoints(session, subject))


async def test_given_a_running_run_when_a_savepoint_is_asked_for_then_it_is_made_and_looked_into_once(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)
    async with database.write() as session:
        first = await request_savepoint(session, "job:1")
        again = await request_savepoint(session, "job:1")
    await ticks(supervisor, 3)

    (made,) = await kept(database)
    assert first.id == again.id == made.id
    assert (made.state, made.path, made.verified) == (
        SavepointProgress.COMPLETED,
        f"/savepoints/{made.token}/savepoint-1",
        True,
    )
    assert outside.asked("savepoint") == 1
    assert (await now(supervisor, run)).state is State.RUNNING


async def test_given_a_savepoint_that_fails_then_it_says_why_and_the_run_goes_on(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)
    outside.fail_stops("disk full")
    async with database.write() as session:
        await request_savepoint(session, "job:1")
    await ticks(supervisor)

    (failed,) = await kept(database)
    assert (failed.state, failed.reason) == (SavepointProgress.FAILED, "disk full")
    assert (await now(supervisor, run)).state is State.RUNNING


async def test_given_a_stop_whose_savepoint_does_not_end_when_a_cancel_replaces_it_then_the_savepoint_ends_with_the_run(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    class Slow(OutsideRunner):
        async def stop(self, run: Run, mode: StopMode) -> Report:
            return await super().stop(run, mode) if mode is StopMode.CANCEL else Report(Outcome.UNDER_WAY)

    supervisor.register("test", Slow(outside))
    run = await submit(database)
    await ticks(supervisor)
    await stop(database, StopMode.SAVEPOINT)
    await ticks(supervisor)
    await stop(database, StopMode.CANCEL)
    await ticks(supervisor, 2)

    (asked,) = await kept(database)
    assert (await now(supervisor, run)).state is State.CANCELED
    assert (asked.state, asked.reason) == (SavepointProgress.FAILED, "the run was canceled before it was complete")


async def test_given_a_savepoint_that_fails_after_its_run_has_ended_then_the_event_tells_the_runs_state(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    class Slow(OutsideRunner):
        async def savepoint(self, run: Run, token: str, *, native: bool) -> Report:
            asked.set()
            await ended.wait()
            return Report(Outcome.FAILED, cause="the job has ended")

    supervisor.register("test", Slow(outside))
    run = await submit(database)
    await ticks(supervisor)
    async with database.write() as session:
        await request_savepoint(session, "job:1")
    await supervisor.tick()
    await asked.wait()
    outside.becomes(Seen.FAILED)
    async with asyncio.timeout(30):
        while not (await now(supervisor, run)).state.ended:
            await supervisor.tick()  # which looks at no place that is still being looked at
            await asyncio.sleep(0.01)
    ended.set()
    await supervisor.settled()

    assert (await story(supervisor, run))[-2:] == ["state: FAILED", "savepoint: FAILED"]


async def test_given_nothing_that_runs_then_a_savepoint_is_refused(database: Database) -> None:
    async with database.write() as session:
        with pytest.raises(Conflict, match="not running"):
            await request_savepoint(session, "job:1")


async def test_given_a_running_run_when_it_is_restarted_then_one_run_goes_on_from_its_savepoint(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)
    await restart(database, version=2)
    await ticks(supervisor, 4)

    before, after = await now(supervisor, run), await newest(database)
    (made,) = await kept(database)
    assert (before.state, before.savepoint) == (State.FINISHED, made.path)
    assert (after.state, after.predecessor_id) == (State.RUNNING, run.id)
    assert after.spec == {"version": 2, "restore": made.path}
    assert (made.state, made.purpose, made.verified) == (SavepointProgress.COMPLETED, Purpose.RESTART, True)
    assert outside.jobs() == {run.external_id: "FINISHED", after.external_id: "RUNNING"}


async def test_given_a_run_that_cannot_be_stopped_then_its_restart_is_given_up_and_it_goes_on(
    supervisor: Supervisor, database: Database, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.supervisor.loop.backoff_s", lambda attempts: 0.0)
    run = await submit(database)
    await ticks(supervisor)
    outside.fail_stops("disk full")
    await restart(database)
    await ticks(supervisor, 4)

    goes_on = await now(supervisor, run)
    assert (goes_on.state, goes_on.desired, goes_on.successor) == (State.RUNNING, Desired.RUNNING, None)
    assert "Not restarted" in (goes_on.reason or "")
    assert "disk full" in (goes_on.reason or "")
    assert [made.state for made in await kept(database)] == [SavepointProgress.FAILED] * 3
    outside.fail_stops(None)
    await ticks(supervisor, 3)
    assert outside.jobs() == {run.external_id: "RUNNING"}


async def test_given_a_run_that_fails_while_it_is_restarted_then_its_checkpoint_is_gone_on_from(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)
    async with database.write() as session:
        await session.exec(update(Run).values(checkpoint="/checkpoints/chk-7"))
    outside.fail_stops("a task has failed")
    await restart(database, version=2)
    await ticks(supervisor)
    outside.becomes(Seen.FAILED)
    await ticks(supervisor, 2)

    after = await newest(database)
    assert (after.predecessor_id, after.spec["restore"]) == (run.id, "/checkpoints/chk-7")
    assert after.state is State.RUNNING


async def test_given_a_run_that_is_canceled_outside_while_it_is_restarted_then_nothing_is_started(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)
    outside.fail_stops("a task has failed")
    await restart(database)
    outside.becomes(Seen.CANCELED)
    await ticks(supervisor, 2)

    ended = await newest(database)
    assert (ended.id, ended.state) == (run.id, State.CANCELED)
    assert "Not restarted" in (ended.reason or "")


async def test_given_a_restart_when_somebody_cancels_then_nothing_is_started_afterwards(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    run = await submit(database)
    await ticks(supervisor)
    outside.fail_stops("disk full")
    await restart(database)
    await ticks(supervisor)
    await stop(database, StopMode.CANCEL)
    await ticks(supervisor, 3)

    assert (await newest(database)).id == run.id
    assert outside.jobs() == {run.external_id: "CANCELED"}


async def test_given_a_run_that_is_being_restarted_then_a_second_restart_is_refused(
    supervisor: Supervisor, database: Database
) -> None:
    await submit(database)
    await ticks(supervisor)
    await restart(database)
    async with database.write() as session:
        with pytest.raises(Conflict, match="already being restarted"):
            await request_restart(session, "job:1", {})


async def test_given_many_runs_that_change_at_once_then_they_are_recorded_together_each_with_its_event(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    runs = [await submit(database, f"job:{number}") for number in range(60)]
    await ticks(supervisor, 2)
    outside.becomes(Seen.RESTARTING)
    await ticks(supervisor)

    for run in runs:
        assert (await now(supervisor, run)).state is State.RESTARTING
        assert (await story(supervisor, run))[-1] == "state: RESTARTING"


async def test_given_one_of_many_changes_that_cannot_be_recorded_then_the_others_are(
    supervisor: Supervisor, database: Database, outside: Outside
) -> None:
    runs = [await submit(database, f"job:{number}") for number in range(5)]
    await ticks(supervisor, 2)
    async with database.write() as session:
        await session.exec(
            text(
                "CREATE TRIGGER broken BEFORE UPDATE ON run WHEN new.state = 'RESTARTING' AND new.subject = 'job:3' "
                "BEGIN SELECT RAISE(ABORT, 'no room'); END"
            )  # type: ignore[call-overload]
        )
    outside.becomes(Seen.RESTARTING)
    await ticks(supervisor)

    states = [(await now(supervisor, run)).state for run in runs]
    assert states == [State.RUNNING if number == 3 else State.RESTARTING for number in range(5)]
