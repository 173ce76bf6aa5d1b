"""Where a job begins in a topic, and where and when its rows stand in one: what is in the topics, before and after."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from stream_jobs.local.endpoints import Endpoints
from tests.services import Api, Json

NewTopic = Callable[..., str]
Consume = Callable[..., list[Any]]
# Of today: the broker deletes what is older than its retention, by the messages' own time.
LATER = int(time.time() * 1000) - 60_000
EARLIER = LATER - 60_000
COLUMNS = {"n": "INT"}


@pytest.fixture
def producer(endpoints: Endpoints) -> Iterator[KafkaProducer]:
    opened = KafkaProducer(bootstrap_servers=endpoints.kafka_bootstrap, linger_ms=5)
    yield opened
    opened.close()


def message(n: int) -> bytes:
    return json.dumps({"n": n}).encode()


@contextmanager
def copying(
    api: Api, topic: str, out: str, *, source: Mapping[str, str], sink: Mapping[str, str], **settings: Any
) -> Iterator[int]:
    """A running job that copies the numbers of one topic into another."""
    tag = uuid.uuid4().hex[:8]
    read = api.kafka_source(f"read_{tag}", topic, COLUMNS, **source)
    write = api.kafka_sink(f"write_{tag}", out, COLUMNS, **sink)
    body: Json = api.job(f"copy {tag}", [read], {write: f"SELECT n FROM read_{tag}"}, **settings)
    job_id = int(api.ok("POST", "/jobs/addDO", json=body)["id"])
    api.run(job_id)
    try:
        yield job_id
    finally:
        api.call("POST", f"/jobs/cancel/{job_id}")


@pytest.mark.parametrize(
    ("fields", "begins_with"),
    [
        ({"startup_mode": "earliest-offset"}, {0, 1, 2, 10, 11, 12}),
        ({"startup_mode": "latest-offset"}, set()),
        ({"startup_mode": "group-offsets"}, {2, 11, 12}),
        ({"startup_mode": "specific-offsets", "partition_offset": "0,1;1,2"}, {1, 2, 12}),
        ({"startup_mode": "timestamp", "startup_timestamp": str(LATER)}, {2, 12}),
    ],
    ids=lambda given: given.get("startup_mode") if isinstance(given, dict) else "",
)
def test_given_a_startup_mode_when_a_job_runs_then_it_begins_where_that_says(
    api: Api,
    endpoints: Endpoints,
    kafka_topic: NewTopic,
    producer: KafkaProducer,
    fields: dict[str, str],
    begins_with: set[int],
) -> None:
    topic, out, group = kafka_topic("in", partitions=2), kafka_topic("out"), f"group-{uuid.uuid4().hex[:8]}"
    for partition in (0, 1):
        for position, at in enumerate((EARLIER, EARLIER, LATER)):
            producer.send(topic, message(10 * partition + position), partition=partition, timestamp_ms=at)
    producer.flush()
    reader = KafkaConsumer(bootstrap_servers=endpoints.kafka_bootstrap, group_id=group, enable_auto_commit=False)
    reader.commit(
        {
            TopicPartition(topic, 0): OffsetAndMetadata(2, "", -1),
            TopicPartition(topic, 1): OffsetAndMetadata(1, "", -1),
        }
    )
    reader.close()
    written = KafkaConsumer(
        out, bootstrap_servers=endpoints.kafka_bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=1000
    )
    with copying(api, topic, out, source={**fields, "group_id": group}, sink={}):
        seen: list[int] = []
        deadline = time.monotonic() + 90
        # Each partition is read in order: once a later number of both has come, nothing of before is missing.
        while not {100, 101} <= set(seen):
            assert time.monotonic() < deadline, seen
            for partition in (0, 1):
                producer.send(topic, message(100 + partition), partition=partition, timestamp_ms=LATER)
            producer.flush()
            seen += [json.loads(record.value)["n"] for record in written]
    written.close()
    before = [n for n in seen if n < 100]
    assert (set(before), len(before)) == (begins_with, len(begins_with))


@pytest.mark.parametrize(("partitioner", "partitions"), [("fixed", 1), ("round-robin", 2)])
def test_given_a_partitioner_when_rows_are_written_then_they_are_in_one_partition_or_in_all(
    api: Api,
    endpoints: Endpoints,
    kafka_topic: NewTopic,
    producer: KafkaProducer,
    consume: Consume,
    partitioner: str,
    partitions: int,
) -> None:
    topic, out = kafka_topic("in"), kafka_topic("out", partitions=2)
    rows = 10_000  # partitions take turns batch by batch
    for n in range(rows):
        producer.send(topic, message(n))
    producer.flush()
    with copying(api, topic, out, source={}, sink={"connector_sink_partitione": partitioner}):
        assert sorted(row["n"] for row in consume(out, rows, timeout=60)) == list(range(rows))
    looker = KafkaConsumer(bootstrap_servers=endpoints.kafka_bootstrap)
    filled = looker.end_offsets([TopicPartition(out, 0), TopicPartition(out, 1)])
    looker.close()
    assert len([end for end in filled.values() if end]) == partitions, filled


def test_given_exactly_once_when_rows_are_written_then_readers_of_committed_messages_see_them_with_a_checkpoint(
    api: Api, kafka_topic: NewTopic, producer: KafkaProducer, consume: Consume
) -> None:
    topic, out = kafka_topic("in"), kafka_topic("out")
    for n in range(20):
        producer.send(topic, message(n))
    producer.flush()
    sink = {"exactly_once": "yes"}
    # Flink makes the first checkpoint at a random moment between the pause and the interval.
    rarely = {"checkpointInterval": 600_000, "minPauseBetweenCheckpoints": 600_000}
    with copying(api, topic, out, source={}, sink=sink, **rarely) as job_id:
        consume(out, 20, timeout=60)  # they are written
        assert consume(out, None, committed=True) == []
        flink_id = api.ok("GET", f"/jobs/{job_id}")["flinkJobId"]
        httpx.post(f"{api.endpoints.flink_url}/jobs/{flink_id}/checkpoints", json={}).raise_for_status()
        assert [row["n"] for row in consume(out, 20, timeout=60, committed=True)] == list(range(20))
