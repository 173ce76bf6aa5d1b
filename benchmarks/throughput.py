"""How fast a generated job reads a full topic, against the SQL that somebody would write for it by hand.

The job counts and averages a topic of JSON per key and hour, into another topic. Its rate is taken between its first
and its last result: that topic carries the time at which the broker appended each record, so that neither the job's
start nor a polling interval is in the figure. The number of results is known beforehand, so a job that computed
something else would not count. Runs alternate; the first of each side are not counted, they warm the TaskManager up.

Rates of one and the same job differ by some 5 % on a quiet machine of two cores, by half when it does other work; and
medians of ten runs by hand differed from ten others' by up to 3 %. So there are many, and a ratio is the middle
one of all quotients of one run of ours and one by hand, which varies less than the quotient of two medians (Hodges and
Lehmann's estimate, of the logarithms). The processor time that the TaskManager spends on a run is told beside it: a
job that does more work a row shows there first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

import psutil
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from benchmarks.http import Failed
from benchmarks.latency import Sides
from benchmarks.report import p50
from benchmarks.statements import Column, Statement, Table, kafka_sink, kafka_source
from stream_jobs.local.endpoints import Endpoints

ROWS_PER_WINDOW = 10_000
KEYS = 100
_READINGS = "bench-readings"
_FILLED_WITHIN_S = 120.0
_READ_WITHIN_S = 120.0
_POLL_S = 0.1
_MOST_PAIRS, _LEAST_PAIRS, _ALTERNATE_S = 40, 3, 420.0
"""Runs of each side that count at each parallelism: no new pair begins when the time is over."""

Figures = dict[str, float | int]


@dataclass(frozen=True, slots=True)
class _Run:
    """Rows a second, and the seconds of processor time that the TaskManager spent."""

    rate: float
    processor_s: float


def throughput(sides: Sides, endpoints: Endpoints, worker: psutil.Process, windows: int) -> Figures:
    """Rows a second of both, at parallelism 1 and 2.

    :param worker: the TaskManager.
    :param windows: how many windows the topic holds, of ``ROWS_PER_WINDOW`` rows each.
    """
    figures: Figures = {"throughput_rows": windows * ROWS_PER_WINDOW}
    admin = KafkaAdminClient(bootstrap_servers=endpoints.kafka_bootstrap)
    consumer = KafkaConsumer(bootstrap_servers=endpoints.kafka_bootstrap, enable_auto_commit=False)
    try:
        admin.create_topics({_READINGS: {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True)
        _fill(sides, endpoints, windows)
        for parallelism in (1, 2):
            topic = f"bench-hourly-{parallelism}"
            stamped = {"message.timestamp.type": "LogAppendTime"}
            admin.create_topics(
                {topic: {"num_partitions": 1, "replication_factor": 1, "configs": stamped}}, wait_for_metadata=True
            )
            results = _Results(consumer, topic, windows)
            ours, theirs = _alternate(sides, _job(endpoints, topic, parallelism), results, worker)
            figures |= _figures(ours, theirs, parallelism)
    finally:
        consumer.close()
        admin.close()
    # One figure for the target. Not the worse of two: of two noisy figures that is less than either is on average.
    both = (figures[f"throughput_vs_hand_written_{parallelism}"] for parallelism in (1, 2))
    return figures | {"throughput_vs_hand_written": geometric_mean(both)}


def _figures(ours: Sequence[_Run], theirs: Sequence[_Run], parallelism: int) -> Figures:
    rates, by_hand = [run.rate for run in ours], [run.rate for run in theirs]
    return {
        f"throughput_rows_per_s_{parallelism}": p50(rates),
        f"hand_written_rows_per_s_{parallelism}": p50(by_hand),
        f"throughput_vs_hand_written_{parallelism}": _middle_quotient(rates, by_hand),
        f"processor_time_vs_hand_written_{parallelism}": _middle_quotient(
            [run.processor_s for run in ours], [run.processor_s for run in theirs]
        ),
        f"throughput_pairs_{parallelism}": len(ours),
        # How far apart runs of one and the same job are: no ratio means more than this.
        f"throughput_spread_{parallelism}": (max(by_hand) - min(by_hand)) / p50(by_hand),
    }


def _middle_quotient(ours: Sequence[float], others: Sequence[float]) -> float:
    return p50([one / other for one in ours for other in others])


class _Results:
    """The topic that a run writes to, from where it ends now."""

    def __init__(self, consumer: KafkaConsumer, topic: str, windows: int) -> None:
        self._consumer = consumer
        self._partition = TopicPartition(topic, 0)
        # The last window stays open: no later row closes it.
        self._expected = (windows - 1) * KEYS
        # The first result comes when the first window has been read, the last when all but the last have.
        self._rows = (windows - 2) * ROWS_PER_WINDOW

    def end(self) -> int:
        return int(self._consumer.end_offsets([self._partition])[self._partition])

    def rate(self, begin: int) -> float:
        """Wait for all results behind ``begin``; rows a second between the first and the last of them."""
        deadline = time.monotonic() + _READ_WITHIN_S
        while (found := self.end() - begin) < self._expected:
            if time.monotonic() > deadline:
                raise Failed(f"{found} of {self._expected} results after {_READ_WITHIN_S:.0f} s")
            time.sleep(_POLL_S)
        if found > self._expected:
            raise Failed(f"{found} results instead of {self._expected}")
        return self._rows / ((self._time_at(begin + found - 1) - self._time_at(begin)) / 1000)

    def _time_at(self, offset: int) -> int:
        self._consumer.assign([self._partition])
        self._consumer.seek(self._partition, offset)
        deadline = time.monotonic() + _READ_WITHIN_S
        while time.monotonic() < deadline:
            for records in self._consumer.poll(timeout_ms=500, max_records=1).values():
                record: Any = records[0]
                return int(record.timestamp)
        raise Failed(f"the result at offset {offset} cannot be read")


def _alternate(
    sides: Sides, job: Statement, results: _Results, worker: psutil.Process
) -> tuple[list[_Run], list[_Run]]:
    """Runs of both, as many as the time allows."""
    sides.service.add_tables(job.tables)
    _, job_id = sides.service.add(job, sides.literal())

    def run_ours() -> _Run:
        begin, spent = results.end(), _spent(worker)
        sides.service.run(job_id)
        measured = _Run(results.rate(begin), _spent(worker) - spent)
        sides.service.cancel(job_id)
        sides.cluster.wait_until_idle()
        return measured

    def run_theirs() -> _Run:
        begin, spent = results.end(), _spent(worker)
        _, flink_id = sides.gateway.submit(job, 0)
        measured = _Run(results.rate(begin), _spent(worker) - spent)
        sides.cluster.cancel(flink_id)
        sides.cluster.wait_until_idle()
        return measured

    ours: list[_Run] = []
    theirs: list[_Run] = []
    deadline = time.monotonic() + _ALTERNATE_S
    for pair in range(-1, _MOST_PAIRS):
        if pair >= _LEAST_PAIRS and time.monotonic() > deadline:
            break
        turn: list[tuple[Callable[[], _Run], list[_Run]]] = [(run_ours, ours), (run_theirs, theirs)]
        for run, counted in turn if pair % 2 == 0 else reversed(turn):
            measured = run()
            if pair >= 0:
                counted.append(measured)
    return ours, theirs


def _spent(worker: psutil.Process) -> float:
    times = worker.cpu_times()
    return float(times.user + times.system)


def _job(endpoints: Endpoints, topic: str, parallelism: int) -> Statement:
    hourly = (Column("k", "STRING"), Column("opens", "TIMESTAMP(3)"), Column("n", "BIGINT"), Column("mean", "DOUBLE"))
    sink = f"hourly_{parallelism}"
    select = (
        "SELECT k, window_start, COUNT(*), AVG(v) FROM TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' HOUR) "
        "GROUP BY k, window_start, window_end"
    )
    return Statement(
        f"hourly-{parallelism}",
        (_readings(endpoints), kafka_sink(sink, topic, hourly, endpoints)),
        select,
        f"INSERT INTO {sink} {select}",
        parallelism,
    )


def _readings(endpoints: Endpoints) -> Table:
    columns = (Column("k", "STRING"), Column("v", "DOUBLE"), Column("note", "STRING"))
    return kafka_source("readings", _READINGS, columns, endpoints)


def _fill(sides: Sides, endpoints: Endpoints, windows: int) -> None:
    """Let Flink itself write the rows: in the order of time, all keys in every window."""
    readings = _readings(endpoints)
    rows = windows * ROWS_PER_WINDOW
    numbers = (
        "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '100000000', "
        "'fields.n.kind' = 'sequence', "
        f"'fields.n.start' = '0', 'fields.n.end' = '{rows - 1}')"
    )
    insert = (
        f"INSERT INTO readings SELECT CONCAT('key-', CAST(MOD(n, {KEYS}) AS STRING)), "
        "MOD(n, 9973) / CAST(8 AS DOUBLE), "
        "CONCAT('reading number ', CAST(n AS STRING)), "
        f"CAST(TIMESTAMPADD(SECOND, CAST(n * 3600 / {ROWS_PER_WINDOW} AS INT), TIMESTAMP '2026-01-01 00:00:00') "
        "AS TIMESTAMP(3)) FROM numbers"
    )
    _, flink_id = sides.gateway.start([readings.ddl, numbers], insert)
    sides.cluster.wait_for_end(flink_id, _FILLED_WITHIN_S)
    sides.cluster.wait_until_idle()
