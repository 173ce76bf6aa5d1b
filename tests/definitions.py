"""Definitions that tests of SQL generation and planning share: a small airport."""

from __future__ import annotations

from stream_jobs.definitions import (
    AvroFormat,
    Checkpointing,
    Column,
    Execution,
    FailureRate,
    FixedDelay,
    HbaseSink,
    HttpLookup,
    JdbcConnection,
    JdbcLookup,
    JdbcSink,
    Job,
    KafkaLookup,
    KafkaSink,
    KafkaSource,
    KeyFormat,
    LookupCache,
    MiniBatch,
    OnError,
    RedisLookup,
    Role,
    Secret,
    Startup,
    StateBackend,
    Statement,
    Table,
    TimeFormat,
    Watermark,
)

BROKER = "broker:9092"
PASSWORD = "pa\"ss\\word'`;"


def database(table: str, url: str = "jdbc:postgresql://db:5432/air") -> JdbcConnection:
    return JdbcConnection(url, table, "reader", Secret(PASSWORD))


FLIGHTS = Table(
    "flights",
    Role.SOURCE,
    KafkaSource(BROKER, "flights", "features", Startup.EARLIEST),
    (
        Column("carrier", "STRING"),
        Column("delay", "DOUBLE", comment="minutes, the pilot's word"),
        Column("departure", "TIMESTAMP(3)"),
        Column("plane", "ROW", (Column("tail", "STRING"), Column("engines", "INT"))),
        Column("legs", "ARRAY", (Column("origin", "STRING"), Column("miles", "INT"))),
        Column("tags", "ARRAY<STRING>"),
        Column("seen", "", expression="PROCTIME()"),
    ),
    watermark=Watermark("departure", delay_ms=5000, idle_timeout_ms=10_000),
)
AIRLINES = Table(
    "airlines",
    Role.SIDE,
    JdbcLookup(database("airlines"), LookupCache()),
    (Column("carrier", "STRING"), Column("name", "STRING")),
    join_key=("carrier",),
)
PLANES = Table(
    "planes",
    Role.SIDE,
    JdbcLookup(database("planes", "jdbc:mysql://db:3306/air")),
    (Column("tail", "STRING"), Column("built", "INT")),
    join_key=("tail",),
)
AIRPORTS = Table(
    "airports",
    Role.SIDE,
    HttpLookup(
        "http://airports:8080/find?full=1",
        1500,
        "gbk",
        LookupCache(),
        {"Authorization": Secret(PASSWORD), "X-From": "hlink"},
    ),
    (
        Column("code", "STRING"),
        Column("country", "STRING"),
        Column("city", "ROW", (Column("name", "STRING"), Column("people", "BIGINT"))),
    ),
    join_key=("code", "country"),
)
FARES = Table(
    "fares",
    Role.SIDE,
    KafkaLookup(BROKER, "fares", "features", versioned=True),
    (Column("carrier", "STRING"), Column("fare", "DOUBLE"), Column("since", "TIMESTAMP(3)")),
    primary_key=("carrier",),
    watermark=Watermark("since", delay_ms=1000, idle_timeout_ms=5000),
    join_key=("carrier",),
)
PILOTS = Table(
    "pilots",
    Role.SIDE,
    KafkaLookup(BROKER, "pilots", "features", key_format=KeyFormat.TEXT),
    (Column("carrier", "STRING"), Column("pilot", "STRING")),
    primary_key=("carrier",),
    join_key=("carrier",),
)
SEATS = Table(
    "seats",
    Role.SIDE,
    RedisLookup("redis", 6379, 2, Secret(PASSWORD), LookupCache()),
    (Column("tail", "STRING"), Column("seats", "STRING")),
    primary_key=("tail",),
    join_key=("tail",),
)
AVRO_FLIGHTS = Table(
    "avro_flights",
    Role.SOURCE,
    KafkaSource(
        BROKER,
        "avro",
        "features",
        Startup.TIMESTAMP,
        startup_timestamp_ms=1_700_000_000_000,
        format=AvroFormat("http://registry:8081"),
    ),
    (
        Column("carrier", "STRING", not_null=True),
        Column("ms", "BIGINT"),
        Column("ts", "", expression="TO_TIMESTAMP_LTZ(ms, 3)"),
    ),
    watermark=Watermark("ts"),
)
ODD = Table(
    "select",
    Role.SOURCE,
    KafkaSource(
        BROKER,
        "odd-topic",
        "it's; a `group`",
        Startup.SPECIFIC,
        startup_offsets=((0, 42), (1, 300)),
        properties={"sasl.jaas.config": Secret("x"), "security.protocol": "SASL_SSL"},
    ),
    (Column("order", "STRING"), Column("a`b;'c\"", "INT")),
)
DELAYS = Table(
    "delays",
    Role.SINK,
    KafkaSink(BROKER, "delays"),
    (Column("carrier", "STRING"), Column("name", "STRING"), Column("mean", "DOUBLE")),
)
EXACT_DELAYS = Table(
    "exact",
    Role.SINK,
    KafkaSink(BROKER, "exact", partitioner="fixed", exactly_once=True),
    (Column("carrier", "STRING"), Column("at", "TIMESTAMP_LTZ(3)")),
)
LATEST = Table(
    "latest",
    Role.SINK,
    KafkaSink(BROKER, "latest"),
    (Column("carrier", "STRING"), Column("n", "BIGINT")),
    primary_key=("carrier",),
)
TOTALS = Table(
    "totals",
    Role.SINK,
    JdbcSink(database("totals"), batch_rows=100, flush_interval_ms=500),
    (Column("carrier", "STRING"), Column("n", "BIGINT")),
    primary_key=("carrier",),
)

