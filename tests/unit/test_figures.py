"""Figures of jobs: out of what Flink measures, and on their way to Prometheus."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.hlink.notifications.judge import failed_in_a_row
from app.hlink.watch import figures as figures_of_flink
from app.hlink.watch.collector import Measured, samples
from app.hlink.watch.figures import Figures, figures
from app.hlink.watch.jobs import Jobs, Watched
from app.metrics import JOB_GAUGES, JobFigures, Sample
from app.supervisor import State
from stream_jobs.rest import Checkpoint, CheckpointCounts, Checkpoints, Cluster, Spread
from tests.answers import Answers, answering

OF_JOB = {
    "numRestarts": 2.0,
    "lastCheckpointDuration": 11.0,
    "lastCheckpointFullSize": 19102.0,
    "lastCheckpointCompletedTimestamp": 1_795_264_198_522.0,
    "numberOfCompletedCheckpoints": 130.0,
    "numberOfFailedCheckpoints": 1.0,
}
EVENTS = "Source__KafkaSource-default_catalog_default_database_events"


def spread(total: float, least: float | None = None, most: float | None = None) -> Spread:
    return Spread(sum=total, min=total if least is None else least, max=total if most is None else most)


def test_what_flink_measures_of_a_job_becomes_its_figures() -> None:
    """The names are those of a job of two sinks, Kafka's and a database's, behind one source."""
    found = figures(
        OF_JOB,
        [
            (f"{EVENTS}.pendingRecords", spread(4200, 2000, 2200)),
            (f"{EVENTS}.numRecordsInPerSecond", spread(250, 100, 150)),
            (f"{EVENTS}.currentOutputWatermark", spread(2e12, 1_795_219_920_000.0, 1_795_219_930_000.0)),
            ("backPressuredTimeMsPerSecond", spread(1200, 200, 1000)),
            ("currentInputWatermark", spread(2e12, 1_795_219_910_000.0, 1_795_219_930_000.0)),
            ("out[7]__Writer.numRecordsInPerSecond", spread(2)),
            ("backPressuredTimeMsPerSecond", spread(0)),
            ("Sink__totals[11].numRecordsInPerSecond", spread(250)),
            ("currentInputWatermark", spread(-1.8e19, -(2.0**63), -(2.0**63))),
        ],
    )
    assert found == Figures(
        restarts=2,
        lag={"events": 4200},
        checkpoint_ms=11,
        checkpoint_bytes=19102,
        checkpoint_at=1_795_264_198_522,
        checkpoints_completed=130,
        checkpoints_failed=1,
        back_pressure=1.0,
        records_in=250,
        records_out=252,
        watermark=1_795_219_910_000,
    )


def test_given_nothing_measured_yet_then_nothing_is_made_up() -> None:
    nothing = dict.fromkeys(OF_JOB) | {"numberOfCompletedCheckpoints": 0.0, "lastCheckpointDuration": -1.0}
    assert figures(nothing, [("currentInputWatermark", Spread())]) == Figures(checkpoints_completed=0)


@pytest.fixture
async def flink() -> AsyncIterator[Answers]:
    async with answering() as answers:
        yield answers


async def never_wait() -> None:
    return None


async def test_names_are_asked_for_once_and_only_what_is_wanted_is_asked_for(flink: Answers) -> None:
    vertex = {"id": "v", "name": "Source: events", "parallelism": 1, "status": "RUNNING"}
    flink.by_path["/jobs/j"] = {"jid": "j", "name": "n", "state": "RUNNING", "start-time": 1, "vertices": [vertex]}
    metrics = "/jobs/j/vertices/v/subtasks/metrics"
    names = ["busyTimeMsPerSecond", "backPressuredTimeMsPerSecond", f"{EVENTS}.pendingRecords", f"{EVENTS}.numBytesIn"]
    flink.by_path[metrics] = [{"id": name} for name in names]
    async with Cluster(flink.address) as cluster:
        known = await figures_of_flink.names_of(cluster, "j", never_wait)
        assert known == {"v": [names[1], names[2]]}

        flink.by_path["/jobs/j/metrics"] = [{"id": "numRestarts", "value": "3"}]
        flink.by_path[metrics] = [{"id": names[2], "sum": 7.0, "min": 3.0, "max": 4.0}]
        del flink.asked[:]
        found, complete = await figures_of_flink.figures_of(cluster, "j", known, never_wait)
        assert (found.restarts, found.lag, complete) == (3, {"events": 7}, True)
        assert len(flink.asked) == 2

        flink.by_path[metrics] = []
        found, complete = await figures_of_flink.figures_of(cluster, "j", known, never_wait)
        assert (found.restarts, found.lag, complete) == (3, {}, False)


def test_names_are_asked_for_in_pieces_that_flinks_server_takes() -> None:
    names = [f"Source__{'n' * 200}{number}.pendingRecords" for number in range(40)]
    pieces = list(figures_of_flink._pieces(names))
    assert [name for piece in pieces for name in piece] == names
    assert max(len(",".join(piece)) for piece in pieces) <= 3000


def watched(job_id: int, state: State, name: str = "orders") -> Watched:
    return Watched(job_id, name, "main", "http://flink:8081", job_id + 1000, f"{job_id:032x}", state, 0.4, 2, None)


def shown(collector: JobFigures) -> dict[str, list[tuple[dict[str, str], float]]]:
    registry = CollectorRegistry()
    registry.register(collector)
    return {
        family.name: [(sample.labels, sample.value) for sample in family.samples]
        for family in text_string_to_metric_families(generate_latest(registry).decode())
    }


def test_figures_are_shown_with_their_labels_and_gone_with_their_job() -> None:
    collector = JobFigures()
    name = 'or"ders\n\\'
    jobs = Jobs([watched(1, State.RUNNING, name)], [watched(2, State.LOST)], 0)
    found = Figures(restarts=1, lag={"events": 5}, checkpoint_at=1_000_000, checkpoint_ms=250, watermark=2_000_000)
    collector.replace(samples(jobs, {1001: Measured(found, 1_060.0)}))

    families = shown(collector)
    one = {"job_id": "1", "job": name, "cluster": "main"}
    assert families["hlink_job_state"] == [
        ({**one, "state": "RUNNING"}, 1.0),
        ({"job_id": "2", "job": "orders", "cluster": "main", "state": "LOST"}, 1.0),
    ]
    assert families["hlink_job_lag_records"] == [({**one, "source": "events"}, 5.0)]
    assert families["hlink_job_checkpoint_age_seconds"] == [(one, 60.0)]
    assert families["hlink_job_checkpoint_seconds"] == [(one, 0.25)]
    assert families["hlink_job_watermark_lag_seconds"] == [(one, 0.0)]
    assert families["hlink_job_slots"] == [(one, 2.0)]
    assert families["hlink_job_back_pressure_ratio"] == []

    collector.replace(samples(Jobs([], [], 0), {}))
    assert not any(shown(collector).values())
    assert set(shown(collector)) == set(JOB_GAUGES)


def test_a_sample_has_the_labels_of_its_gauge() -> None:
    jobs = Jobs([watched(1, State.RUNNING)], [], 0)
    every = Figures(1, {"s": 1}, 1, 1, 1, 1, 1, 0.5, 1, 1, 1)
    found: list[Sample] = samples(jobs, {1001: Measured(every, 1.0)})
    assert {one.gauge for one in found} == set(JOB_GAUGES)
    assert all(len(one.labels) == len(JOB_GAUGES[one.gauge][1]) for one in found)


def test_failed_checkpoints_are_counted_up_to_the_newest_complete_one() -> None:
    def one(number: int, status: str, *, savepoint: bool = False, why: str | None = None) -> Checkpoint:
        return Checkpoint(id=number, status=status, is_savepoint=savepoint, failure_message=why)

    history = [
        one(9, "IN_PROGRESS"), one(8, "FAILED", why="expired"), one(7, "COMPLETED", savepoint=True),
        one(6, "FAILED", why="declined"), one(5, "COMPLETED"), one(4, "FAILED"),
    ]  # fmt: skip
    counts = CheckpointCounts()
    assert failed_in_a_row(Checkpoints(counts=counts, history=history)) == (2, "expired")
    assert failed_in_a_row(Checkpoints(counts=counts, history=history[4:])) == (0, None)
    assert failed_in_a_row(Checkpoints(counts=counts)) == (0, None)
