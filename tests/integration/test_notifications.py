"""Notifications without a Flink: targets over HTTP, what is derived from events, and how it is sent; both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text, update
from sqlmodel import col, select

from app.database import now_ms
from app.hlink.answers import envelope
from app.hlink.jobs.models import StoredJob, subject_of
from app.hlink.notifications import reading, routes, troubles
from app.hlink.notifications import service as notifying
from app.hlink.notifications.delivery import PAUSES_S, Delivery
from app.hlink.notifications.judge import Judge
from app.hlink.notifications.models import Kind, Notification, Progress, Trouble
from app.hlink.watch.figures import Figures
from app.hlink.watch.jobs import Watched, watched
from app.ids import first_id_of
from app.service import Family, Service
from app.supervisor import Event, Run, State, create_run
from app.supervisor.store import Store
from stream_jobs.rest import Clusters
from tests.receivers import Webhook, webhook
from tests.services import Serve

FAMILY = Family("notifications", [routes.router], ["/notifications"], envelope)
"""Without its lifespan: the tests take the steps themselves."""
OVER = asyncio.Event()


class Bench:
    """The service, and short ways to what happens to jobs."""

    def __init__(self, client: httpx.AsyncClient, service: Service, hook: Webhook) -> None:
        self.client, self.service, self.hook = client, service, hook
        self.database = service.database
        self.store = Store(service.database, "test", 60)
        self.delivery = Delivery(service.database)
        service.parts[notifying.DELIVERY] = self.delivery
        self._jobs = 0

    async def call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = (await self.client.request(method, path, **request)).json()
        return answer

    async def target(self, name: str = "hook", **fields: Any) -> dict[str, Any]:
        answer = await self.call("POST", "/notifications", json={"name": name, "url": self.hook.url(), **fields})
        assert answer["success"], answer
        found: dict[str, Any] = answer["data"]
        return found

    async def job(self, name: str = "orders") -> int:
        async with self.database.write() as session:
            job = StoredJob(code="", name=name, cluster_id=1, settings={})
            session.add(job)
            await session.flush()
            return job.id

    async def run(self, job_id: int) -> Run:
        """A run of the job that is running."""
        async with self.database.write() as session:
            made = await create_run(
                session, "flink", subject_of(job_id), {"flink_url": "http://flink", "queue": {"slots": 2}}
            )
            # The service's own supervisor would take it.
            await session.exec(
                update(Run).where(col(Run.id) == made.id).values(lease_owner="test", lease_until=now_ms() + 60_000)
            )
        begun = await self.store.begin_submission(made, None)
        assert begun is not None
        running = await self.store.move(begun, State.RUNNING)
        assert running is not None
        return running

    async def end(self, run: Run, state: State, reason: str | None = "it broke") -> None:
        assert await self.store.move(run, state, reason) is not None

    async def read(self) -> None:
        await reading.read_events(self.database, self.service.settings)

    async def written(self) -> list[Notification]:
        async with self.database.read() as session:
            return list((await session.exec(select(Notification).order_by(col(Notification.id)))).all())

    async def titles(self) -> list[str]:
        return [one.title for one in await self.written()]

    async def make_due(self) -> None:
        async with self.database.write() as session:
            await session.exec(update(Notification).values(next_at=now_ms()))

    async def pass_time(self, seconds: float) -> None:
        """Everything that was noted was noted that much earlier."""
        async with self.database.write() as session:
            for table, columns in (("hlink_trouble", ("since", "told_at")), ("run_event", ("at",))):
                for column in columns:
                    await session.exec(text(f"UPDATE {table} SET {column} = {column} - {int(seconds * 1000)}"))  # type: ignore[call-overload]


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as started:
        yield started


@pytest.fixture
async def bench(serve: Serve, hook: Webhook) -> AsyncIterator[Bench]:
    client, service = await serve(FAMILY, notify_steady_s=30, lag_records=100, lag_for_s=60, flapping_restarts=3)
    client.base_url = httpx.URL("http://localhost")
    await reading.begin(service.database)
    made = Bench(client, service, hook)
    async with made.delivery.open():
        yield made


# Targets


async def test_a_targets_secrets_are_nowhere_but_encrypted(bench: Bench) -> None:
    url = "jsons://user:s3cret-password@hooks.example.org:8443/T0PSECRETPATH?+X-Key=s3cret-header"
    added = (await bench.call("POST", "/notifications", json={"name": "hook", "url": url}))["data"]
    assert added["url"] == "jsons://hooks.example.org:8443/***"
    assert (added["events"], added["jobIds"], added["enabled"]) == ([], [], True)

    listed = await bench.call("GET", "/notifications")
    assert listed["data"] == [added]
    async with bench.database.read() as session:
        rows = (await session.exec(text("SELECT * FROM hlink_notification_target"))).all()  # type: ignore[call-overload]
    kept = f"{listed} {rows}"
    assert not any(secret in kept for secret in ("s3cret", "T0PSECRETPATH"))

    # What was shown, sent back, means: as it was.
    answer = await bench.call("PUT", f"/notifications/{added['id']}", json={"url": added["url"], "events": ["LOST"]})
    assert answer["data"]["events"] == ["LOST"]
    async with bench.database.read() as session:
        assert (await notifying.find(session, added["id"])).secret == {"url": url}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (None, "url: the address is missing (write json://host:port/path, "),
        ("nonsense", "url: it is not an address (write "),
        ("json://", "url: parts are missing (write "),
        ("https://example.org/hook", "url: https:// is not an address that can be used (write "),
        ("syslog://", "url: syslog:// is not offered (use one of json, "),
        ("dbus://", "url: dbus:// is not "),
        ("json://169.254.169.254/latest", "url: 169.254.169.254 is 169.254.169.254, where no target can be (give "),
        ("json://0.0.0.0/x", "url: 0.0.0.0 is 0.0.0.0, where no target can be (give "),
        (
            "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ?template=/etc/passwd",
            "url: the option template is not ",
        ),
        ("mailto://h?to=a@b.c&from=d@e.f&pgpprv=/etc/passwd", "url: the option pgpprv is not possible here (leave it "),
        ("json://host/\n", None),
    ],
)
async def test_what_cannot_be_a_targets_address_is_refused_with_the_remedy(
    bench: Bench, url: str | None, told: str | None
) -> None:
    answer = await bench.call("POST", "/notifications", json={"name": "hook", "url": url})
    if told is None:
        assert answer["success"], answer
        return
    assert (answer["code"], answer["success"]) == (-3, False)
    assert answer["msg"].startswith(told)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mailto://me:pa55word@mail.example.org:2525?to=you@example.org", "mailto://mail.example.org:2525/***"),
        ("dingtalk://" + "a" * 32, "dingtalk://***"),
        ("feishu://" + "b" * 32, "feishu://***"),
        ("lark://" + "c" * 32, "lark://***"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "slack://***"),
        ("wecombot://" + "d" * 36, "wecombot://***"),
    ],
)
async def test_services_of_many_kinds_may_be_targets(bench: Bench, url: str, shown: str) -> None:
    answer = await bench.call("POST", "/notifications", json={"name": "it", "url": url})
    assert (answer["success"], answer["data"]["url"]) == (True, shown)


async def test_everything_that_is_wrong_is_told_at_once_and_names_are_taken_once(bench: Bench) -> None:
    answer = await bench.call("POST", "/notifications", json={"url": "x", "events": ["BROKEN"], "jobIds": [7]})
    assert [problem["field"] for problem in answer["problems"]] == ["name", "url", "events", "jobIds"]
    assert answer["problems"][2]["message"] == "'BROKEN' is not an event"
    target = await bench.target("hook")
    taken = await bench.call("POST", "/notifications", json={"name": "hook", "url": bench.hook.url()})
    assert (taken["code"], taken["msg"]) == (0, "There is a target named 'hook' already: choose another name")
    assert (await bench.call("DELETE", f"/notifications/{target['id']}"))["data"]["name"] == "hook"
    await bench.target("hook")
    gone = await bench.call("PUT", f"/notifications/{target['id']}", json={"name": "other"})
    assert gone["msg"] == f"There is no target {target['id']}: GET /notifications shows those there are"


async def test_a_test_arrives_or_says_why_not_without_a_secret(bench: Bench) -> None:
    target = await bench.target(url=bench.hook.url("very-secret-path"))
    assert (await bench.call("POST", f"/notifications/{target['id']}/test"))["success"]
    assert bench.hook.received[0]["message"] == "The target 'hook' can be reached."

    bench.hook.status = 403
    refused = await bench.call("POST", f"/notifications/{target['id']}/test")
    assert refused["code"] == -2
    assert refused["msg"].startswith("Nothing could be sent to 'hook': ")
    assert "403" in refused["msg"]
    assert "very-secret-path" not in refused["msg"]


async def test_a_target_does_not_send_us_elsewhere(bench: Bench) -> None:
    target = await bench.target()
    bench.hook.status = 307
    assert not (await bench.call("POST", f"/notifications/{target['id']}/test"))["success"]
    assert bench.hook.paths == ["/hook"]


# What is told


async def test_a_failure_is_told_once_whoever_reads(bench: Bench) -> None:
    await bench.target()
    job_id = await bench.job()
    await bench.end(await bench.run(job_id), State.FAILED)
    await asyncio.gather(*(bench.read() for _ in range(5)))
    await bench.read()

    (one,) = await bench.written()
    assert (one.title, one.body, one.job_ids) == ("Job 'orders' failed", f"it broke\n\nJob {job_id}", [job_id])


async def test_what_is_told_again_only_after_its_end_or_after_a_while(bench: Bench) -> None:
    await bench.target()
    job_id = await bench.job()
    await bench.end(await bench.run(job_id), State.FAILED)
    await bench.read()
    await bench.end(await bench.run(job_id), State.FAILED)
    await bench.read()
    assert await bench.titles() == ["Job 'orders' failed"]

    await bench.pass_time(bench.service.settings.notify_again_s)
    run = await bench.run(job_id)
    await bench.read()
    assert len(await bench.titles()) == 1, "it has not run for long enough to have recovered"
    await bench.end(run, State.FAILED)
    await bench.read()
    assert await bench.titles() == ["Job 'orders' failed"] * 2

    await bench.run(job_id)
    await bench.pass_time(bench.service.settings.notify_steady_s)
    await bench.read()
    await bench.read()
    assert await bench.titles() == [*["Job 'orders' failed"] * 2, "Job 'orders' has recovered"]


async def test_a_job_that_somebody_stops_has_not_recovered(bench: Bench) -> None:
    await bench.target()
    job_id = await bench.job()
    await bench.end(await bench.run(job_id), State.LOST)
    await bench.read()
    await bench.end(await bench.run(job_id), State.CANCELED, None)
    await bench.read()
    await bench.run(job_id)
    await bench.pass_time(60)
    await bench.read()
    assert await bench.titles() == ["Job 'orders' was lost"]


async def test_an_event_that_is_committed_later_than_its_number_says_is_told_all_the_same(bench: Bench) -> None:
    await bench.target()
    early, late = await bench.job("early"), await bench.job("late")
    slow = await bench.run(late)
    await bench.end(await bench.run(early), State.FAILED)
    await bench.read()
    async with bench.database.write() as session:
        now = (await session.exec(select(now_ms()))).one()
        number = first_id_of(now - reading.OVERLAP_MS // 2)
        session.add(Event(id=number, run_id=slow.id, what="state", state=State.FAILED, message="slow"))
    await bench.read()
    assert await bench.titles() == ["Job 'early' failed", "Job 'late' failed"]


async def test_a_target_is_told_what_it_wants_of_the_jobs_that_it_wants_and_of_nothing_before_it_was_there(
    bench: Bench,
) -> None:
    mine, other = await bench.job("mine"), await bench.job("other")
    await bench.end(await bench.run(mine), State.FAILED, "before")
    await asyncio.sleep(0.01)
    await bench.target("all")
    await bench.target("mine", jobIds=[mine])
    await bench.target("lost", events=["LOST"])
    off = await bench.target("off")
    await bench.call("PUT", f"/notifications/{off['id']}", json={"enabled": False})
    await bench.end(await bench.run(other), State.LOST, "away")
    await bench.read()
    # Nobody was told of the failure before, so another one is not the same trouble to anybody.
    await bench.end(await bench.run(mine), State.FAILED, "again")
    await bench.read()

    listed = (await bench.call("GET", "/notifications/sent"))["data"]["records"]
    assert sorted((one["target"], one["title"]) for one in listed) == [
        ("all", "Job 'mine' failed"),
        ("all", "Job 'other' was lost"),
        ("lost", "Job 'other' was lost"),
        ("mine", "Job 'mine' failed"),
    ]
    assert (await bench.call("GET", "/notifications/sent", params={"state": "SENT"}))["data"]["total"] == 0
    refused = await bench.call("GET", "/notifications/sent", params={"state": "LOST"})
    assert refused["msg"] == "state: 'LOST' is not a state (use PENDING, SENT, GIVEN_UP)"


async def test_many_at_once_are_one_message(bench: Bench) -> None:
    await bench.target()
    for number in range(7):
        await bench.end(await bench.run(await bench.job(f"job {number}")), State.LOST, f"reason {number}")
    await bench.read()
    (one,) = await bench.written()
    assert one.title == "7 jobs were lost"
    assert one.body.splitlines()[:2] == ["job 0: reason 0", "job 1: reason 1"]
    assert len(one.job_ids) == 7


async def test_without_a_target_nothing_is_read(bench: Bench) -> None:
    await bench.end(await bench.run(await bench.job()), State.FAILED)
    await bench.read()
    assert await bench.written() == []
    async with bench.database.read() as session:
        assert (await session.exec(select(Trouble))).all() == []


# What figures say


async def held(bench: Bench, job_id: int) -> Watched:
    async with bench.database.read() as session:
        found = await watched(session, "test", 10)
    (one,) = [job for job in found.held if job.job_id == job_id]
    return one


async def test_a_job_lags_when_it_has_for_a_while_and_another_replica_goes_on_from_there(bench: Bench) -> None:
    await bench.target()
    job_id = await bench.job()
    await bench.run(job_id)
    job = await held(bench, job_id)
    assert (job.name, job.slots, job.state) == ("orders", 2, State.RUNNING)
    clusters = Clusters()
    judge = Judge(bench.database, bench.service.settings)
    await judge(job, Figures(lag={"events": 101}), clusters)
    assert await bench.titles() == []
    await bench.pass_time(60)
    successor = Judge(bench.database, bench.service.settings)
    await successor(job, Figures(lag={"events": 150, "clicks": 3}), clusters)
    await successor(job, Figures(lag={"events": 150}), clusters)
    assert await bench.titles() == ["Job 'orders' is lagging"]
    assert (await bench.written())[0].body.startswith(
        "It has not read 150 records of events yet, and had more than 100 "
    )
    await successor(job, Figures(lag={"events": 100}), clusters)
    assert await bench.titles() == ["Job 'orders' is lagging", "Job 'orders' has recovered"]


async def test_a_job_flaps_when_it_is_restarted_often_within_the_window(bench: Bench) -> None:
    await bench.target(events=["FLAPPING", "RECOVERED"])
    job_id = await bench.job()
    await bench.run(job_id)
    job, clusters = await held(bench, job_id), Clusters()
    judge = Judge(bench.database, bench.service.settings)
    for count in (40, 41, 42, 42):  # what it was restarted before anybody looked does not count
        await judge(job, Figures(restarts=count), clusters)
    assert await bench.titles() == []
    successor = Judge(bench.database, bench.service.settings)
    await successor(job, Figures(restarts=42), clusters)
    await successor(job, Figures(restarts=43), clusters)
    assert await bench.titles() == ["Job 'orders' is restarted again and again"]
    assert (await bench.written())[0].body.startswith("Flink has restarted it 3 times within 600 s: ")
    async with bench.database.write() as session:
        row = await session.get(Trouble, (job_id, Kind.FLAPPING))
        assert row is not None
        row.restarts = [[max(0, at - 700_000), count] for at, count in row.restarts]
    await successor(job, Figures(restarts=43), clusters)
    assert (await bench.titles())[1:] == ["Job 'orders' has recovered"]


async def test_a_run_that_ends_takes_along_what_its_figures_said(bench: Bench) -> None:
    await bench.target()
    job_id = await bench.job()
    run = await bench.run(job_id)
    judge = Judge(bench.database, bench.service.settings)
    await judge(await held(bench, job_id), Figures(lag={"events": 101}), Clusters())
    await bench.end(run, State.CANCELED, None)
    await bench.read()
    async with bench.database.read() as session:
        row = await session.get(Trouble, (job_id, Kind.LAGGING))
    assert row is not None
    assert row.over_at is not None


# On their way


async def failure(bench: Bench) -> None:
    await bench.end(await bench.run(await bench.job()), State.FAILED)
    await bench.read()


async def test_two_replicas_send_one_notification_once(bench: Bench) -> None:
    await bench.target()
    await failure(bench)
    other = Delivery(bench.database)
    async with other.open():
        await asyncio.gather(bench.delivery.step(OVER), other.step(OVER), bench.delivery.step(OVER))
    (one,) = await bench.written()
    assert (one.state, one.attempts, len(bench.hook.received)) == (Progress.SENT, 1, 1)
    assert bench.hook.received[0]["title"] == "Job 'orders' failed"


async def test_what_cannot_be_sent_is_tried_again_with_growing_pauses_and_given_up_with_a_note(bench: Bench) -> None:
    await bench.target()
    bench.hook.status = 500
    await failure(bench)
    for attempt in range(1, len(PAUSES_S) + 2):
        await bench.delivery.step(OVER)
        await bench.delivery.step(OVER)  # not due
        (one,) = await bench.written()
        assert one.attempts == attempt == len(bench.hook.paths)
        assert "500" in (one.reason or "")
        async with bench.database.read() as session:
            now = (await session.exec(select(now_ms()))).one()
        if attempt <= len(PAUSES_S):
            assert one.state is Progress.PENDING
            assert 0 < (one.next_at or 0) - now <= PAUSES_S[attempt - 1] * 1000
        await bench.make_due()
    assert one.state is Progress.GIVEN_UP
    await bench.delivery.step(OVER)
    assert len(bench.hook.paths) == len(PAUSES_S) + 1


async def test_given_a_replica_that_died_while_it_sent_then_another_one_sends_after_the_pause(bench: Bench) -> None:
    await bench.target()
    await failure(bench)
    assert [parcel.attempt for parcel in await bench.delivery._claim(1)] == [1]
    await bench.delivery.step(OVER)
    assert bench.hook.received == []
    await bench.make_due()
    await bench.delivery.step(OVER)
    (one,) = await bench.written()
    assert (one.state, one.attempts, len(bench.hook.received)) == (Progress.SENT, 2, 1)


async def test_what_is_for_a_target_that_was_removed_is_given_up(bench: Bench) -> None:
    target = await bench.target()
    await failure(bench)
    await bench.call("DELETE", f"/notifications/{target['id']}")
    await bench.delivery.step(OVER)
    (one,) = await bench.written()
    assert (one.state, one.reason, one.attempts) == (Progress.GIVEN_UP, "its target was removed or switched off", 0)
    assert bench.hook.received == []


async def test_a_target_that_does_not_answer_holds_up_nobody_else(bench: Bench) -> None:
    async with asyncio.timeout(60):
        server = await asyncio.start_server(_silent, "127.0.0.1", 0)
        silent = server.sockets[0].getsockname()[1]
        await bench.target("silent", url=f"json://127.0.0.1:{silent}/x")
        await bench.target("hook")
        await failure(bench)
        sending = asyncio.create_task(bench.delivery.step(OVER))
        await asyncio.to_thread(bench.hook.wait_for, lambda one: True)
        assert not sending.done()
        await sending
        server.close()
    states = {one.state: one.reason for one in await bench.written()}
    assert set(states) == {Progress.SENT, Progress.PENDING}
    assert states[Progress.PENDING]


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)
    writer.close()


def test_headlines_are_there_for_every_kind() -> None:
    news = troubles.News(Kind.FAILED, Kind.FAILED, 1, "a", "x" * 9000, 1)
    assert len(news.body) < 4100
    for kind in Kind:
        assert troubles._HEADLINES[kind]
        assert (kind is Kind.RECOVERED) != (kind in troubles._OVER)
