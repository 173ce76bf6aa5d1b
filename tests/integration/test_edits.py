"""What is said of a job's state before an edit, held against what Flink makes of it.

Jobs count, join and rank rows on a real cluster and are stopped with savepoints; more rows come; each edit is planned,
judged, and restored, against all advice where it is refused. What it computes then is compared with what the edited job
makes of all rows (all was kept and means the same), and of the later rows alone (it began empty).
"""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import pytest_asyncio
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import RetriableError
from psycopg import sql

from stream_jobs.definitions import (
    Checkpointing,
    Column,
    Execution,
    JdbcConnection,
    JdbcLookup,
    Job,
    KafkaSink,
    KafkaSource,
    MiniBatch,
    OnError,
    Role,
    Secret,
    Startup,
    StateBackend,
    Statement,
    Table,
    Watermark,
)
from stream_jobs.local.components.flink import SLOTS
from stream_jobs.local.endpoints import Endpoints
from stream_jobs.planner.client import Planner
from stream_jobs.planner.function_sets import NO_FUNCTIONS
from stream_jobs.planner.plan import fill_in, plan, secrets_of_tables
from stream_jobs.plans.numbering import Planned, first_numbers, renumbered
from stream_jobs.plans.verdict import DROPPED, Judgement, Setting, Verdict, judge, saved_operators
from stream_jobs.rest import Cluster, SavepointState
from tests.planners import planner_config

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

_LONGEST_S = 150.0

_NO_SLOT = "NoResourceAvailableException"
"""Slots of a job that has ended are not free at once: it is tried again."""

KEPT, OTHER, DROPS, IMPOSSIBLE = "kept", "other meaning", "dropped", "impossible"

COLUMNS = (
    Column("k", "STRING"),
    Column("k2", "STRING"),
    Column("a", "BIGINT"),
    Column("b", "BIGINT"),
    Column("ts", "TIMESTAMP(3)"),
)
COUNT = "SELECT k, COUNT(*) FROM e GROUP BY k"
TOTAL = "SELECT k, SUM(b) FROM e GROUP BY k"
SUM = "SELECT k, SUM(a) FROM e GROUP BY k"
UDF = "SELECT k, APPROX_DISTINCT(b) FROM e GROUP BY k"
TWO_KEYS = "SELECT CONCAT(k, k2), COUNT(*) FROM e GROUP BY k, k2"
NESTED = "SELECT k, SUM(n) FROM (SELECT k, k2, COUNT(*) AS n FROM e WHERE a > 0 GROUP BY k, k2) GROUP BY k"
WINDOW = (
    "SELECT CONCAT(k, CAST(window_start AS STRING)), COUNT(*) "
    "FROM TUMBLE(TABLE e, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY k, window_start, window_end"
)
JOIN = "SELECT CONCAT(x.k, '/', CAST(x.a AS STRING), '/', CAST(y.a AS STRING)), x.b FROM e x JOIN f y ON x.k = y.k2"
INTERVAL = (
    "SELECT CONCAT(x.k, '/', CAST(x.a AS STRING), '/', CAST(y.a AS STRING)), x.b FROM e x JOIN f y ON x.k = y.k2 "
    "AND x.ts BETWEEN y.ts - INTERVAL '2' HOUR AND y.ts + INTERVAL '1' HOUR"
)
LOOKUP = "SELECT n.name, COUNT(*) FROM e JOIN names n ON e.k = n.k GROUP BY n.name"
RANK = (
    "SELECT CONCAT(k, '/', CAST(r AS STRING)), a "
    "FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY a DESC) AS r FROM e) WHERE r <= 2"
)
DEDUP = "SELECT k, a FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts ASC) AS r FROM e) WHERE r = 1"
OVER = "SELECT CONCAT(k, '/', CAST(a AS STRING)), SUM(b) OVER (PARTITION BY k ORDER BY ts) FROM e"
MATCH = (
    "SELECT CONCAT(k, '/', CAST(x AS STRING)), y FROM e MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts "
    "MEASURES A.a AS x, C.a AS y ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW "
    "PATTERN (A B C) DEFINE C AS C.a > {least}) AS m"
)
PLAIN = "SELECT CONCAT(k, '/', CAST(a AS STRING)), b FROM e"


