"""Flink's REST API: answers that a healthy Flink does not give. What it does give is in tests/integration/test_rest."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stream_jobs.rest import (
    Cluster,
    ClusterError,
    Clusters,
    ClusterUnreachable,
    FlinkRestError,
    JobNotFound,
    JobState,
    SavepointState,
    root_cause,
)
from tests.answers import NOTHING, SILENCE, Answers, answering

JOB = "a" * 32
CALLS: dict[str, tuple[Any, ...]] = {
    "overview": (),
    "configuration": (),
    "libraries": (),
    "incarnation": (),
    "jobmanager_metrics": (["a"],),
    "task_managers": (),
    "jobs": (),
    "job_states": (),
    "status": (JOB,),
    "job": (JOB,),
    "checkpoints": (JOB,),
    "exceptions": (JOB,),
    "job_metrics": (JOB, ["a"]),
    "vertex_metrics": (JOB, "v", ["a"]),
    "vertex_metric_names": (JOB, "v"),
    "vertex_spreads": (JOB, "v", ["a"]),
    "back_pressure": (JOB, "v"),
    "watermarks": (JOB, "v"),
    "savepoint_status": (JOB, "t"),
    "dispose_savepoint": ("/path",),
    "jars": (),
    "upload_jar": (Path(__file__), "a.jar", 5.0),
}
CHANGES: dict[str, tuple[Any, ...]] = {
    "cancel": (JOB,),
    "stop_with_savepoint": (JOB, "t"),
    "savepoint": (JOB, "t"),
    "run_jar": ("a.jar", {}, 5.0),
    "delete_jar": ("a.jar",),
}


@pytest.fixture
async def flink() -> AsyncIterator[Answers]:
    async with answering() as answers:
        yield answers


@pytest.fixture
async def cluster(flink: Answers) -> AsyncIterator[Cluster]:
    async with Cluster(flink.address, timeout_s=0.5) as made:
        yield made


def test_every_call_is_tried_here() -> None:
    public = {name for name, _ in inspect.getmembers(Cluster, inspect.iscoroutinefunction) if not name.startswith("_")}
    assert {*CALLS, *CHANGES} == public - {"close"}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "garbage",
    [b"<html>It works!</html>", b"", b"null", b"[]", b'"text"', b"[1]", b'{"jobs": 5}', b'{"jobs": [{}]}', b"\xff\xfe"],
    ids=repr,
)
async def test_given_garbage_then_it_is_never_taken_for_content(
    flink: Answers, cluster: Cluster, call: str, garbage: bytes
) -> None:
    flink.default = (200, garbage)
    answer: Any = None
    with suppress(ClusterError):
        answer = await getattr(cluster, call)(*CALLS[call])
    assert not answer


@pytest.mark.parametrize("call", [*CALLS, *CHANGES])
async def test_given_an_error_without_content_then_its_status_is_told(
    flink: Answers, cluster: Cluster, call: str
) -> None:
    flink.default = (400, {"errors": ["Internal server error.", "x.Y: no\n\tat a.b(C)\nCaused by: z.Z: deep\n\tat d"]})
    with pytest.raises(ClusterError, match=r"400: z\.Z: deep$"):
        await getattr(cluster, call)(*{**CALLS, **CHANGES}[call])


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_given_no_leader_or_a_gateway_then_nothing_is_known(
    flink: Answers, cluster: Cluster, status: int
) -> None:
    flink.default = (status, {"errors": ["Service temporarily unavailable due to an ongoing leader election."]})
    with pytest.raises(ClusterUnreachable):
        await cluster.status(JOB)


async def test_given_a_cluster_that_is_silent_then_it_is_given_up_after_the_timeout(
    flink: Answers, cluster: Cluster
) -> None:
    flink.default = SILENCE
    began = time.monotonic()
    with pytest.raises(ClusterUnreachable, match=r"0\.5 s"):
        await cluster.jobs()
    assert time.monotonic() - began < 3
    assert len(flink.asked) == 1


async def test_given_a_kept_connection_that_has_died_then_the_request_is_sent_once_more(
    flink: Answers, cluster: Cluster
) -> None:
    flink.default = {"jobs": []}
    flink.once = [{"jobs": []}, NOTHING]
    assert await cluster.jobs() == []
    assert await cluster.jobs() == []
    assert len(flink.asked) == 3


async def test_given_connections_that_always_die_then_the_cluster_is_unreachable(
    flink: Answers, cluster: Cluster
) -> None:
    flink.default = NOTHING
    with pytest.raises(ClusterUnreachable):
        await cluster.jobs()
    assert len(flink.asked) == 2


async def test_given_many_requests_then_the_connection_is_kept(flink: Answers, cluster: Cluster) -> None:
    flink.default = {"jobs": []}
    for _ in range(5):
        await cluster.jobs()
    assert flink.connections == 1


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1", "http://nobody:hidden@127.0.0.1:1", "http://no.such.invalid"]
)
async def test_given_nobody_there_then_the_address_is_told_without_the_password(address: str) -> None:
    async with Cluster(address, timeout_s=2) as cluster:
        with pytest.raises(ClusterUnreachable) as failed:
            await cluster.overview()
    assert "hidden" not in str(failed.value)
    assert address.rpartition("@")[2].removeprefix("http://") in str(failed.value)


@pytest.mark.parametrize("address", ["http://a:b:c", "http://[::1", "http://\x00"])
async def test_given_what_is_no_address_then_that_is_said(address: str) -> None:
    with pytest.raises(ClusterUnreachable):
        await Cluster(address).overview()


@pytest.mark.parametrize(
    "answer",
    [
        (500, {"errors": ["Internal server error.", "<Exception on server side:\nx.FlinkJobNotFoundException: no"]}),
        (404, {"errors": [f"x.NotFoundException: Job {JOB} not found\n\tat a"]}),
    ],
)
async def test_given_flinks_two_ways_of_not_knowing_a_job_then_both_are_understood(
    flink: Answers, cluster: Cluster, answer: Any
) -> None:
    flink.default = answer
    with pytest.raises(JobNotFound):
        await cluster.status(JOB)


async def test_given_a_cluster_that_is_not_flink_then_a_404_is_not_an_unknown_job(
    flink: Answers, cluster: Cluster
) -> None:
    flink.default = (404, b"<html>nothing here</html>")
    with pytest.raises(ClusterError):
        await cluster.status(JOB)


async def test_given_fields_of_a_newer_flink_then_they_are_ignored(flink: Answers, cluster: Cluster) -> None:
    flink.default = {"jobs": [{"jid": JOB, "name": "n", "state": "NEW_STATE", "start-time": 1, "novelty": {"x": 1}}]}
    [job] = await cluster.jobs()
    assert (job.id, job.state) == (JOB, "NEW_STATE")


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"status": {"id": "IN_PROGRESS"}, "operation": None}, SavepointState.IN_PROGRESS),
        ({"status": {"id": "COMPLETED"}, "operation": {"location": "file:/s"}}, SavepointState.COMPLETED),
        (
            {
                "status": {"id": "COMPLETED"},
                "operation": {"failure-cause": {"class": "X", "stack-trace": "a.A: x\nCaused by: b.B: full disk"}},
            },
            SavepointState.FAILED,
        ),
    ],
)
async def test_given_a_savepoint_then_completed_with_a_cause_is_a_failure(
    flink: Answers, cluster: Cluster, answer: Any, state: SavepointState
) -> None:
    flink.default = answer
    status = await cluster.savepoint_status(JOB, "t")
    assert status is not None
    assert status.state is state
    assert status.failure == ("b.B: full disk" if state is SavepointState.FAILED else None)


async def test_given_a_measurement_that_is_not_there_then_it_is_none(flink: Answers, cluster: Cluster) -> None:
    flink.default = [{"id": "busy", "sum": "NaN"}, {"id": "out", "sum": 3.0}, {"id": "none"}]
    assert await cluster.vertex_metrics(JOB, "v", ["x"]) == {"busy": None, "out": 3.0, "none": None}


async def test_given_a_job_that_has_ended_when_it_is_canceled_then_that_is_fine(
    flink: Answers, cluster: Cluster
) -> None:
    flink.default = (409, {"errors": ["Job cancellation failed because the job has already reached another state"]})
    await cluster.cancel(JOB)


async def test_one_address_has_one_client() -> None:
    clusters = Clusters()
    assert clusters.at("http://a:1") is clusters.at("http://a:1")
    assert clusters.at("http://a:1") is not clusters.at("http://b:1")
    await clusters.close()


@pytest.mark.parametrize(
    ("trace", "cause"),
    [
        ("", ""),
        ("a.A: only\n\tat b(C.java:1)", "a.A: only"),
        ("a.A: x\n\tat b\nCaused by: c.C: y\n\tat d\nCaused by: e.E: deep\n\t... 3 more", "e.E: deep"),
        ("a.A: x\nCaused by: c.C: the cause\n\tSuppressed: s.S: no\n\tCaused by: t.T: no", "c.C: the cause"),
        ("a.A: x\nCaused by: c.C: two\nlines\n\tat d", "c.C: two\nlines"),
        ("<Exception on server side:\na.A: x\n\tat b\nEnd of exception on server side>", "a.A: x"),
    ],
)
def test_the_root_cause_is_the_deepest_one_that_is_not_indented(trace: str, cause: str) -> None:
    assert root_cause(trace) == cause


def test_all_errors_are_of_one_family() -> None:
    assert all(issubclass(one, FlinkRestError) for one in (ClusterUnreachable, ClusterError, JobNotFound))


async def test_given_what_another_version_leaves_out_then_a_jobs_state_has_the_models_values(
    flink: Answers, cluster: Cluster
) -> None:
    whole = {"jid": JOB, "name": "a", "state": "RUNNING", "start-time": 1, "end-time": -1, "last-modification": 7}
    short = {"jid": "b" * 32, "name": "b", "state": "FAILED", "start-time": "1"}
    flink.by_path["/jobs/overview"] = {"jobs": [{**whole, "tasks": {"running": 2, "total": 3}}, short]}

    assert await cluster.job_states() == [
        JobState(JOB, "RUNNING", 7, -1, 2, 3),
        JobState("b" * 32, "FAILED", 0, -1, 0, 0),
    ]


async def test_given_a_job_whose_state_is_no_text_then_that_is_not_flinks_answer(
    flink: Answers, cluster: Cluster
) -> None:
    job = {"jid": JOB, "name": "a", "state": 5, "start-time": 1, "end-time": -1, "last-modification": 7, "tasks": {}}
    flink.by_path["/jobs/overview"] = {"jobs": [job]}

    with pytest.raises(
        ClusterError, match=r"this is not a JobSummary of Flink's: state: Input should be a valid string"
    ):
        await cluster.job_states()
