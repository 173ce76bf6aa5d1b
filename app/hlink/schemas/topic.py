"""Sample messages out of a topic."""

from __future__ import annotations

import asyncio
import time

from kafka import TopicPartition
from kafka.errors import KafkaError

from app.errors import InvalidInput, Problem
from app.hlink.connections.kafka import Broker, kafka_reason
from app.hlink.connections.outcome import unreachable
from app.hlink.tables import fields
from stream_jobs.definitions import KafkaSource

SAMPLE_S = 10.0
"""The longest that reading sample messages may take."""
SAMPLE_BYTES = 16 * 1024 * 1024


class TopicUnreadable(RuntimeError):
    """Messages cannot be read from a topic from here; the message says why and what to do."""


async def newest_messages(source: KafkaSource, wanted: int) -> list[tuple[str, str]]:
    """The newest ``wanted`` messages of a topic as text, each with its place, oldest first in each partition.

    Takes at most ``SAMPLE_S`` seconds and ``SAMPLE_BYTES``; what was read until then is answered. Nothing is committed.
    Raises TopicUnreadable, and InvalidInput when there is no such topic.
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
            raise InvalidInput(
                Problem(
                    f"topic '{topic}' does not exist on broker {broker.servers}",
                    field="topic",
                    remedy="correct topic or bootstrap_servers",
                )
            )
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        first, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        share = -(-wanted // len(partitions))
        for partition in partitions:
            consumer.seek(partition, max(first[partition], ends[partition] - share))
        found: list[tuple[str, str]] = []
        size = 0
        while size < SAMPLE_BYTES and any(consumer.position(one) < ends[one] for one in partitions):
            if time.monotonic() > deadline:
                break
            for partition, records in consumer.poll(timeout_ms=200).items():
                for one in records:
                    if one.value is not None and one.offset < ends[partition]:
                        place = f"partition {partition.partition}, offset {one.offset}"
                        found.append((place, one.value.decode("utf-8", "replace")))
                        size += len(one.value)
        return found[-wanted:]
    finally:
        consumer.close()