@dataclass(frozen=True)
class Shape:
    """A job of these tests: a statement for each sink, over the same rows."""

    statements: Mapping[str, str]
    execution: Execution = field(default_factory=Execution)
    columns: tuple[Column, ...] = COLUMNS
    alias: str = "e"
    topic: str = "all"
    delay_ms: int = 0
    #: What is different about the source's connector.
    source: Mapping[str, Any] = field(default_factory=dict)
    sink: Mapping[str, Any] = field(default_factory=dict)
    value: str = "n"
    functions: Mapping[str, str] = field(default_factory=dict)


def one(sql: str, **more: Any) -> Shape:
    return Shape({"o": sql}, **more)


BASES = {
    "count": one(COUNT),
    "sum": one(SUM),
    "udf": one(UDF, functions={"approx_distinct": "1"}),
    "two keys": one(TWO_KEYS),
    "nested": one(NESTED),
    "window": one(WINDOW),
    "join": one(JOIN),
    "interval": one(INTERVAL),
    "lookup": one(LOOKUP),
    "rank": one(RANK),
    "dedup": one(DEDUP),
    "over": one(OVER),
    "match": one(MATCH.format(least=0)),
    "two sinks": Shape({"o": COUNT, "p": TOTAL}),
    "transactions": one(PLAIN, sink={"exactly_once": True}),
}


@dataclass(frozen=True)
class Edit:
    base: str
    what: str
    shape: Shape
    said: str


def options(**chosen: str) -> Execution:
    return Execution(options={name.replace("__", "-").replace("_", "."): value for name, value in chosen.items()})


