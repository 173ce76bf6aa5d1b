"""Sample messages out of a topic."""

from __future__ import annotations

import asyncio
import time

from kafka import TopicPartition
from kafka.errors import KafkaError

from app.hlink.connections.kafka import Broker, kafka_reason
from app.hlink.connections.outcome import unreachable
from app.hlink.tables import fields
from stream_jobs.definitions import KafkaSource

SAMPLE_S = 10.0
"""The longest that reading sample messages may take."""


class TopicUnreadable(RuntimeError):
    """Messages cannot be read from a topic from here; the message says why and what to do."""


async def newest_messages(source: KafkaSource, wanted: int) -> list[tuple[str, str]]:
    """The newest ``wanted`` messages of a topic as text, each with its place, oldest first in each partition.

    Takes at most ``SAMPLE_S`` seconds; what was read until then is answered. Nothing is committed.
    Raises TopicUnreadable.
    """
    servers, broker = source.bootstrap_servers, Broker.of(source)
    if not broker.can_be_asked:
        raise TopicUnreadable(
            f"the broker {servers} cannot be read from here: the client properties name key stores or mechanisms that "
            "only Flink's client can use. Upload sample messages instead"
        )
    if reason := await unreachable(fields.brokers(servers)):
        raise TopicUnreadable(f"no Kafka broker answers at {servers} ({reason}): correct bootstrap_servers")
    try:
        return await asyncio.to_thread(_read_newest, broker, source.topic, wanted)
    except KafkaError as error:
        raise TopicUnreadable(f"topic '{source.topic}' at {servers} cannot be read: {kafka_reason(error)}") from error


def _read_newest(broker: Broker, topic: str, wanted: int) -> list[tuple[str, str]]:
    deadline = time.monotonic() + SAMPLE_S
    consumer = broker.consumer()
    try:
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise TopicUnreadable(
                f"topic '{topic}' does not exist on broker {broker.servers}: create it, or correct it"
            )
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        first, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        share = -(-wanted // len(partitions))
        for partition in partitions:
            consumer.seek(partition, max(first[partition], ends[partition] - share))
        found: list[tuple[str, str]] = []
        while time.monotonic() < deadline and any(consumer.position(one) < ends[one] for one in partitions):
            for partition, records in consumer.poll(timeout_ms=200).items():
                found += [
                    (f"partition {partition.partition}, offset {one.offset}", one.value.decode("utf-8", "replace"))
                    for one in records
                    if one.value is not None and one.offset < ends[partition]
                ]
        return found[-wanted:]
    finally:
        consumer.close()
