"""The runner on Flink clusters: what it makes of what Flink's REST API answers, and how much it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from app.supervisor.models import Run
from app.supervisor.runners import flink as runner_module
from app.supervisor.runners.base import Inspection, Outcome, SubmissionRefused, Unreachable
from app.supervisor.runners.flink import SEEN, FlinkRunner
from app.supervisor.transitions import Seen, State, StopMode
from stream_jobs.rest import Clusters
from tests.answers import SILENCE, Answers, answering

UNKNOWN_JOB = (500, {"errors": ["Internal server error.", "<Exception on server side:\nFlinkJobNotFoundException: no"]})
TOKEN = "c" * 32


class Refuses:
    async def submit(self, run: Run) -> None:
        raise SubmissionRefused("no such table")


class Files(Refuses):
    """What is in the folders of savepoints, as the service's machine sees it."""

    def __init__(self, savepoint: str | None = None, left: str | None = None) -> None:
        self.savepoint, self.left = savepoint, left
        self.folders: list[str] = []

    async def inspect(self, path: str) -> Inspection:
        return Inspection(True, size=7, checkpoint_id=3)

    async def savepoint_in(self, folder: str) -> str | None:
        self.folders.append(folder)
        return self.savepoint

    async def remove_savepoint(self, folder: str) -> str | None:
        self.folders.append(folder)
        return self.left


@pytest.fixture
async def flink() -> AsyncIterator[Answers]:
    async with answering() as answers:
        answers.by_path["/jobmanager/config"] = [
            {"key": "web.tmpdir", "value": "/tmp/life-1"},
            {"key": "execution.checkpointing.savepoint-dir", "value": "file:///savepoints/"},
        ]
        yield answers


@pytest.fixture
async def runner() -> AsyncIterator[FlinkRunner]:
    clusters = Clusters(timeout_s=1)
    yield FlinkRunner(Refuses(), clusters)
    await clusters.close()


def run_on(flink: Answers, number: int = 1, **columns: Any) -> Run:
    given = {"state": State.RUNNING, "spec": {"flink_url": flink.address}, **columns}
    return Run(id=number, kind="flink", subject=f"job:{number}", external_id=f"{number:032x}", **given)


def job(run: Run, state: str = "RUNNING", last_modification: int = 1, end_time: int = -1, running: int = 4) -> Any:
    return {
        "jid": run.external_id,
        "name": "job",
        "state": state,
        "start-time": 1,
        "end-time": end_time,
        "last-modification": last_modification,
        "tasks": {"total": 4, "running": running},
    }


def has(flink: Answers, *jobs: Any) -> None:
    flink.by_path["/jobs/overview"] = {"jobs": list(jobs)}


def has_details(
    flink: Answers, run: Run, *, failure: str | None = None, at: int = 5, checkpoint: str = "chk-1"
) -> None:
    base = f"/jobs/{run.external_id}"
    entries = [{"exceptionName": "X", "stacktrace": failure, "timestamp": at}] if failure else []
    flink.by_path[f"{base}/exceptions"] = {"exceptionHistory": {"entries": entries}}
    flink.by_path[f"{base}/checkpoints"] = {
        "counts": {"completed": 1},
        "latest": {"completed": {"id": 1, "external_path": f"file:/{checkpoint}", "discarded": False}},
    }
    flink.by_path[f"{base}/metrics"] = [{"id": "numRestarts", "value": "2"}]


async def test_given_a_running_job_then_its_tasks_are_counted_and_its_details_fetched(
    flink: Answers, runner: FlinkRunner
) -> None:
    run = run_on(flink)
    has(flink, job(run, running=3))
    has_details(flink, run)
    seen = (await runner.observe([run]))[run.id]

    assert (seen.seen, seen.raw, seen.tasks_running, seen.tasks_total) == (Seen.RUNNING, "RUNNING", 3, 4)
    assert (seen.checkpoint, seen.restarts, seen.exception) == ("file:/chk-1", 2, None)