OUTER = JOIN.replace("JOIN", "LEFT JOIN").replace("CAST(y.a AS STRING)", "COALESCE(CAST(y.a AS STRING), '-')")
UNION = "SELECT k, COUNT(*) FROM (SELECT k FROM e UNION ALL SELECT k2 FROM e) GROUP BY k"
JOINED = "SELECT e.k, COUNT(*) FROM e JOIN f ON e.k = f.k2 GROUP BY e.k"
LOOKED_UP = "SELECT e.k, COUNT(*) FROM e JOIN names n ON e.k = n.k GROUP BY e.k"
HOP = WINDOW.replace("INTERVAL '1' HOUR", "INTERVAL '1' HOUR, INTERVAL '2' HOUR").replace("TUMBLE", "HOP")
FEW_GROUPS = options(pipeline_max__parallelism="64")
MORE_COLUMNS = (Column("before", "STRING"), *COLUMNS, Column("behind", "INT"))
EDITS = [
    Edit("count", "nothing", one(COUNT), KEPT),
    Edit("count", "a column of the source added before the others", one(COUNT, columns=MORE_COLUMNS), KEPT),
    Edit("count", "an unused column of the source removed", one(COUNT, columns=COLUMNS[:1] + COLUMNS[2:]), KEPT),
    Edit("count", "columns of the source in another order", one(COUNT, columns=(*COLUMNS[3::-1], COLUMNS[4])), KEPT),
    Edit("count", "the table renamed", one(COUNT.replace("FROM e", "FROM events"), alias="events"), KEPT),
    Edit("count", "a result renamed", one("SELECT k AS kk, COUNT(*) AS rows_of_k FROM e GROUP BY k", value="m"), KEPT),
    Edit("count", "HAVING added", one(COUNT + " HAVING COUNT(*) > 1"), KEPT),
    Edit("count", "a calculation behind it", one("SELECT k, COUNT(*) * 10 FROM e GROUP BY k"), KEPT),
    Edit("count", "WHERE added", one("SELECT k, COUNT(*) FROM e WHERE a > 3 GROUP BY k"), OTHER),
    Edit("count", "to SUM", one(SUM), DROPS),
    Edit("count", "to COUNT of a column", one("SELECT k, COUNT(b) FROM e GROUP BY k"), DROPS),
    Edit("count", "DISTINCT", one("SELECT k, COUNT(DISTINCT b) FROM e GROUP BY k"), DROPS),
    Edit("count", "an aggregate added", one("SELECT k, COUNT(*) + MAX(a) FROM e GROUP BY k"), DROPS),
    Edit("count", "another key of the same type", one("SELECT k2, COUNT(*) FROM e GROUP BY k2"), DROPS),
    Edit(
        "count", "a key of another type", one("SELECT CAST(b AS STRING), COUNT(*) FROM e GROUP BY b"), DROPS
    ),
    Edit(
        "count",
        "the key calculated",
        one("SELECT k, COUNT(*) FROM (SELECT UPPER(k) AS k FROM e) GROUP BY k"),
        DROPS,
    ),
    Edit("count", "UNION ALL", one(UNION), OTHER),
    Edit("count", "a sink added", Shape({"o": COUNT, "p": TOTAL}), KEPT),
    Edit("count", "a second source joined in", one(JOINED), DROPS),
    Edit("count", "a lookup before it", one(LOOKED_UP), OTHER),
    Edit("count", "another topic", one(COUNT, topic="later"), DROPS),
    Edit("count", "an option of the source", one(COUNT, source={"on_error": OnError.SKIP}), OTHER),
    Edit("count", "another startup mode", one(COUNT, source={"startup": Startup.LATEST}), KEPT),
    Edit("count", "the watermark's delay", one(COUNT, delay_ms=5000), KEPT),
    Edit("count", "a time to live", one(COUNT, execution=options(table_exec_state_ttl="1 h")), KEPT),
    Edit("count", "another parallelism", one(COUNT, execution=Execution(parallelism=2)), KEPT),
    Edit("count", "another state backend", one(COUNT, execution=Execution(state_backend=StateBackend.ROCKSDB)), KEPT),
    Edit("count", "another maximum parallelism", one(COUNT, execution=FEW_GROUPS), IMPOSSIBLE),
    Edit("count", "mini-batches in two phases", one(COUNT, execution=Execution(mini_batch=MiniBatch(100, 10))), DROPS),
    Edit(
        "count",
        "mini-batches in one phase",
        one(COUNT, execution=Execution(mini_batch=MiniBatch(100, 10), two_phase_aggregation=False)),
        KEPT,
    ),
    Edit("sum", "a column summed up in another unit", one("SELECT k, SUM(a * 100) FROM e GROUP BY k"), DROPS),
    Edit(
        "sum",
        "a column renamed in the messages",
        one("SELECT k, SUM(z) FROM e GROUP BY k", columns=(*COLUMNS[:2], Column("z", "BIGINT"), *COLUMNS[3:])),
        OTHER,
    ),
    Edit("sum", "a column of another type", one(SUM, columns=(*COLUMNS[:2], Column("a", "INT"), *COLUMNS[3:])), DROPS),
    Edit("udf", "another version of the function", one(UDF, functions={"approx_distinct": "2"}), DROPS),
    Edit("two keys", "a key left out", one("SELECT k, COUNT(*) FROM e GROUP BY k"), DROPS),
    Edit("nested", "WHERE changed under two aggregates", one(NESTED.replace("a > 0", "a > 2")), OTHER),
    Edit("nested", "HAVING between two aggregates", one(NESTED.replace("k, k2)", "k, k2 HAVING COUNT(*) > 1)")), DROPS),
    Edit("window", "another size of windows", one(WINDOW.replace("'1' HOUR", "'3' HOUR")), DROPS),
    Edit("window", "another kind of windows", one(HOP), DROPS),
    Edit("window", "the watermark's delay", one(WINDOW, delay_ms=1000), OTHER),
    Edit("window", "WHERE before windows", one(WINDOW.replace("GROUP BY", "WHERE a > 3 GROUP BY")), OTHER),
    Edit("join", "an outer join", one(OUTER), DROPS),
    Edit("join", "another condition", one(JOIN + " AND x.a < y.a"), OTHER),
    Edit("join", "a column more", one(JOIN.replace("x.b", "x.b + y.b")), DROPS),
    Edit("join", "WHERE on one side", one(JOIN + " WHERE x.a > 2"), OTHER),
    Edit("interval", "other bounds", one(INTERVAL.replace("'2' HOUR", "'5' HOUR")), OTHER),
    Edit("lookup", "another column looked up", one(LOOKUP.replace("n.name", "n.k")), DROPS),
    Edit("rank", "another N", one(RANK.replace("<= 2", "<= 3")), OTHER),
    Edit("rank", "another order", one(RANK.replace("DESC", "ASC")), DROPS),
    Edit("dedup", "the last instead of the first", one(DEDUP.replace("ASC", "DESC")), DROPS),
    Edit("over", "another aggregate", one(OVER.replace("SUM", "MIN")), DROPS),
    Edit("match", "another condition in the pattern", one(MATCH.format(least=1)), DROPS),
    Edit("two sinks", "a sink removed", one(COUNT), DROPS),
    Edit("two sinks", "statements of two sinks exchanged", Shape({"o": TOTAL, "p": COUNT}), KEPT),
    Edit("transactions", "a filter without state", one(PLAIN + " WHERE a > 3", sink={"exactly_once": True}), DROPS),
]  # fmt: skip


