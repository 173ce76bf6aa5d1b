"""Rows out of a Kafka topic, between two moments: bounded by the offsets that these have when the copy begins."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from app.hlink.extracts.messages import Unreadable, cells, reader_of
from app.hlink.extracts.orders import Order, Selection, Topic
from app.hlink.extracts.rows import BrokerRefused, Refused, Rows

STALL_S = 60.0
"""So long without a message that is there to come means that the broker does not send it."""
_AT_ONCE = 2000
"""Messages that are asked for together."""


@dataclass(frozen=True, slots=True)
class _Range:
    """The offsets to read of a partition: from ``first`` to before ``end``."""

    first: int
    end: int


def copy(order: Order, source: Topic, rows: Rows) -> None:
    """Copy the order's rows. Raises :class:`Refused`, and :class:`BrokerRefused` for what the broker says.

    Messages without a value, which delete a key, are no rows; of a key that has several all are.
    """
    try:
        _copy(order, source, rows)
    except KafkaError as error:
        raise BrokerRefused(str(error)) from error


def _copy(order: Order, source: Topic, rows: Rows) -> None:
    rows.names([leaf.name for leaf in order.leaves])
    consumer = KafkaConsumer(**source.options)
    try:
        numbers = consumer.partitions_for_topic(source.topic)
        if not numbers:
            raise Refused(
                f"topic '{source.topic}' does not exist on broker {source.servers}: create it, or correct "
                "connector_topic"
            )
        partitions = [TopicPartition(source.topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        ranges = _ranges(consumer, partitions, order.selection)
        for partition, range_ in ranges.items():
            consumer.seek(partition, range_.first)
        _read(consumer, ranges, _Reading(order, source, rows))
    finally:
        consumer.close()


def _ranges(
    consumer: KafkaConsumer, partitions: Sequence[TopicPartition], wanted: Selection
) -> Mapping[TopicPartition, _Range]:
    begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    since = _offsets_at(consumer, partitions, wanted.from_ms)
    until = _offsets_at(consumer, partitions, wanted.to_ms)
    found = {}
    for one in partitions:
        # None: no message is as young as that.
        first = begins[one] if since is None else ends[one] if since[one] is None else since[one].offset
        end = ends[one] if until is None or until[one] is None else until[one].offset
        found[one] = _Range(first, min(end, ends[one]))
    return found


def _offsets_at(
    consumer: KafkaConsumer, partitions: Sequence[TopicPartition], at_ms: int | None
) -> Mapping[TopicPartition, Any] | None:
    return None if at_ms is None else consumer.offsets_for_times(dict.fromkeys(partitions, max(at_ms, 0)))


def _read(consumer: KafkaConsumer, ranges: Mapping[TopicPartition, _Range], reading: _Reading) -> None:
    total = sum(max(one.end - one.first, 0) for one in ranges.values())
    reached = {partition: range_.first for partition, range_ in ranges.items()}
    moved_at = time.monotonic()
    while True:
        for partition, range_ in ranges.items():
            if reached[partition] >= range_.end:
                consumer.pause(partition)
        left = sum(max(range_.end - reached[partition], 0) for partition, range_ in ranges.items())
        if not left or reading.rows.left == 0:
            return
        reading.rows.tell(1 - left / total)
        for partition, messages in consumer.poll(timeout_ms=500, max_records=_AT_ONCE).items():
            reading.take([one for one in messages if one.offset < ranges[partition].end])
        # Beyond the messages themselves: what was compacted away, or marks a transaction's end, is passed over.
        for partition in ranges:
            if (position := consumer.position(partition)) > reached[partition]:
                reached[partition], moved_at = position, time.monotonic()
        if time.monotonic() - moved_at > STALL_S:
            raise Refused(
                f"the broker has sent nothing for {STALL_S:g} s, with {left} messages to come: try again later"
            )


class _Reading:
    """Makes rows of messages."""

    def __init__(self, order: Order, source: Topic, rows: Rows) -> None:
        self.rows = rows
        self._leaves = order.leaves
        self._selection = order.selection
        self._reader = reader_of(source.table, source.format)
        self._may_skip = source.may_skip

    def take(self, messages: Sequence[Any]) -> None:
        """Take in the messages of a partition. Raises :class:`Refused` for one that cannot be read."""
        found: list[list[str]] = []
        for one in messages:
            if one.value is None or not self._is_wanted(one.timestamp):
                continue
            try:
                found += [cells(self._leaves, row) for row in self._reader(one.value)]
            except Unreadable as error:
                if not self._may_skip:
                    raise Refused(
                        f"the message at offset {one.offset} of partition {one.partition} cannot be read: {error}. "
                        "Correct the table's definition, choose other times, or have a source leave such messages "
                        "out (on_parse_error skip)"
                    ) from None
                self.rows.skipped += 1
        self.rows.add(found)

    def _is_wanted(self, at_ms: int) -> bool:
        """Whether a message between the offsets is of the time, too: messages may come late."""
        since, until = self._selection.from_ms, self._selection.to_ms
        return (since is None or at_ms >= since) and (until is None or at_ms < until)
