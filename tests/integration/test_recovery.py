"""What becomes of lost runs, on SQLite and on PostgreSQL, against a double of an outside system."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from app.database import now_ms
from app.supervisor import (
    Purpose,
    Run,
    Savepoint,
    SavepointProgress,
    State,
    StopMode,
    request_restart,
    want_no_more,
)
from app.supervisor.recovery import Budget
from app.supervisor.runners.base import Observation
from app.supervisor.transitions import Seen
from tests.outside import OutsideRunner
from tests.supervision import RECOVERY, World


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    made = await World.on(database_url, tmp_path)
    yield made
    await made.close()


async def running(world: World, state: str | None = "/checkpoints/chk-7", **spec: Any) -> Run:
    """A run that runs; ``state`` is its newest checkpoint, which nobody has noted."""
    run = await world.submit(recovery={**RECOVERY, **spec.pop("policy", {})}, **spec)
    await world.ticks()
    if state is not None:
        world.outside.has_state(run.external_id, state)
    return await world.now(run)


async def test_given_a_place_that_lost_its_memory_then_the_run_goes_on_from_its_newest_checkpoint(world: World) -> None:
    lost = await running(world, version=2)
    world.outside.restart()
    await world.ticks(4)

    before, after = await world.now(lost), await world.newest()
    assert before.state is State.LOST
    assert before.reason == (
        "outside was restarted since this run was submitted, and does not know it any more. "
        f"Started again as run {after.id}: attempt 1 of 3 within 10 min"
    )
    assert (after.state, after.predecessor_id, after.recovery) == (State.RUNNING, lost.id, 1)
    assert after.spec == {**lost.spec, "restore": "/checkpoints/chk-7"}
    assert after.external_id != lost.external_id
    assert await world.told(after, "created") == [
        f"stands in for run {lost.id}, which was lost: attempt 1 of 3 within 10 min"
    ]
    assert await world.told(after, "recovery") == ["goes on from /checkpoints/chk-7, which is whole."]
    assert world.outside.jobs() == {after.external_id: "RUNNING"}


@pytest.mark.parametrize("of", [[], None])
async def test_given_a_policy_that_says_no_then_a_lost_run_stays_lost(world: World, of: list[str] | None) -> None:
    lost = await running(world, policy={"of": of or []})
    if of is None:
        await world.change(lost, spec={})
    world.outside.restart()
    await world.ticks(4)

    assert (await world.newest()).id == lost.id
    assert world.outside.jobs() == {}


async def test_given_a_place_that_kept_its_memory_then_the_run_has_ended_and_is_not_started_again(world: World) -> None:
    lost = await running(world)
    world.outside.forget(lost.external_id)
    await world.ticks(4)

    ended = await world.newest()
    assert (ended.id, ended.state) == (lost.id, State.LOST)
    assert "it ended while nobody looked, and was forgotten" in (ended.reason or "")
    assert world.outside.jobs() == {}


async def test_given_a_place_that_did_not_answer_for_a_while_then_nothing_is_started(world: World) -> None:
    run = await running(world)
    world.outside.be_reachable(False)
    await world.ticks(5)
    world.outside.be_reachable(True)
    await world.ticks(3)

    assert ((await world.newest()).id, (await world.newest()).state) == (run.id, State.RUNNING)
    assert world.outside.ever() == 1


async def test_given_another_place_at_the_address_when_the_first_is_back_in_time_then_its_job_is_taken_again(
    world: World,
) -> None:
    world.outside.has_slots(4)
    run = await running(world, slots=2)
    world.outside.restart()
    world.outside.has_slots(0)  # the other one has no room, so the run that is to go on waits
    await world.ticks(4)
    waiting = await world.newest()
    assert (waiting.state, waiting.predecessor_id) == (State.CREATED, run.id)
    assert "no TaskManager is there" in (waiting.reason or "")
    world.outside.returns_to(1)
    world.outside.has_slots(4)
    await world.ticks(3)

    adopted, lost = await world.newest(), await world.now(run)
    assert (adopted.id, adopted.state, adopted.external_id) == (waiting.id, State.RUNNING, run.external_id)
    assert (lost.state, lost.external_id) == (State.LOST, waiting.external_id)
    assert world.outside.ever() == 1
    assert (
        f"outside knows the job of run {run.id} again, which goes on in this run; nothing was started"
        in await world.told(adopted, "state")
    )
    world.outside.restart()  # and is looked after like any other
    await world.ticks(4)
    third = await world.newest()
    assert (third.state, third.spec["restore"]) == (State.RUNNING, "/checkpoints/chk-7")


async def test_given_a_lost_job_that_is_back_and_holds_all_slots_then_its_stand_in_takes_it_and_waits_no_more(
    world: World,
) -> None:
    world.outside.has_slots(2)
    run = await running(world, slots=2)
    world.outside.restart()
    world.outside.has_slots(0)
    await world.ticks(4)
    world.outside.returns_to(1)
    world.outside.has_slots(2)
    await world.ticks(3)

    adopted = await world.newest()
    assert (adopted.state, adopted.external_id) == (State.RUNNING, run.external_id)
    assert world.outside.ever() == 1


async def asked_to_restart(world: World, **spec: Any) -> None:
    """A restart is asked for, and the job cannot be stopped."""
    world.outside.fail_stops("the line is bad")
    async with world.database.write() as session:
        await request_restart(session, "job:1", spec)
    await world.ticks()


@pytest.mark.parametrize("end", [State.LOST, State.FAILED])
async def test_given_a_restart_of_a_job_that_ends_before_a_checkpoint_was_noted_then_its_newest_one_is_looked_for(
    world: World, end: State
) -> None:
    run = await running(world, version=1)  # its checkpoint is there, and was not noted
    await asked_to_restart(world, version=2)
    if end is State.LOST:
        world.outside.restart()
    else:
        world.outside.becomes(Seen.FAILED)
    await world.ticks(4)

    after = await world.newest()
    assert ((await world.now(run)).state, after.predecessor_id, after.state) == (end, run.id, State.RUNNING)
    assert (after.spec["version"], after.spec["restore"]) == (2, "/checkpoints/chk-7")


async def test_given_a_restart_of_a_job_that_is_lost_without_any_state_then_that_is_said(world: World) -> None:
    await running(world, None, version=1)
    await asked_to_restart(world, version=2)
    world.outside.restart()
    await world.ticks(4)

    after = await world.newest()
    assert after.state is State.FAILED
    assert (after.reason or "").startswith("Not started again: there is no state to go on from.")


async def test_given_a_restart_of_a_job_that_seems_lost_when_it_is_back_then_it_goes_on_as_before(world: World) -> None:
    world.outside.has_slots(2)
    run = await running(world, slots=2, version=1)
    await world.change(run, checkpoint="/checkpoints/chk-7")
    await asked_to_restart(world, version=2, queue={"place": "outside", "slots": 2})
    world.outside.restart()
    world.outside.has_slots(0)
    await world.ticks(4)
    waiting = await world.newest()
    assert (waiting.state, waiting.spec["version"]) == (State.CREATED, 2)
    world.outside.returns_to(1)
    world.outside.has_slots(2)
    await world.ticks(3)

    adopted = await world.newest()
    assert (adopted.state, adopted.external_id, adopted.spec["version"]) == (State.RUNNING, run.external_id, 1)
    assert world.outside.ever() == 1


async def test_given_a_job_that_is_back_and_has_ended_then_that_is_the_end_of_it(world: World) -> None:
    world.outside.has_slots(4)
    run = await running(world, slots=2)
    world.outside.restart()
    world.outside.has_slots(0)
    await world.ticks(4)
    world.outside.returns_to(1)
    world.outside.has_slots(4)
    world.outside.becomes(Seen.CANCELED)
    await world.ticks(3)

    ended = await world.newest()
    assert (ended.state, ended.predecessor_id) == (State.CANCELED, run.id)
    assert world.outside.ever() == 1


async def lost_for_good(world: World, **spec: Any) -> Run:
    """A run that was lost, and that nobody starts again."""
    run = await running(world, policy={"of": []}, **spec)
    world.outside.restart()
    await world.ticks(3)
    return run


async def looked_for(world: World, run: Run) -> None:
    """Its time has come to be looked for, and it was."""
    await world.change(run, look_again_at=0)
    await world.ticks()


async def test_given_a_lost_job_that_nobody_started_again_when_it_is_back_then_it_goes_on_in_a_run_of_its_own(
    world: World,
) -> None:
    run = await lost_for_good(world, slots=2)
    assert (await world.newest()).state is State.LOST
    await looked_for(world, run)
    assert ((await world.now(run)).look_again_at or 0) > 0, "it is not there yet, and looked for again"
    world.outside.returns_to(1)
    await looked_for(world, run)

    found, lost = await world.newest(), await world.now(run)
    assert (found.state, found.external_id, found.predecessor_id) == (State.RUNNING, run.external_id, run.id)
    assert (lost.state, lost.look_again_at) == (State.LOST, None)
    assert await world.told(found, "created") == [f"the job of run {run.id}, which was lost, is there again"]
    assert world.outside.ever() == 1
    await world.stop()
    await world.ticks(3)
    assert (await world.newest()).state is State.CANCELED


async def test_given_a_lost_job_that_is_back_and_has_ended_then_that_is_told(world: World) -> None:
    run = await lost_for_good(world)
    world.outside.returns_to(1)
    world.outside.becomes(Seen.FINISHED)
    await looked_for(world, run)

    assert ((await world.newest()).state, (await world.newest()).predecessor_id) == (State.FINISHED, run.id)


async def test_given_a_lost_job_that_comes_back_beside_the_one_that_stands_in_for_it_then_it_is_canceled(
    world: World,
) -> None:
    run = await running(world)
    world.outside.restart()
    await world.ticks(4)
    stand_in = await world.newest()
    assert stand_in.state is State.RUNNING
    world.outside.take(run.external_id, Seen.RUNNING)  # its cluster has recovered it late
    await looked_for(world, run)
    await looked_for(world, run)

    assert world.outside.jobs() == {run.external_id: "CANCELED", stand_in.external_id: "RUNNING"}
    assert ((await world.newest()).id, (await world.newest()).state) == (stand_in.id, State.RUNNING)
    assert (await world.now(run)).look_again_at is None
    assert await world.told(run, "canceled") == [
        f"its job is there again as RUNNING, beside run {stand_in.id}, and is not wanted any more: canceled"
    ]


async def test_given_a_lost_job_that_was_to_stop_when_it_is_back_then_it_is_canceled(world: World) -> None:
    run = await running(world)
    world.outside.fail_stops("disk full")
    await world.stop(mode=StopMode.SAVEPOINT)
    await world.ticks()
    world.outside.restart()
    await world.ticks(4)
    world.outside.returns_to(1)
    await looked_for(world, run)

    assert world.outside.jobs() == {run.external_id: "CANCELED"}
    assert (await world.newest()).id == run.id


async def test_given_a_lost_job_whose_subject_is_gone_when_it_is_back_then_it_is_canceled(world: World) -> None:
    run = await lost_for_good(world)
    async with world.database.write() as session:
        await want_no_more(session, "job:1")
    world.outside.returns_to(1)
    await looked_for(world, run)

    assert world.outside.jobs() == {run.external_id: "CANCELED"}
    assert (await world.newest()).id == run.id


async def test_given_a_run_that_was_lost_long_ago_then_it_is_not_looked_for_any_more(world: World) -> None:
    run = await lost_for_good(world)
    await world.change(run, ended_at=1)
    world.outside.returns_to(1)
    await looked_for(world, run)

    assert ((await world.newest()).id, (await world.now(run)).look_again_at) == (run.id, None)


async def test_given_a_run_that_is_lost_again_and_again_then_it_is_given_up_and_says_what_was_tried(
    world: World,
) -> None:
    await running(world)
    for _ in range(5):
        world.outside.restart()
        await world.ticks(4)
        world.outside.has_state((await world.newest()).external_id, "/checkpoints/chk-7")

    given_up = await world.newest()
    assert (given_up.state, given_up.recovery) == (State.LOST, 3)
    assert (given_up.reason or "").endswith(
        "Not started again: that was done 3 times within 10 min. Find out what ends it, then restart the job"
    )
    assert await world.told(given_up, "recovery") == [
        "goes on from /checkpoints/chk-7, which is whole.",
        "Not started again: that was done 3 times within 10 min. Find out what ends it, then restart the job",
    ]
    assert world.outside.jobs() == {}


async def test_given_attempts_of_long_ago_then_they_do_not_count(world: World) -> None:
    await running(world)
    for _ in range(4):
        world.outside.restart()
        await world.ticks(4)
        after = await world.newest()
        world.outside.has_state(after.external_id, "/checkpoints/chk-7")
        await world.change(after, created_at=now_ms() - 601_000)

    assert ((await world.newest()).state, (await world.newest()).recovery) == (State.RUNNING, 1)


async def test_given_a_second_attempt_then_it_waits_out_its_pause(world: World) -> None:
    world.supervisor = world.replica("patient", pause_s=30)
    await running(world)
    for _ in range(2):
        world.outside.restart()
        await world.ticks(4)
        world.outside.has_state((await world.newest()).external_id, "/checkpoints/chk-7")

    second = await world.newest()
    assert (second.state, second.recovery) == (State.CREATED, 2)
    assert "attempt 2 of 3 within 10 min, after a pause of 30 s" in (await world.told(second, "created"))[0]
    await world.change(second, not_before=now_ms() - 1)
    await world.ticks(2)
    assert (await world.newest()).state is State.RUNNING


def test_pauses_grow() -> None:
    assert [Budget().pause_before(attempt) for attempt in (1, 2, 3, 4, 5)] == [0, 5, 10, 20, 40]


async def test_given_a_broken_checkpoint_then_an_older_whole_state_is_taken_and_that_is_said(world: World) -> None:
    lost = await running(world, None)
    world.outside.has_state(lost.external_id, "/savepoints/old")
    world.outside.has_state(lost.external_id, "/savepoints/new", complete=False)
    world.outside.has_state(lost.external_id, "/checkpoints/chk-7", complete=False)
    async with world.database.write() as session:
        for path in ("/savepoints/old", "/savepoints/new"):
            session.add(
                Savepoint(
                    run_id=lost.id,
                    subject=lost.subject,
                    token=path[-3:],
                    purpose=Purpose.REQUEST,
                    state=SavepointProgress.COMPLETED,
                    path=path,
                    verified_at=1,
                )
            )
            await session.flush()
    world.outside.restart()
    await world.ticks(4)

    after = await world.newest()
    assert (after.state, after.spec["restore"]) == (State.RUNNING, "/savepoints/old")
    assert await world.told(after, "recovery") == [
        "goes on from /savepoints/old, which is whole. Not usable: /checkpoints/chk-7: a file is missing; "
        "/savepoints/new: a file is missing."
    ]


async def test_given_a_state_that_only_the_cluster_sees_then_it_is_taken_unseen(world: World) -> None:
    lost = await running(world, None)
    world.outside.has_state(lost.external_id, "s3://bucket/chk-7", complete=None)
    world.outside.restart()
    await world.ticks(4)

    after = await world.newest()
    assert after.spec["restore"] == "s3://bucket/chk-7"
    assert await world.told(after, "recovery") == [
        "goes on from s3://bucket/chk-7, which cannot be looked into from here."
    ]


async def test_given_no_state_then_it_is_not_started_unless_the_policy_says_so(world: World) -> None:
    await running(world, None)
    world.outside.restart()
    await world.ticks(4)

    ended = await world.newest()
    assert (ended.state, ended.recovery) == (State.FAILED, 1)
    assert ended.reason == (
        "Not started again: there is no state to go on from. Run it anew, or from a savepointPath; "
        "recoverWithoutState 1 has that done by itself"
    )
    assert world.outside.jobs() == {}


async def test_given_no_state_and_a_policy_that_says_so_then_it_starts_anew(world: World) -> None:
    await running(world, None, policy={"without_state": True})
    world.outside.restart()
    await world.ticks(4)

    after = await world.newest()
    assert (after.state, after.spec["restore"]) == (State.RUNNING, None)
    assert await world.told(after, "recovery") == [
        "starts anew, without state, as its policy says: there is none to go on from."
    ]


async def test_given_a_run_without_a_checkpoint_of_its_own_then_what_it_went_on_from_is_taken(world: World) -> None:
    lost = await running(world, None, restore="/savepoints/first")
    world.outside.has_state(lost.external_id, "/savepoints/first")
    world.outside.restart()
    await world.ticks(4)

    assert (await world.newest()).spec["restore"] == "/savepoints/first"


@pytest.mark.parametrize(("of", "end"), [(["LOST"], State.FAILED), (["LOST", "FAILED"], State.RUNNING)])
async def test_given_a_run_that_failed_then_it_is_started_again_only_when_the_policy_says_so(
    world: World, of: list[str], end: State
) -> None:
    failed = await running(world, policy={"of": of})
    world.outside.becomes(Seen.FAILED)
    await world.ticks(4)

    newest = await world.newest()
    assert (newest.state, newest.id != failed.id) == (end, end is State.RUNNING)


async def test_given_a_refused_submission_then_it_is_not_tried_again(world: World) -> None:
    run = await world.submit(recovery={"of": ["LOST", "FAILED"]}, refuse="no such table")
    await world.ticks(3)

    assert ((await world.newest()).id, (await world.newest()).state) == (run.id, State.FAILED)


@pytest.mark.parametrize("of", [["LOST"], ["LOST", "FAILED"]])
async def test_given_a_stand_in_that_is_refused_then_the_job_that_ran_is_tried_again_until_that_was_too_often(
    world: World, of: list[str]
) -> None:
    lost = await running(world, policy={"of": of})
    await world.change(lost, spec={**lost.spec, "refuse": "the disk is full"})
    world.outside.restart()
    await world.ticks(12)

    given_up = await world.newest()
    assert (given_up.state, given_up.recovery) == (State.FAILED, 3)
    assert given_up.reason == (
        "the disk is full. "
        "Not started again: that was done 3 times within 10 min. Find out what ends it, then restart the job"
    )


async def test_given_a_stand_in_whose_submission_fails_for_a_while_then_the_job_that_ran_runs_again(
    world: World,
) -> None:
    lost = await running(world)
    await world.change(lost, spec={**lost.spec, "refuse": "the disk is full"})
    world.outside.restart()
    while (stand_in := await world.newest()).recovery != 2:
        assert stand_in.state is not State.FAILED or stand_in.recovery is None
        await world.ticks()
    await world.change(stand_in, spec={name: value for name, value in stand_in.spec.items() if name != "refuse"})
    await world.ticks(4)

    after = await world.newest()
    assert (after.state, after.recovery, after.spec["restore"]) == (State.RUNNING, 2, "/checkpoints/chk-7")


def test_the_pause_before_an_attempt_grows_to_a_minute_and_no_further() -> None:
    budget = Budget(most=1000)

    assert [budget.pause_before(attempt) for attempt in (1, 2, 3, 4, 5, 6, 1000)] == [0, 5, 10, 20, 40, 60, 60]


async def test_given_a_run_that_is_being_stopped_when_it_is_lost_then_it_stays_so(world: World) -> None:
    run = await running(world)
    world.outside.fail_stops("disk full")
    await world.stop(mode=StopMode.SAVEPOINT)
    await world.ticks()
    world.outside.restart()
    await world.ticks(4)

    assert ((await world.newest()).id, (await world.newest()).state) == (run.id, State.LOST)


async def test_given_a_cut_off_submission_to_a_place_that_was_restarted_then_its_copy_waits_until_none_can_arrive(
    world: World,
) -> None:
    world.supervisor = world.replica("careful", grace_s=60)
    run = await world.submit(recovery={**RECOVERY, "without_state": True}, cut_off="the planner died")
    await world.ticks()
    world.outside.restart()
    await world.ticks(2)

    lost, after = await world.now(run), await world.newest()
    assert (lost.state, after.state) == (State.LOST, State.CREATED)
    assert after.not_before is not None
    assert lost.submitted_at is not None
    assert after.not_before - lost.submitted_at == 60_000
    # It does arrive, by somebody who was believed to be dead: then it is that one that goes on.
    world.outside.take(run.external_id, Seen.RUNNING)
    await world.change(after, not_before=now_ms() - 1)
    await world.ticks(2)
    adopted = await world.newest()
    assert (adopted.id, adopted.state, adopted.external_id) == (after.id, State.RUNNING, run.external_id)
    assert list(world.outside.jobs()) == [run.external_id]


async def test_given_a_lost_run_when_it_is_canceled_before_it_goes_on_then_nothing_is_started(world: World) -> None:
    world.outside.has_slots(4)
    await running(world, slots=2)
    world.outside.restart()
    world.outside.has_slots(0)
    await world.ticks(4)
    await world.stop()
    world.outside.has_slots(4)
    await world.ticks(3)

    assert (await world.newest()).state is State.CANCELED
    assert world.outside.jobs() == {}


async def test_given_two_replicas_then_a_lost_run_is_started_again_once(world: World) -> None:
    lost = await running(world)
    other = world.replica("other")
    world.outside.restart()
    for _ in range(4):
        await asyncio.gather(world.supervisor.tick(), other.tick())
        await asyncio.gather(world.supervisor.settled(), other.settled())

    after = await world.newest()
    assert world.outside.jobs() == {after.external_id: "RUNNING"}
    async with world.database.read() as session:
        runs = (await session.exec(select(Run.id).where(Run.subject == "job:1").order_by(Run.id))).all()
    assert runs == [lost.id, after.id]


# Done by others


class Telling(OutsideRunner):
    """Also tells of the newest savepoint."""

    savepoint_there: str | None = None
    stopped = False

    async def observe(self, runs: Any) -> Any:
        return {
            run_id: Observation(
                seen.seen,
                seen.raw,
                incarnation=seen.incarnation,
                latest_savepoint=self.savepoint_there,
                stopped_by_savepoint=self.stopped,
            )
            for run_id, seen in (await super().observe(runs)).items()
        }


@pytest.fixture
def telling(world: World) -> Telling:
    made = Telling(world.outside)
    world.supervisor.register("test", made)
    return made


async def kept(world: World) -> list[Savepoint]:
    async with world.database.read() as session:
        return list((await session.exec(select(Savepoint).order_by(Savepoint.id))).all())


async def test_given_a_job_that_is_canceled_elsewhere_then_that_is_said_and_it_is_not_started_again(
    world: World,
) -> None:
    run = await running(world)
    world.outside.becomes(Seen.CANCELED)
    await world.ticks(3)

    ended = await world.newest()
    assert (ended.id, ended.state) == (run.id, State.CANCELED)
    assert ended.reason == ("Canceled outside of this service: on the page of outside, or by another client of it")
    assert ended.reason in await world.told(run, "state")


async def test_given_a_job_that_is_stopped_elsewhere_with_a_savepoint_then_that_is_found_and_entered(
    world: World, telling: Telling
) -> None:
    run = await running(world)
    world.outside.becomes(Seen.FINISHED)
    await world.ticks()
    assert (await world.newest()).state is State.FINISHED
    assert await kept(world) == []
    telling.savepoint_there, telling.stopped = "/elsewhere/savepoint-1", True  # its answer was from a cache
    await world.change(run, look_again_at=now_ms() - 1)
    await world.ticks(3)

    ended, (made,) = await world.newest(), await kept(world)
    assert (ended.id, ended.savepoint, ended.look_again_at) == (run.id, "/elsewhere/savepoint-1", None)
    assert ended.reason == "Stopped with a savepoint outside of this service: /elsewhere/savepoint-1"
    assert (made.purpose, made.state, made.path, made.verified) == (
        Purpose.OUTSIDE, SavepointProgress.COMPLETED, "/elsewhere/savepoint-1", True
    )  # fmt: skip


async def test_given_a_savepoint_that_is_made_elsewhere_then_it_is_entered_once_and_ours_are_not(
    world: World, telling: Telling
) -> None:
    run = await running(world)
    telling.savepoint_there = "/elsewhere/savepoint-1"
    await world.ticks(3)
    assert [(one.purpose, one.path) for one in await kept(world)] == [(Purpose.OUTSIDE, "/elsewhere/savepoint-1")]
    async with world.database.write() as session:
        session.add(Savepoint(run_id=run.id, subject=run.subject, token="f" * 32, purpose=Purpose.STOP))
    telling.savepoint_there = f"/savepoints/{'f' * 32}/savepoint-2"
    await world.ticks(2)

    assert len(await kept(world)) == 2
    assert (await world.newest()).state is State.RUNNING