def hour(n: int, minute: int = 0) -> str:
    return f"2026-01-{1 + n // 24:02d} {n % 24:02d}:{minute:02d}:00"


def row(k: str, k2: str, a: int, b: int, ts: str) -> dict[str, Any]:
    return {"k": k, "k2": k2, "a": a, "b": b, "ts": ts}


EARLIER = [
    row("x", "y", 1, 10, hour(0)), row("y", "x", 2, 20, hour(0, 10)), row("x", "x", 5, 30, hour(1)),
    row("y", "y", 6, 10, hour(1, 10)), row("x", "y", 9, 20, hour(2)), row("y", "x", 8, 40, hour(2, 10)),
]  # fmt: skip
LATER = [
    row("x", "x", 3, 50, hour(2, 20)), row("y", "y", 4, 10, hour(2, 30)), row("x", "y", 7, 60, hour(3)),
    row("y", "x", 10, 20, hour(3, 10)), row("x", "x", 2, 20, hour(4)), row("y", "y", 11, 70, hour(4, 10)),
]  # fmt: skip
"""Every key has rows in both, and a window is open between them."""


class NotRestored(Exception):
    """Flink did not go on from the savepoint; the message is its reason."""


@dataclass
class Bench:
    """The cluster, and the topics that jobs read."""

    planner: Planner
    cluster: Cluster
    endpoints: Endpoints
    tag: str
    admin: KafkaAdminClient
    #: Fewer than there are: those of a job that has ended are not free at once.
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SLOTS - 2))
    several: asyncio.Lock = field(default_factory=asyncio.Lock)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """The admin client takes one question at a time."""

    @asynccontextmanager
    async def room(self, slots: int) -> AsyncIterator[None]:
        """Slots of the cluster; one after the other takes several, so that none waits for another's."""
        async with self.several:
            for _ in range(slots):
                await self.slots.acquire()
        try:
            yield
        finally:
            for _ in range(slots):
                self.slots.release()

    def topic(self, name: str) -> str:
        return f"edits-{self.tag}-{name}"

    def job(self, shape: Shape, run: str, *, bounded: bool = False, topic: str = "") -> Job:
        """The job; ``run`` names its consumer groups and its topics of results."""
        broker = self.endpoints.kafka_bootstrap
        source = KafkaSource(
            broker, self.topic(topic or shape.topic), f"{self.tag}-{run}", Startup.EARLIEST, bounded=bounded
        )
        source = replace(source, **{**shape.source, **({"startup": Startup.EARLIEST} if bounded else {})})
        watermark = Watermark("ts", shape.delay_ms)
        database = self.endpoints.postgres
        names = JdbcLookup(
            JdbcConnection(database.jdbc_url, f"names_{self.tag}", database.user, Secret(database.password))
        )
        sinks = [
            Table(
                sink,
                Role.SINK,
                KafkaSink(broker, self.topic(f"{run}-{sink}"), **shape.sink),
                (Column("k", "STRING"), Column(shape.value, "BIGINT")),
                () if shape.sink else ("k",),
            )
            for sink in shape.statements
        ]
        tables = (
            Table(shape.alias, Role.SOURCE, source, shape.columns, watermark=watermark),
            Table("f", Role.SOURCE, replace(source, group_id=f"{self.tag}-{run}-f"), COLUMNS, watermark=watermark),
            Table("names", Role.SIDE, names, (Column("k", "STRING"), Column("name", "STRING")), join_key=("k",)),
            *sinks,
        )
        execution = replace(shape.execution, checkpointing=None if bounded else Checkpointing(500))
        statements = tuple(Statement(sink, sql) for sink, sql in shape.statements.items())
        return Job(f"edits {run}", tables, statements, execution)

    def groups(self, shape: Shape, run: str) -> list[str]:
        """The consumer groups of the sources that the statements read."""
        second = any(" f " in statement for statement in shape.statements.values())
        return [f"{self.tag}-{run}", *([f"{self.tag}-{run}-f"] if second else [])]

    async def planned(self, job: Job) -> tuple[str, Mapping[str, str]]:
        made = await plan(self.planner, job, "1", with_plan=True)
        return made.compiled, made.options

    async def submit(self, job: Job, compiled: str, settings: Mapping[str, str], restore: Mapping[str, str]) -> str:
        """Starts the plan; Flink's id of the job."""
        flink_id = secrets.token_hex(16)
        address = urlsplit(self.endpoints.flink_url)
        target = {
            "rest.address": str(address.hostname),
            "rest.port": str(address.port),
            "$internal.pipeline.job-id": flink_id,
        }
        text = fill_in(compiled, secrets_of_tables(job.tables, "1"))
        answer = await self.planner.execute(text, {**settings, **restore, **target}, NO_FUNCTIONS)
        if "error" in answer:
            raise NotRestored(str(answer["error"]["causes"][-1]["message"]))
        return flink_id

    async def until_read(self, flink_id: str, groups: Sequence[str], topic: str, rows: int) -> None:
        """Waits until the job has committed that many rows of its topic. Raises NotRestored when it fails over them."""
        partition = TopicPartition(topic, 0)
        async with asyncio.timeout(_LONGEST_S):
            while True:
                status = await self.cluster.status(flink_id)
                if status in ("FAILED", "RESTARTING", "FAILING"):
                    raise NotRestored(await self.reason(flink_id) or status)
                if await self._committed(groups, partition, rows):
                    return
                await asyncio.sleep(0.5)

    async def reason(self, flink_id: str) -> str:
        """What the job failed over."""
        found = await self.cluster.exceptions(flink_id)
        return found[0].root_cause if found else ""

    async def _committed(self, groups: Sequence[str], partition: TopicPartition, rows: int) -> bool:
        async with self.asking:
            try:
                found = await asyncio.to_thread(self.admin.list_group_offsets, list(groups))
            except RetriableError:  # nobody has committed anything yet
                return False
        offsets = [of.get(partition) for of in found.values()]
        return all(offset is not None and offset.offset >= rows for offset in offsets)

    async def stop(self, flink_id: str, folder: str, *, drain: bool) -> str:
        """Stops the job with a savepoint, and says where that is."""
        trigger = secrets.token_hex(16)
        await self.cluster.stop_with_savepoint(flink_id, trigger, folder, drain=drain)
        async with asyncio.timeout(120):
            while True:
                status = await self.cluster.savepoint_status(flink_id, trigger)
                assert status is not None
                if status.state is SavepointState.COMPLETED:
                    return str(status.location)
                if status.state is SavepointState.FAILED:
                    raise NotRestored(f"it was not stopped: {status.failure}")
                await asyncio.sleep(0.2)

    def results(self, topics: Sequence[str]) -> dict[str, dict[str, int]]:
        """The last value of each key, by topic."""
        consumer = KafkaConsumer(bootstrap_servers=self.endpoints.kafka_bootstrap, isolation_level="read_committed")
        found: dict[str, dict[str, int]] = {topic: {} for topic in topics}
        try:
            partitions = [TopicPartition(topic, 0) for topic in topics]
            consumer.assign(partitions)
            ends = consumer.end_offsets(partitions)
            consumer.seek_to_beginning(*partitions)
            while any(consumer.position(one) < end for one, end in ends.items()):
                for partition, records in consumer.poll(timeout_ms=500).items():
                    for record in records:
                        if record.value is None:
                            found[partition.topic].pop(json.loads(record.key)["k"], None)
                        else:
                            key, value = json.loads(record.value).values()
                            found[partition.topic][key] = value
        finally:
            consumer.close()
        return found