async def test_given_jobs_that_do_not_change_then_a_look_is_one_request(flink: Answers, runner: FlinkRunner) -> None:
    runs = [run_on(flink, number) for number in range(1, 11)]
    has(flink, *map(job, runs))
    for run in runs:
        has_details(flink, run)
    before = -2
    while len(flink.asked) > before + 1:  # until the details of all are there
        before = len(flink.asked)
        await runner.observe(runs)
    before = len(flink.asked)
    for _ in range(3):
        assert len(await runner.observe(runs)) == 10

    assert flink.asked[before:] == ["GET /jobs/overview"] * 3


async def test_given_hundreds_of_new_jobs_then_the_first_look_does_not_ask_for_all_their_details(
    flink: Answers, runner: FlinkRunner
) -> None:
    runs = [run_on(flink, number) for number in range(1, 301)]
    has(flink, *map(job, runs))
    seen = await runner.observe(runs)

    assert len(seen) == 300
    assert len(flink.asked) <= 1 + 3 * runner_module.MOST_DETAILS


async def test_given_a_job_that_changed_then_only_its_details_are_fetched(flink: Answers, runner: FlinkRunner) -> None:
    runs = [run_on(flink, number) for number in (1, 2)]
    has(flink, *map(job, runs))
    for run in runs:
        has_details(flink, run)
    await runner.observe(runs)
    has(flink, job(runs[0]), job(runs[1], "RESTARTING", last_modification=2))
    has_details(flink, runs[1], failure="a.A: it broke\n\tat b")
    before = len(flink.asked)
    seen = await runner.observe(runs)

    assert (seen[2].seen, seen[2].exception) == (Seen.RESTARTING, "a.A: it broke")
    assert all("overview" in one or runs[1].external_id in one for one in flink.asked[before:])


