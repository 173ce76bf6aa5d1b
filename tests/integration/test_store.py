"""The supervisor's SQL, on SQLite and on PostgreSQL: the same tests."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database import Database, now_ms
from app.errors import Conflict
from app.ids import Node, NodeLease, new_id
from app.migrations import migrate
from app.settings import Settings
from app.supervisor import (
    Event,
    Purpose,
    Retained,
    Run,
    Savepoint,
    SavepointProgress,
    State,
    StopMode,
    active_run,
    create_run,
    history,
    latest_runs,
    request_stop,
)
from app.supervisor.looks import Looks
from app.supervisor.retention import DAY_MS, Retention, hold_savepoint
from app.supervisor.runners.base import Observation
from app.supervisor.schedules import fire_due, set_schedule
from app.supervisor.store import Store, census, events, is_changed
from app.supervisor.transitions import ENDED, Desired, Seen
from stream_jobs.local.endpoints import Endpoints
from tests.databases import postgres_schema

LEASE_S = 30.0


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/hlink.db"
    else:
        endpoints: Endpoints = request.getfixturevalue("endpoints")
        with postgres_schema(endpoints.postgres) as address:
            yield address


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(Settings.model_validate({"database_url": url}).database())
    await migrate(opened)
    await NodeLease(opened).claim()
    yield opened
    await opened.close()


async def created(database: Database, subject: str = "job:1") -> Run:
    async with database.write() as session:
        return await create_run(session, "test", subject, {"place": "here"})


async def held(database: Database, subject: str = "job:1", owner: str = "me") -> tuple[Store, Run]:
    store = Store(database, owner, LEASE_S)
    run = await created(database, subject)
    [mine] = (await store.hold_one(run.id)).runs
    return store, mine


async def stored(database: Database, run: Run) -> Run:
    async with database.read() as session:
        return (await session.exec(select(Run).where(Run.id == run.id))).one()


async def told(database: Database, run: Run) -> list[Event]:
    async with database.read() as session:
        return list(await events(session, run.id))


# Writing runs down


async def test_given_an_active_run_when_a_second_one_is_created_then_that_is_a_conflict_and_the_transaction_goes_on(
    database: Database,
) -> None:
    first = await created(database)
    async with database.write() as session:
        with pytest.raises(Conflict, match="already has a run"):
            await create_run(session, "test", "job:1", {})
        await create_run(session, "test", "job:2", {})

    async with database.read() as session:
        one, two = await active_run(session, "job:1"), await active_run(session, "job:2")
    assert one is not None
    assert one.id == first.id
    assert two is not None


async def test_given_an_ended_run_then_the_subject_may_have_a_new_one_with_another_external_id(
    database: Database,
) -> None:
    store, run = await held(database)
    await store.move(run, State.CANCELED, "over")
    again = await created(database)

    assert again.external_id != run.external_id
    async with database.read() as session:
        assert [one.id for one in await history(session, "job:1")] == [again.id, run.id]
        assert (await latest_runs(session, ["job:1", "job:none"])) == {"job:1": again}


async def test_the_database_itself_refuses_a_second_active_run(database: Database) -> None:
    await created(database)
    with pytest.raises(IntegrityError):
        async with database.write() as session:
            session.add(Run(kind="test", subject="job:1", spec={}, external_id="f" * 32))


async def test_the_database_itself_refuses_an_end_without_its_time(database: Database) -> None:
    run = await created(database)
    with pytest.raises(IntegrityError):
        async with database.write() as session:
            await session.exec(update(Run).where(col(Run.id) == run.id).values(state=State.FAILED))


async def test_given_a_transaction_that_is_rolled_back_then_there_is_no_run(database: Database) -> None:
    async def fail_half_way() -> None:
        async with database.write() as session:
            await create_run(session, "test", "job:1", {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_half_way()

    async with database.read() as session:
        assert await active_run(session, "job:1") is None


# Transitions


@pytest.mark.parametrize("end", sorted(ENDED))
async def test_given_an_end_then_no_transition_changes_it(database: Database, end: State) -> None:
    store, run = await held(database)
    submitting = await store.move(run, State.SUBMITTING)
    assert submitting is not None
    ended = await store.move(submitting, end, "over")
    assert ended is not None

    assert [await store.move(ended, target) for target in State] == [None] * len(State)
    assert (await stored(database, run)).reason == "over"


async def test_given_two_who_move_the_same_run_then_one_of_them_is_told_that_it_was_late(database: Database) -> None:
    store, run = await held(database)
    moved = await asyncio.gather(*(store.move(run, State.SUBMITTING) for _ in range(8)))

    assert sum(one is not None for one in moved) == 1
    assert [event.what for event in await told(database, run)] == ["created", "state"]


async def test_given_somebody_else_who_holds_the_run_then_nothing_is_changed(database: Database) -> None:
    _, run = await held(database, owner="other")
    store = Store(database, "me", LEASE_S)

    assert await store.move(run, State.SUBMITTING) is None
    assert await store.note(run, "note", "x", reason="x") is None
    assert await store.record(run, Observation(Seen.RUNNING, "RUNNING"), "here") is None
    assert (await stored(database, run)).state is State.CREATED


async def test_given_a_transition_then_its_event_says_what_who_and_why(database: Database) -> None:
    store, run = await held(database)
    await store.move(run, State.FAILED, "no such table")

    event = (await told(database, run))[-1]
    assert (event.what, event.state, event.message, event.by) == ("state", State.FAILED, "no such table", "me")


async def test_given_an_end_then_its_time_is_set_and_the_lease_is_gone(database: Database) -> None:
    store, run = await held(database)
    ended = await store.move(run, State.CANCELED)

    assert ended is not None
    assert ended.ended_at is not None
    assert abs(ended.ended_at - time.time() * 1000) < 60_000
    assert (ended.lease_owner, ended.lease_until) == (None, None)


# Stop requests


async def test_given_a_stop_request_then_state_and_desire_stay_apart(database: Database) -> None:
    _, run = await running(database)
    async with database.write() as session:
        asked = await request_stop(session, "job:1", StopMode.SAVEPOINT)

    assert asked is not None
    assert (asked.id, asked.state, asked.desired, asked.stop_mode) == (
        run.id,
        State.RUNNING,
        Desired.STOPPED,
        StopMode.SAVEPOINT,
    )


async def test_given_nothing_that_runs_then_a_stop_request_finds_nothing(database: Database) -> None:
    async with database.write() as session:
        assert await request_stop(session, "job:none", StopMode.CANCEL) is None


async def test_given_a_stop_request_when_it_is_repeated_then_it_is_told_once(database: Database) -> None:
    run = await created(database)
    for _ in range(3):
        async with database.write() as session:
            await request_stop(session, "job:1", StopMode.SAVEPOINT)

    assert [event.what for event in await told(database, run)] == ["created", "stop requested"]


async def test_given_a_cancel_when_a_gentler_stop_is_asked_for_then_that_is_a_conflict(database: Database) -> None:
    await running(database)
    async with database.write() as session:
        await request_stop(session, "job:1", StopMode.CANCEL)
    with pytest.raises(Conflict, match="already being stopped"):
        async with database.write() as session:
            await request_stop(session, "job:1", StopMode.SAVEPOINT)


async def test_given_a_stop_attempt_when_a_cancel_is_asked_for_then_its_savepoint_may_still_come(
    database: Database,
) -> None:
    store, run = await running(database)
    async with database.write() as session:
        await request_stop(session, "job:1", StopMode.SAVEPOINT)
    attempt = await store.begin_stop(run)
    assert attempt is not None
    assert attempt.stop_token is not None
    async with database.write() as session:
        canceled = await request_stop(session, "job:1", StopMode.CANCEL)

    assert canceled is not None
    assert (canceled.stop_mode, canceled.stop_token) == (StopMode.CANCEL, attempt.stop_token)


async def test_given_a_stop_request_then_a_submission_is_not_begun_any_more(database: Database) -> None:
    store, run = await held(database)
    submitting = await store.move(run, State.SUBMITTING)
    async with database.write() as session:
        await request_stop(session, "job:1", StopMode.CANCEL)

    assert submitting is not None
    assert await store.begin_submission(submitting, "life 1") is None


async def test_given_a_run_that_is_still_being_started_then_a_stop_request_is_for_an_end_at_once(
    database: Database,
) -> None:
    run = await created(database)
    async with database.write() as session:
        asked = await request_stop(session, "job:1", StopMode.DRAIN)

    assert asked is not None
    assert (asked.id, asked.stop_mode) == (run.id, StopMode.CANCEL)


# Savepoints


async def saved(database: Database, run: Run, *, days_old: int = 0) -> Savepoint:
    savepoint = Savepoint(
        run_id=run.id,
        subject=run.subject,
        token=secrets.token_hex(16),
        purpose=Purpose.REQUEST,
        state=SavepointProgress.COMPLETED,
        verified=True,
    )
    savepoint.path = f"file:/savepoints/{savepoint.token}/savepoint-1"
    savepoint.ended_at = int(time.time() * 1000) - days_old * DAY_MS
    async with database.write() as session:
        session.add(savepoint)
    return savepoint


async def states(database: Database) -> list[SavepointProgress]:
    async with database.read() as session:
        return list((await session.exec(select(Savepoint.state).order_by(col(Savepoint.id)))).all())


async def test_given_many_replicas_when_a_savepoint_is_due_then_one_of_them_asks_for_it(database: Database) -> None:
    await running(database)
    async with database.write() as session:
        schedule = await set_schedule(session, "job:1", "0 * * * *")
        schedule.next_at = 1
    fired = await asyncio.gather(*(fire_due(database, f"replica {number}") for number in range(8)))

    assert sum(fired) == 1
    assert await states(database) == [SavepointProgress.PENDING]


@pytest.mark.parametrize("limits", [Retained(most=1), Retained(days=5)], ids=str)
async def test_given_many_replicas_when_savepoints_are_surplus_then_each_is_condemned_and_the_newest_stays(
    database: Database, limits: Retained
) -> None:
    _, run = await running(database)
    for days in (30, 20, 10):
        await saved(database, run, days_old=days)
    await asyncio.gather(*(Retention(database, f"r{n}", {}, limits, 0).turn() for n in range(5)))

    assert await states(database) == [SavepointProgress.REMOVING] * 2 + [SavepointProgress.COMPLETED]


async def test_given_a_run_that_is_just_being_started_from_a_savepoint_then_that_is_not_removed_meanwhile(
    database: Database,
) -> None:
    _, run = await running(database)
    old, _ = await saved(database, run), await saved(database, run)
    async with database.write() as session:
        await hold_savepoint(session, "job:1", old.id)
        trimming = asyncio.create_task(Retention(database, "me", {}, Retained(most=1), 0).turn())
        await asyncio.sleep(0.3)
        await create_run(session, "test", "job:2", {"restore": old.path})
    await trimming

    assert await states(database) == [SavepointProgress.COMPLETED] * 2


# Leases


async def test_given_a_held_run_then_nobody_else_gets_it_until_the_lease_ends(database: Database) -> None:
    run = await created(database)
    one, two = Store(database, "one", 2.0), Store(database, "two", 2.0)

    assert [mine.id for mine in (await one.hold()).runs] == [run.id]
    assert (await two.hold()).runs == []
    await asyncio.sleep(2.1)
    assert [mine.lease_owner for mine in (await two.hold()).runs] == ["two"]
    assert (await one.hold()).runs == []
    assert [event.what for event in await told(database, run)] == ["created", "taken over"]


async def test_given_a_replica_that_keeps_holding_then_its_lease_does_not_end(database: Database) -> None:
    await created(database)
    one, two = Store(database, "one", 2.0), Store(database, "two", 2.0)
    for _ in range(8):
        assert len((await one.hold()).runs) == 1
        await asyncio.sleep(0.4)

    assert (await two.hold()).runs == []


async def test_given_released_leases_then_others_need_not_wait(database: Database) -> None:
    await created(database)
    one, two = Store(database, "one", LEASE_S), Store(database, "two", LEASE_S)
    await one.hold()
    await one.release()

    assert len((await two.hold()).runs) == 1


async def test_given_many_replicas_that_claim_at_once_then_each_run_has_one_holder(database: Database) -> None:
    for number in range(20):
        await created(database, f"job:{number}")
    stores = [Store(database, f"replica {number}", LEASE_S) for number in range(5)]
    claims = await asyncio.gather(*(store.hold() for store in stores))

    ids = [run.id for claim in claims for run in claim.runs]
    assert len(ids) == len(set(ids)) == 20


async def test_given_an_ended_run_then_nobody_holds_it(database: Database) -> None:
    store, run = await held(database)
    await store.move(run, State.CANCELED)

    assert (await store.hold()).runs == []
    assert (await store.hold_one(run.id)).runs == []


# Observations


async def running(database: Database) -> tuple[Store, Run]:
    store, run = await held(database)
    submitting = await store.move(run, State.SUBMITTING)
    assert submitting is not None
    recorded = await store.record(submitting, Observation(Seen.RUNNING, "RUNNING", tasks_total=4), "here")
    assert recorded is not None
    return store, recorded


async def test_given_an_observation_then_it_says_what_when_and_from_where(database: Database) -> None:
    _, run = await running(database)

    assert (run.state, run.observed, run.observed_from, run.tasks_total) == (State.RUNNING, "RUNNING", "here", 4)
    assert run.observed_at is not None
    assert run.started_at is not None


async def test_given_the_same_observation_again_then_it_is_not_a_change(database: Database) -> None:
    _, run = await running(database)

    assert not is_changed(run, Observation(Seen.RUNNING, "RUNNING", tasks_total=4))
    assert not is_changed(run, Observation(Seen.RUNNING, "RUNNING"))
    assert is_changed(run, Observation(Seen.RUNNING, "RUNNING", checkpoint="/chk-2"))


async def test_given_a_new_checkpoint_then_it_is_kept_without_an_event(database: Database) -> None:
    store, run = await running(database)
    before = len(await told(database, run))
    recorded = await store.record(run, Observation(Seen.RUNNING, "RUNNING", checkpoint="/chk-2"), "here")

    assert recorded is not None
    assert recorded.checkpoint == "/chk-2"
    assert len(await told(database, run)) == before


async def shown(database: Database, subject: str = "job:1") -> Run:
    async with database.read() as session:
        return (await latest_runs(session, [subject]))[subject]


async def test_given_unchanged_runs_then_only_the_time_of_the_observation_moves(database: Database) -> None:
    store, run = await running(database)
    await asyncio.sleep(0.01)
    await store.record_look("here", [run], [])

    after = await shown(database)
    assert after.observed_at is not None
    assert run.observed_at is not None
    assert after.observed_at > run.observed_at
    looks = {"observed_at", "look_id", "revision"}
    assert after.model_dump(exclude=looks) == run.model_dump(exclude=looks)


async def test_given_looks_that_find_nothing_new_then_the_runs_themselves_are_not_written(database: Database) -> None:
    store, _ = await running(database)
    [run] = (await store.hold()).runs
    await store.record_look("here", [run], [])
    [named] = (await store.hold()).runs
    before = await stored(database, run)
    await asyncio.sleep(0.01)
    await store.record_look("here", [named], [])

    assert (await stored(database, run)).model_dump() == before.model_dump()
    [again] = (await store.hold()).runs
    assert again is named, "what was not changed is not read again"
    seen = await shown(database)
    assert (seen.observed_at or 0) > (before.observed_at or 0)


async def test_given_a_run_that_a_look_does_not_confirm_then_it_was_last_seen_at_the_look_before(
    database: Database,
) -> None:
    store, run = await running(database)
    await store.record_look("here", [run], [])
    [named] = (await store.hold()).runs
    await asyncio.sleep(0.01)
    await store.record_look("here", [named], [])
    confirmed = (await shown(database)).observed_at
    await asyncio.sleep(0.01)
    await store.record_look("here", [], [named])
    await asyncio.sleep(0.01)
    await store.record_look("here", [], [])

    left = await shown(database)
    assert (left.observed_at, left.look_id) == (confirmed, None)


async def test_given_a_run_that_another_replica_took_over_then_it_tells_when_the_first_one_looked(
    database: Database,
) -> None:
    first, run = await running(database)
    await first.record_look("here", [run], [])
    confirmed = (await shown(database)).observed_at
    await first.release()
    other = await created(database, "job:2")
    second = Store(database, "other", LEASE_S)
    taken = {one.subject: one for one in (await second.hold()).runs}
    await asyncio.sleep(0.01)
    await second.record_look("here", [taken[other.subject]], [taken[run.subject]])

    assert (await shown(database)).observed_at == confirmed
    await second.record_look("here", [taken[run.subject]], [])
    assert ((await shown(database)).observed_at or 0) > (confirmed or 0)


async def test_given_looks_that_end_at_the_same_time_then_they_share_a_transaction_and_a_failure_is_of_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run = await running(database)
    await store.record_look("here", [run], [])
    before = (await shown(database)).observed_at or 0
    await asyncio.sleep(0.01)
    [named] = (await store.hold()).runs
    begun, write, note = 0, database.write, Looks.note

    def counted() -> Any:
        nonlocal begun
        begun += 1
        return write()

    async def failing(self: Looks, session: AsyncSession, place: str, *runs: Any) -> None:
        if place == "broken":
            raise ZeroDivisionError
        await note(self, session, place, *runs)

    monkeypatch.setattr(database, "write", counted)
    places = {f"place {number}": (list[Run](), list[Run]()) for number in range(8)} | {"here": ([named], [])}
    await asyncio.gather(*(store.record_look(place, *runs) for place, runs in places.items()))
    assert begun == 2, "that of the first look, and one for all that came meanwhile"
    assert ((await shown(database)).observed_at or 0) > before

    monkeypatch.setattr(Looks, "note", failing)
    answers = await asyncio.gather(
        *(store.record_look(place, [], []) for place in ("one", "broken", "two")), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [type(None), ZeroDivisionError, type(None)]


async def test_given_an_end_then_later_looks_do_not_make_it_newer(database: Database) -> None:
    store, run = await running(database)
    await store.record_look("here", [run], [])
    [named] = (await store.hold()).runs
    await store.record(named, Observation(Seen.FAILED, "FAILED"), "here")
    ended = (await shown(database)).observed_at
    await asyncio.sleep(0.01)
    await store.record_look("here", [], [])

    assert (await shown(database)).observed_at == ended


async def test_given_what_another_process_wrote_then_the_next_hold_has_it(database: Database) -> None:
    store, run = await running(database)
    assert [one.desired for one in (await store.hold()).runs] == [Desired.RUNNING]
    async with database.write() as session:
        await request_stop(session, run.subject, StopMode.CANCEL)

    assert [one.desired for one in (await store.hold()).runs] == [Desired.STOPPED]
    again = await created(database, "job:2")
    assert {one.id for one in (await store.hold()).runs} == {run.id, again.id}
    await Store(database, "me", LEASE_S).move(run, State.CANCELED)
    assert [one.id for one in (await store.hold()).runs] == [again.id]


async def test_given_a_lease_that_is_renewed_then_nothing_has_to_be_read_again(database: Database) -> None:
    store = Store(database, "me", LEASE_S)
    await created(database)
    [run] = (await store.hold()).runs
    async with database.write() as session:
        # Three quarters of the lease are over.
        await session.exec(update(Run).values(lease_until=now_ms() + LEASE_S * 250, revision=Run.revision))
    [again] = (await store.hold()).runs

    assert again is run
    assert (await stored(database, run)).lease_until > (run.lease_until or 0) - 1000  # type: ignore[operator]


async def test_given_a_run_of_one_machine_then_its_replicas_alone_take_it_until_the_machine_is_gone_for_good(
    database: Database,
) -> None:
    here, elsewhere = (Store(database, name, LEASE_S, machine=name) for name in ("here", "elsewhere"))
    async with database.write() as session:
        run = await create_run(session, "program", "program:1", {}, machine="here")

    assert (await elsewhere.hold()).runs == []
    assert [one.id for one in (await here.hold()).runs] == [run.id]
    await here.release()
    assert (await elsewhere.hold()).runs == []
    async with database.write() as session:
        await session.exec(update(Run).values(lease_owner="here", lease_until=now_ms() - 3_601_000))
    assert [one.id for one in (await elsewhere.hold()).runs] == [run.id]


async def test_given_a_recovery_then_the_first_start_stays_the_start(database: Database) -> None:
    store, run = await running(database)
    restarting = await store.record(run, Observation(Seen.RESTARTING, "RESTARTING", exception="it broke"), "here")
    assert restarting is not None
    again = await store.record(restarting, Observation(Seen.RUNNING, "RUNNING"), "here")

    assert again is not None
    assert (again.started_at, again.exception, again.reason) == (run.started_at, "it broke", None)


async def test_given_an_observation_that_is_older_than_a_transition_then_it_is_dropped(database: Database) -> None:
    store, run = await running(database)
    await store.move(run, State.STOPPING)

    assert await store.record(run, Observation(Seen.RESTARTING, "RESTARTING"), "here") is None


async def test_the_census_counts_runs_and_the_oldest_observation(database: Database) -> None:
    store, _ = await running(database)
    await held(database, "job:2")
    async with database.read() as session:
        found = await census(session)

    assert found.by_state == {State.RUNNING: 1, State.CREATED: 1}
    assert 0 <= found.oldest_observation_s < 60
    assert store.owner == "me"


# Ids


async def test_given_several_replicas_then_their_ids_never_meet(database: Database) -> None:
    ids: list[int] = []
    for _ in range(3):
        lease = NodeLease(database)
        await lease.claim()
        ids += [new_id() for _ in range(500)]

    assert len(set(ids)) == 1500
    assert max(ids) < 2**53


async def test_given_a_released_node_number_then_the_next_replica_may_have_it(database: Database) -> None:
    lease = NodeLease(database)
    await lease.claim()
    assert lease.generator is not None
    number = lease.generator.node
    await lease.release()
    await asyncio.sleep(0.05)
    other = NodeLease(database)
    await other.claim()

    assert other.generator is not None
    assert other.generator.node == number


async def test_given_a_stolen_node_number_when_the_lease_is_renewed_then_another_number_is_claimed(
    database: Database,
) -> None:
    lease = NodeLease(database)
    await lease.claim()
    assert lease.generator is not None
    number = lease.generator.node
    async with database.write() as session:
        node = (await session.exec(select(Node).where(col(Node.number) == number))).one()
        node.owner = "somebody else"
    await lease.renew()

    assert lease.generator.node != number


async def test_given_replicas_that_start_at_once_then_the_schema_is_made_once(url: str) -> None:
    opened = [Database(Settings.model_validate({"database_url": url}).database()) for _ in range(4)]
    await asyncio.gather(*map(migrate, opened))
    async with opened[0].read() as session:
        assert len((await session.exec(select(Node))).all()) == 32
    for database in opened:
        await database.close()