@dataclass(frozen=True)
class Outcome:
    """What was said of an edit, and what came of it; results by sink."""

    judgement: Judgement
    failure: str
    restored: Mapping[str, Mapping[str, int]]
    of_all: Mapping[str, Mapping[str, int]]
    of_later: Mapping[str, Mapping[str, int]]

    @property
    def said(self) -> str:
        if self.judgement.obstacle:
            return IMPOSSIBLE
        found = {one.verdict for one in self.judgement.operators}
        return DROPS if found & DROPPED else OTHER if Verdict.OTHER_MEANING in found else KEPT

    def sinks(self) -> list[str]:
        """Those behind which nothing is new: what is new has not seen the earlier rows, and says so."""
        fresh = {sink for one in self.judgement.operators if one.verdict is Verdict.NEW for sink in one.sinks}
        return [sink for sink in self.restored if sink not in fresh or self.said != KEPT]

    def as_if_all_was_kept(self) -> bool:
        """Whether it has, for each key of the later rows, what it would have of all rows, and nothing else."""
        return not self.failure and all(
            self.of_later[sink].keys() <= self.restored[sink].keys()
            and self.restored[sink].items() <= self.of_all[sink].items()
            for sink in self.sinks()
        )

    def as_if_it_began_empty(self) -> bool:
        return not self.failure and all(self.restored[sink] == self.of_later[sink] for sink in self.sinks())


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory, endpoints: Endpoints) -> AsyncIterator[Bench]:
    async with (
        Planner(planner_config(tmp_path_factory.mktemp("planner"))) as planner,
        Cluster(endpoints.flink_url, 60) as cluster,
    ):
        admin = KafkaAdminClient(bootstrap_servers=endpoints.kafka_bootstrap)
        yield Bench(planner, cluster, endpoints, uuid.uuid4().hex[:8], admin)
        admin.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def outcomes(
    bench: Bench, endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Outcome]:
    """All edits, each restored from the savepoint of its base."""
    folder = tmp_path_factory.mktemp("savepoints").as_uri()
    with _names(endpoints, bench.tag):
        topics = [bench.topic(name) for name in _topics()]
        await asyncio.to_thread(_create, bench.admin, topics)
        await asyncio.to_thread(_write, endpoints, bench.topic("all"), EARLIER)
        bases = dict(zip(BASES, await asyncio.gather(*(_base(bench, name, folder) for name in BASES)), strict=True))
        for topic in ("all", "later"):
            await asyncio.to_thread(_write, endpoints, bench.topic(topic), LATER)
        fresh = asyncio.create_task(_fresh(bench))
        found = await asyncio.gather(
            *(_restored(bench, edit, f"edit{n}", *bases[edit.base], folder) for n, edit in enumerate(EDITS))
        )
        await fresh
    found_in = await asyncio.to_thread(bench.results, topics[2:])  # all but the rows themselves
    outcomes = {}
    for n, (edit, (judgement, failure)) in enumerate(zip(EDITS, found, strict=True)):
        restored, of_all, of_later = (
            {sink: found_in[bench.topic(f"{run}{n}-{sink}")] for sink in edit.shape.statements}
            for run in ("edit", "all", "later")
        )
        outcomes[edit.base, edit.what] = Outcome(judgement, failure, restored, of_all, of_later)
    return outcomes