async def test_given_jobs_that_never_change_then_their_checkpoints_are_still_fetched_in_turn(
    flink: Answers, runner: FlinkRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_on(flink)
    has(flink, job(run))
    has_details(flink, run)
    await runner.observe([run])
    has_details(flink, run, checkpoint="chk-9")
    assert (await runner.observe([run]))[run.id].checkpoint is None
    monkeypatch.setattr(runner_module, "_IN_TURN_S", 0.0)

    assert (await runner.observe([run]))[run.id].checkpoint == "file:/chk-9"


async def test_given_a_failed_job_then_its_end_comes_with_its_root_cause(flink: Answers, runner: FlinkRunner) -> None:
    run = run_on(flink)
    has(flink, job(run, "FAILED", end_time=5))
    has_details(flink, run, failure="a.A: Recovery is suppressed\n\tat b\nCaused by: c.C: / by zero\n\tat d", at=5)

    assert (await runner.observe([run]))[run.id].exception == "c.C: / by zero"


async def test_given_a_failed_job_when_flinks_cache_is_older_than_its_end_then_the_end_waits_for_the_cause(
    flink: Answers, runner: FlinkRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_on(flink)
    has(flink, job(run, "FAILED", end_time=5))
    has_details(flink, run)
    assert await runner.observe([run]) == {}
    has_details(flink, run, failure="c.C: late", at=5)
    assert (await runner.observe([run]))[run.id].exception == "c.C: late"


async def test_given_a_failed_job_without_any_details_then_its_end_does_not_wait_for_ever(
    flink: Answers, runner: FlinkRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_on(flink)
    has(flink, job(run, "FAILED", end_time=5))
    assert await runner.observe([run]) == {}
    monkeypatch.setattr(runner_module, "_STALE_S", 0.0)

    assert (await runner.observe([run]))[run.id].seen is Seen.FAILED


async def test_given_a_job_that_the_overview_lacks_then_it_is_asked_for_by_its_id(
    flink: Answers, runner: FlinkRunner
) -> None:
    here, gone = run_on(flink, 1), run_on(flink, 2)
    has(flink)
    flink.by_path[f"/jobs/{here.external_id}/status"] = {"status": "INITIALIZING"}
    flink.by_path[f"/jobs/{gone.external_id}/status"] = UNKNOWN_JOB
    seen = await runner.observe([here, gone])

    assert seen[1].seen is Seen.STARTING
    assert (seen[2].seen, seen[2].incarnation) == (Seen.UNKNOWN, "/tmp/life-1")


@pytest.mark.parametrize("answer", [b"", (503, {"errors": []}), (200, b"<html>"), (500, {"errors": ["x"]})], ids=repr)
async def test_given_no_answer_of_flinks_then_nothing_is_said_of_any_job(
    flink: Answers, runner: FlinkRunner, answer: Any
) -> None:
    flink.default = answer
    with pytest.raises(Unreachable):
        await runner.observe([run_on(flink)])


async def test_given_an_unknown_word_of_a_newer_flink_then_it_is_told_and_nothing_follows(
    flink: Answers, runner: FlinkRunner
) -> None:
    run = run_on(flink)
    has(flink, job(run, "PONDERING"))

    seen = (await runner.observe([run]))[run.id]
    assert (seen.seen, seen.raw) == (Seen.UNCLEAR, "PONDERING")


def test_every_job_state_of_flink_2_3_has_its_meaning() -> None:
    assert set(SEEN) == {
        *("INITIALIZING", "CREATED", "RUNNING", "FAILING", "FAILED", "CANCELLING", "CANCELED"),
        *("FINISHED", "RESTARTING", "SUSPENDED", "RECONCILING"),
    }


async def test_given_a_stop_with_savepoint_then_it_has_a_folder_of_its_own_and_is_asked_for_once(
    flink: Answers, runner: FlinkRunner
) -> None:
    run = run_on(flink, stop_token=TOKEN, stop_mode=StopMode.SAVEPOINT)
    flink.by_path[f"/jobs/{run.external_id}/stop"] = (202, {"request-id": TOKEN})
    assert (await runner.stop(run, StopMode.SAVEPOINT)).outcome is Outcome.UNDER_WAY
    flink.by_path[f"/jobs/{run.external_id}/savepoints/{TOKEN}"] = {"status": {"id": "IN_PROGRESS"}}
    assert (await runner.stop(run, StopMode.SAVEPOINT)).outcome is Outcome.UNDER_WAY
    flink.by_path[f"/jobs/{run.external_id}/savepoints/{TOKEN}"] = {
        "status": {"id": "COMPLETED"},
        "operation": {"location": f"file:/savepoints/{TOKEN}/savepoint-1"},
    }
    report = await runner.stop(run, StopMode.SAVEPOINT)

    assert (report.outcome, report.savepoint) == (Outcome.DONE, f"file:/savepoints/{TOKEN}/savepoint-1")
    assert sum(one.startswith("POST") for one in flink.asked) == 1


async def test_given_a_savepoint_that_failed_then_the_attempt_failed_with_its_cause(
    flink: Answers, runner: FlinkRunner
) -> None:
    run = run_on(flink, stop_token=TOKEN)
    flink.by_path[f"/jobs/{run.external_id}/savepoints/{TOKEN}"] = {
        "status": {"id": "COMPLETED"},
        "operation": {"failure-cause": {"stack-trace": "a.A: no\nCaused by: b.B: disk full"}},
    }
    report = await runner.stop(run, StopMode.SAVEPOINT)
    assert (report.outcome, report.cause) == (Outcome.FAILED, "b.B: disk full")


async def test_given_a_job_that_ended_by_its_savepoint_when_a_cancel_came_after_then_the_savepoint_is_known(
    flink: Answers, runner: FlinkRunner
) -> None:
    run = run_on(flink, state=State.STOPPING, stop_token=TOKEN, stop_mode=StopMode.CANCEL)
    has(flink, job(run, "FINISHED", end_time=5))
    has_details(flink, run)
    flink.by_path[f"/jobs/{run.external_id}/status"] = {"status": "FINISHED"}
    flink.by_path[f"/jobs/{run.external_id}/savepoints/{TOKEN}"] = {
        "status": {"id": "COMPLETED"},
        "operation": {"location": f"file:/savepoints/{TOKEN}/savepoint-1"},
    }

    seen = (await runner.observe([run]))[run.id]
    assert (seen.seen, seen.savepoint) == (Seen.FINISHED, f"file:/savepoints/{TOKEN}/savepoint-1")


async def test_given_nowhere_to_put_a_savepoint_then_the_attempt_fails_with_the_remedy(
    flink: Answers, runner: FlinkRunner
) -> None:
    flink.by_path["/jobmanager/config"] = []
    report = await runner.stop(run_on(flink, stop_token=TOKEN), StopMode.SAVEPOINT)
    assert report.outcome is Outcome.FAILED
    assert "execution.checkpointing.savepoint-dir" in (report.cause or "")


@pytest.fixture
async def on_files() -> AsyncIterator[Callable[[Files], FlinkRunner]]:
    """A runner that sees these files."""
    clusters = Clusters(timeout_s=1)
    yield lambda files: FlinkRunner(files, clusters)
    await clusters.close()


async def test_given_a_finished_job_whose_savepoint_the_cluster_has_forgotten_then_it_is_found_in_its_folder(
    flink: Answers, on_files: Callable[[Files], FlinkRunner]
) -> None:
    run = run_on(flink, stop_token=TOKEN, stop_mode=StopMode.SAVEPOINT)
    has(flink, job(run, "FINISHED", end_time=5))
    has_details(flink, run)
    files = Files(savepoint=f"file:/savepoints/{TOKEN}/savepoint-1")
    seen = (await on_files(files).observe([run]))[run.id]

    assert (seen.seen, seen.savepoint) == (Seen.FINISHED, f"file:/savepoints/{TOKEN}/savepoint-1")
    assert files.folders == [f"file:///savepoints/{TOKEN}"]


async def test_given_a_savepoint_when_it_is_looked_into_then_the_cluster_says_which_version_made_it(
    flink: Answers, on_files: Callable[[Files], FlinkRunner]
) -> None:
    runner, run = on_files(Files()), run_on(flink)
    assert await runner.inspect(run, "file:/x") == Inspection(True, size=7, checkpoint_id=3)
    jobs = (f"jobs-{state}" for state in ("running", "finished", "cancelled", "failed"))
    counts = dict.fromkeys(("taskmanagers", "slots-total", "slots-available", *jobs), 0)
    flink.by_path["/overview"] = {"flink-version": "2.3.0", **counts}
    assert (await runner.inspect(run, "file:/x")).made_with == "2.3.0"


DONE = {"status": {"id": "COMPLETED"}, "operation": {}}


def failed(cause: str) -> Any:
    return {
        "status": {"id": "COMPLETED"},
        "operation": {"failure-cause": {"stack-trace": f"a.A: no\nCaused by: {cause}"}},
    }


@pytest.mark.parametrize(
    ("answer", "left", "outcome", "cause"),
    [
        (DONE, None, Outcome.DONE, None),
        (DONE, "it cannot be seen", Outcome.DONE, None),
        (failed("b.B: Cannot find checkpoint or savepoint file/directory"), "unseen", Outcome.DONE, None),
        (failed("b.B: permission denied"), None, Outcome.DONE, None),
        (failed("b.B: permission denied"), "not seen", Outcome.FAILED, "b.B: permission denied; not seen"),
        (b"", "it could not be deleted", Outcome.FAILED, "it could not be deleted"),
        (b"", None, Outcome.DONE, None),
    ],
)
async def test_given_a_savepoint_then_it_is_deleted_by_the_cluster_or_from_here(
    flink: Answers,
    on_files: Callable[[Files], FlinkRunner],
    answer: Any,
    left: str | None,
    outcome: Outcome,
    cause: str | None,
) -> None:
    flink.by_path["/savepoint-disposal"] = answer if answer == b"" else (200, {"request-id": "r"})
    flink.by_path["/savepoint-disposal/r"] = answer
    files = Files(left=left)
    report = await on_files(files).dispose(run_on(flink), f"file:/savepoints/{TOKEN}/savepoint-1", TOKEN)

    assert report.outcome is outcome
    assert (cause or "") in (report.cause or "")
    assert files.folders == [f"file:/savepoints/{TOKEN}"]


async def test_given_a_path_that_is_not_in_a_folder_of_its_own_then_nothing_is_deleted(
    flink: Answers, on_files: Callable[[Files], FlinkRunner]
) -> None:
    files = Files()
    report = await on_files(files).dispose(run_on(flink), "file:/savepoints/savepoint-1", TOKEN)

    assert (report.outcome, report.cause) == (
        Outcome.FAILED,
        "file:/savepoints/savepoint-1 is not in a folder of its own: delete it by hand",
    )
    assert (files.folders, flink.asked) == ([], [])


async def test_given_a_cancel_under_way_then_it_is_not_sent_again(flink: Answers, runner: FlinkRunner) -> None:
    await runner.stop(run_on(flink, observed="CANCELLING"), StopMode.CANCEL)
    assert flink.asked == []


async def test_given_a_job_that_is_gone_when_it_is_canceled_then_observing_decides(
    flink: Answers, runner: FlinkRunner
) -> None:
    flink.default = (404, {"errors": [f"NotFoundException: Job {1:032x} not found"]})
    assert (await runner.stop(run_on(flink), StopMode.CANCEL)).outcome is Outcome.UNDER_WAY


async def test_given_failures_then_the_tail_shows_them_from_an_offset_on(flink: Answers, runner: FlinkRunner) -> None:
    run = run_on(flink)
    has_details(flink, run, failure="a.A: it broke\n\tat b", at=1000)
    whole = await runner.tail(run, 0)
    assert whole.text.startswith("1970-01-01T00:00:01.000+00:00 job")
    assert "at b" in whole.text
    assert (await runner.tail(run, whole.next_offset)).text == ""


async def test_starting_is_the_submitters_business(flink: Answers, runner: FlinkRunner) -> None:
    with pytest.raises(SubmissionRefused):
        await runner.start(run_on(flink))
    assert flink.asked == []


async def test_given_details_that_do_not_come_then_the_status_of_all_jobs_does_not_wait_for_them(
    flink: Answers, runner: FlinkRunner
) -> None:
    slow, other = run_on(flink, 1), run_on(flink, 2)
    has(flink, job(slow), job(other))
    has_details(flink, other)
    flink.by_path[f"/jobs/{slow.external_id}/checkpoints"] = SILENCE
    seen = await runner.observe([slow, other])

    assert (seen[1].seen, seen[1].checkpoint) == (Seen.RUNNING, None)
    assert seen[2].checkpoint == "file:/chk-1"


async def test_given_the_same_state_again_then_the_observation_is_the_same_object(
    flink: Answers, runner: FlinkRunner
) -> None:
    run = run_on(flink)
    has(flink, job(run))
    await runner.observe([run])
    first = (await runner.observe([run]))[run.id]
    assert (await runner.observe([run]))[run.id] is first
    has(flink, job(run, "RESTARTING", last_modification=2))

    assert (await runner.observe([run]))[run.id] is not first


async def test_given_a_replica_that_comes_to_hold_jobs_that_are_as_they_were_noted_then_it_asks_for_no_details(
    flink: Answers, runner: FlinkRunner
) -> None:
    noted = {"observed": "RUNNING", "tasks_running": 4, "observed_at": 1_000_000}
    same, changed = run_on(flink, 1, **noted), run_on(flink, 2, **noted)
    has(flink, job(same, last_modification=900_000), job(changed, last_modification=1_000_001))
    has_details(flink, changed)
    seen = await runner.observe([same, changed])

    assert (seen[1].checkpoint, seen[2].checkpoint) == (None, "file:/chk-1")
    assert not [one for one in flink.asked if same.external_id in one]