ARCHIVE = Table(
    "archive",
    Role.SINK,
    HbaseSink("air:archive", "zookeeper:2181"),
    (Column("carrier", "STRING"), Column("f", "ROW", (Column("mean", "DOUBLE"),))),
    primary_key=("carrier",),
)

#: Tables that no connector for this Flink exists for: their SQL is written, and refused when it is planned.
WITHOUT_CONNECTOR = (SEATS, ARCHIVE)
ALL_TABLES = (
    FLIGHTS, AIRLINES, PLANES, AIRPORTS, FARES, PILOTS, SEATS, AVRO_FLIGHTS, ODD, DELAYS, EXACT_DELAYS, LATEST, TOTALS,
    ARCHIVE,
)  # fmt: skip

MIXED_TIMES = Table(
    "mixed_times",
    Role.SOURCE,
    KafkaSource(BROKER, "mixed", "features"),
    (
        Column("at", "TIMESTAMP_LTZ(3)", time=TimeFormat.AUTO),
        Column("payload", "ROW", (Column("ms", "TIMESTAMP(3)", time=TimeFormat.EPOCH_MILLIS), Column("n", "INT"))),
        Column("legs", "ARRAY", (Column("left", "TIMESTAMP(3)"),)),
    ),
    watermark=Watermark("at"),
)
WATCHED = Table(
    "watched",
    Role.SOURCE,
    KafkaSource(
        BROKER,
        "watched",
        "features",
        on_error=OnError.DEAD_LETTER,
        dead_letter_topic="dead",
        properties={"sasl.jaas.config": Secret("x")},
    ),
    (
        Column("n", "INT", not_null=True),
        Column("ts", "TIMESTAMP(3)", time=TimeFormat.SQL),
        Column("seen", "", expression="PROCTIME()"),
    ),
    watermark=Watermark("ts", idle_timeout_ms=1000),
)
AVRO_BY_SCHEMA = Table(
    "avro_by_schema",
    Role.SINK,
    KafkaSink(
        BROKER,
        "trades",
        format=AvroFormat(
            schema='{"type": "record", "name": "T", "fields": [{"name": "id", "type": "long"}, '
            '{"name": "it\'s", "type": ["null", "string"], "default": null}]}'
        ),
    ),
    (Column("id", "BIGINT"),),
    primary_key=("id",),
)
ISO_TIMES = Table(
    "iso_times",
    Role.SOURCE,
    KafkaSource(BROKER, "iso", "features"),
    (Column("ts", "TIMESTAMP(3)", time=TimeFormat.ISO_LOCAL), Column("n", "INT")),
)
MESSAGE_TABLES = (MIXED_TIMES, WATCHED, AVRO_BY_SCHEMA, ISO_TIMES)

FULL_EXECUTION = Execution(
    parallelism=4,
    checkpointing=Checkpointing(10_000, timeout_ms=60_000, min_pause_ms=1000, max_concurrent=1, storage="s3://c/k"),
    state_backend=StateBackend.ROCKSDB,
    restart=FailureRate(3, 10, 15),
    mini_batch=MiniBatch(2000, 5000),
    two_phase_aggregation=True,
    split_distinct_aggregation=True,
    savepoint_dir="file:///savepoints",
    options={"table.local-time-zone": "Asia/Shanghai"},
)
SHORT_EXECUTION = Execution(restart=FixedDelay(5, 10), two_phase_aggregation=False)


def job(execution: Execution | None = None, /, **statements: str) -> Job:
    """A job with all sources and side tables, and the sinks that the statements are for."""
    tables = tuple(t for t in ALL_TABLES if t.role is not Role.SINK or t.name in statements)
    return Job("airport", tables, tuple(Statement(k, v) for k, v in statements.items()), execution or Execution())