async def _base(bench: Bench, name: str, folder: str) -> tuple[Setting, str]:
    """Runs a job over the earlier rows; its plan, and the savepoint that it leaves."""
    shape = BASES[name]
    run = f"base-{list(BASES).index(name)}"
    job = bench.job(shape, run)
    compiled, settings = await bench.planned(job)
    async with bench.room(1):
        flink_id = await bench.submit(job, compiled, settings, {})
        await bench.until_read(flink_id, bench.groups(shape, run), bench.topic("all"), len(EARLIER))
        path = await bench.stop(flink_id, folder, drain=False)
    return Setting(Planned(first_numbers(compiled).compiled, shape.functions), settings), path


async def _restored(
    bench: Bench, edit: Edit, run: str, before: Setting, savepoint: str, folder: str
) -> tuple[Judgement, str]:
    """The edited job goes on, against all advice, and is drained at the end of the rows."""
    job = bench.job(edit.shape, run)
    compiled, settings = await bench.planned(job)
    plan_of_edit = Planned(compiled, edit.shape.functions)
    numbered = renumbered(plan_of_edit, [before.plan], 0)
    saved = saved_operators((await bench.planner.inspect_savepoint(savepoint))["operators"])
    after = Setting(replace(plan_of_edit, compiled=numbered.compiled), settings)
    judgement = judge(before, after, saved)
    restore = {} if judgement.obstacle else {
        "execution.state-recovery.path": savepoint,
        "execution.state-recovery.ignore-unclaimed-state": str(
            judgement.unclaimed or not judgement.restores
        ).lower(),
    }  # fmt: skip
    rows = len(LATER) if edit.shape.topic == "later" else len(EARLIER) + len(LATER)
    failure, flink_id = _NO_SLOT, ""
    async with bench.room(job.execution.parallelism):
        for _ in range(3):
            if _NO_SLOT not in failure:
                break
            failure = ""
            try:
                flink_id = await bench.submit(job, numbered.compiled, settings, restore)
                await bench.until_read(flink_id, bench.groups(edit.shape, run), bench.topic(edit.shape.topic), rows)
                await bench.stop(flink_id, folder, drain=True)
            except (NotRestored, TimeoutError) as error:
                failure = str(error) or "it did not come to the end of its rows"
                if flink_id:
                    await bench.cluster.cancel(flink_id)
    return judgement, failure


