"""A job's settings of how it is looked after, as the supervisor gets them."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import InvalidInput
from app.hlink.jobs.looking_after import check, needed_slots, queue_of, recovery_of
from app.hlink.jobs.models import StoredJob
from stream_jobs.definitions import Execution, Job


def job(**settings: Any) -> StoredJob:
    return StoredJob(id=1, code="J1", name="totals", cluster_id=1, settings=settings)


def test_given_nothing_then_a_job_queues_like_all_and_is_started_again_when_it_is_lost() -> None:
    assert queue_of(job(), "http://flink", 2, 3600) == {
        "place": "http://flink", "slots": 2, "priority": 0, "wait_s": 3600, "name": "totals"
    }  # fmt: skip
    assert recovery_of({}) == {"of": ["LOST"], "without_state": False}


@pytest.mark.parametrize(("own", "of_all", "wait_s"), [(None, 60, 60), (5, 60, 5), (0, 60, None), (None, 0, None)])
def test_the_limit_of_waiting_is_the_jobs_own_or_that_of_all(own: int | None, of_all: float, wait_s: Any) -> None:
    settings = {} if own is None else {"queue_limit_s": own}
    assert queue_of(job(**settings), "p", 1, of_all)["wait_s"] == wait_s


@pytest.mark.parametrize(("recover", "ends"), [("none", []), ("lost", ["LOST"]), ("failed", ["LOST", "FAILED"])])
def test_what_a_job_is_started_again_after(recover: str, ends: list[str]) -> None:
    found = recovery_of({"recover": recover, "recover_without_state": 1})
    assert found == {"of": ends, "without_state": True}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recover": "always"}, "recover: 'always' is not possible (use none, lost or failed)"),
        ({"recover_without_state": 2}, "recoverWithoutState: 2 is not possible (use 0 or 1)"),
        ({"priority": 1_000_001}, "priority: 1000001 is not possible (use -1000000 to 1000000)"),
        (
            {"queue_limit_s": -1},
            "queueLimitS: -1 is not possible (use 0 for no limit, or the seconds that it waits at most)",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(settings)
    assert refused.value.message == message


@pytest.mark.parametrize(
    ("compiled", "slots"),
    [
        ('{"nodes": []}', 2),
        ('{"options": {"sink.parallelism" : "5", "scan.parallelism":"3"}}', 5),
        ('{"options": {"sink.parallelism": "1"}}', 2),
    ],
)
def test_a_job_needs_as_many_slots_as_its_most_parallel_operator(compiled: str, slots: int) -> None:
    definition = Job("j", (), (), Execution(parallelism=2))
    assert needed_slots(definition, compiled) == slots