async def _fresh(bench: Bench) -> None:
    """Has the edited jobs read all rows, and the later ones alone, from their beginning; many as one job."""
    groups: dict[str, list[int]] = {}
    for n, edit in enumerate(EDITS):
        groups.setdefault(repr(bench.job(replace(edit.shape, statements={}, execution=Execution()), "")), []).append(n)

    async def run(members: list[int], topic: str) -> None:
        read = topic if EDITS[members[0]].shape.topic == "all" else "later"
        jobs = [
            _apart(bench.job(EDITS[n].shape, f"{topic}{n}", bounded=True, topic=read), f"{topic}{n}") for n in members
        ]
        tables = {table.name: table for job in jobs for table in job.tables}
        statements = tuple(statement for job in jobs for statement in job.statements)
        job = Job(f"fresh {topic}", tuple(tables.values()), statements, Execution())
        compiled, settings = await bench.planned(job)
        async with bench.room(1):
            async with asyncio.timeout(_LONGEST_S):
                flink_id = await bench.submit(job, compiled, settings, {})
                while (status := await bench.cluster.status(flink_id)) != "FINISHED":
                    if status == "FAILED":
                        reason = await bench.reason(flink_id)
                        assert _NO_SLOT in reason, reason
                        flink_id = await bench.submit(job, compiled, settings, {})
                    await asyncio.sleep(0.5)

    await asyncio.gather(*(run(members, topic) for members in groups.values() for topic in ("all", "later")))


def _apart(job: Job, run: str) -> Job:
    """The job's sinks by names of their own, so that jobs can be one."""
    sinks = {statement.sink: f"{statement.sink}_{run}" for statement in job.statements}
    tables = tuple(replace(table, name=sinks.get(table.name, table.name)) for table in job.tables)
    statements = tuple(Statement(sinks[statement.sink], statement.sql) for statement in job.statements)
    return replace(job, tables=tables, statements=statements)


def _topics() -> list[str]:
    made = ["all", "later"]
    made += [f"base-{n}-{sink}" for n, shape in enumerate(BASES.values()) for sink in shape.statements]
    for n, edit in enumerate(EDITS):
        made += [f"{run}{n}-{sink}" for run in ("edit", "all", "later") for sink in edit.shape.statements]
    return made


def _create(admin: KafkaAdminClient, topics: Sequence[str]) -> None:
    options = {"num_partitions": 1, "replication_factor": 1}
    admin.create_topics(dict.fromkeys(topics, options), wait_for_metadata=True)


def _write(endpoints: Endpoints, topic: str, rows: Sequence[Mapping[str, Any]]) -> None:
    producer = KafkaProducer(bootstrap_servers=endpoints.kafka_bootstrap)
    for one_row in rows:
        # The column that one edit calls by another name is in the messages by both.
        producer.send(topic, json.dumps({**one_row, "z": one_row["a"] * 2}).encode())
    producer.flush()
    producer.close()


@contextmanager
def _names(endpoints: Endpoints, tag: str) -> Iterator[None]:
    """The table that lookups find names in."""
    with psycopg.connect(**endpoints.postgres.parameters(), autocommit=True) as connection:
        table = sql.Identifier(f"names_{tag}")
        connection.execute(sql.SQL("CREATE TABLE {} (k text primary key, name text)").format(table))
        connection.execute(sql.SQL("INSERT INTO {} VALUES ('x', 'Xaver'), ('y', 'Yvonne')").format(table))
        yield
        connection.execute(sql.SQL("DROP TABLE {}").format(table))


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{edit.base}: {edit.what}")
async def test_what_is_said_of_an_edit_is_what_comes_of_it(
    outcomes: dict[tuple[str, str], Outcome], edit: Edit
) -> None:
    found = outcomes[edit.base, edit.what]
    told = "\n".join(map(str, (found.judgement.obstacle, *found.judgement.operators)))

    assert not found.failure, f"{found.failure}\n{told}"
    assert found.said == edit.said, told
    assert found.as_if_all_was_kept() or edit.said != KEPT, f"{found}\n{told}"
    assert found.judgement.restores == (edit.said == KEPT)


async def test_given_state_that_nothing_takes_over_when_it_is_allowed_then_what_is_in_its_place_begins_empty(
    outcomes: dict[tuple[str, str], Outcome],
) -> None:
    for what in ("to SUM", "DISTINCT", "another key of the same type", "a key of another type"):
        found = outcomes["count", what]
        assert found.as_if_it_began_empty(), f"{what}: {found}"
        assert not found.as_if_all_was_kept()


async def test_at_least_thirty_kinds_of_edit_are_tried_and_each_makes_a_difference(
    outcomes: dict[tuple[str, str], Outcome],
) -> None:
    assert len({(edit.base, edit.what) for edit in EDITS}) >= 30
    # A figure that is the same with the earlier rows and without would prove nothing.
    blind = [
        f"{base}: {what}"
        for (base, what), found in outcomes.items()
        if all(found.of_all[sink].items() >= found.of_later[sink].items() for sink in found.of_all)
        and found.said == KEPT
    ]
    assert blind == []
