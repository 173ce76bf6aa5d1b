"""What a streaming job is made of, as plain values: tables, statements, execution.

Nothing here talks to anything. ``stream_jobs.sql`` turns these values into Flink SQL.
Names are kept as the user wrote them; quoting is the generator's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class DefinitionError(ValueError):
    """A definition that cannot be turned into SQL: names the table, the field and the remedy."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that is used and never shown: not in SQL, logs, errors or ``repr``."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "******"


class Role(StrEnum):
    """What a table is to its job (wire: ``dsType``)."""

    SOURCE = "source"
    SIDE = "side"
    SINK = "sink"


class TimeFormat(StrEnum):
    """How JSON messages spell the times in a column. One without an offset is UTC where the column is TIMESTAMP_LTZ."""

    RFC_3339 = "rfc3339"
    """``2018-11-26T01:00:00.123Z``, ``2018-11-26T09:00:00+08:00``."""
    ISO_LOCAL = "iso-local"
    """``2018-11-26T01:00:00``."""
    SQL = "sql"
    """``2018-11-26 01:00:00``."""
    EPOCH_MILLIS = "epoch-millis"
    EPOCH_SECONDS = "epoch-seconds"
    AUTO = "auto"
    """Any of them; a number from 100,000,000,000 on (the year 5138 in seconds) is milliseconds, below it is seconds."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column, or one field of a nested row.

    ``type`` is a Flink SQL type (``BIGINT``, ``DECIMAL(10, 2)``, ``ARRAY<STRING>``); ``ROW`` and ``ARRAY`` take
    their element types from ``fields``: ``ARRAY`` with one unnamed field is an array of that type, with named
    ones an array of rows. ``expression`` makes a computed column of it (``PROCTIME()``,
    ``TO_TIMESTAMP_LTZ(ts, 3)``), whose type Flink derives.
    """

    name: str
    type: str
    fields: tuple[Column, ...] = ()
    comment: str = ""
    expression: str = ""
    not_null: bool = False
    #: How JSON messages spell the times in it; None is the way that the table's format has for all of them.
    time: TimeFormat | None = None
    #: The connector's metadata that it holds (Kafka: ``topic``, ``offset``), in place of a field of the messages.
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Watermark:
    """Event time: the column that carries it, and how far behind (milliseconds) a row may arrive."""

    column: str
    delay_ms: int = 0
    idle_timeout_ms: int = 0


class Startup(StrEnum):
    """Where a Kafka source begins to read when a run starts without state."""

    EARLIEST = "earliest-offset"
    LATEST = "latest-offset"
    GROUP = "group-offsets"
    TIMESTAMP = "timestamp"
    SPECIFIC = "specific-offsets"


class TimestampFormat(StrEnum):
    """How JSON text spells a TIMESTAMP: ``2018-11-26 01:00:00`` or ``2018-11-26T01:00:00``."""

    SQL = "SQL"
    ISO_8601 = "ISO-8601"


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """JSON messages; ``timestamp_format`` None lets the generator choose by the columns' types."""

    timestamp_format: TimestampFormat | None = None


@dataclass(frozen=True, slots=True)
class AvroFormat:
    """Avro messages: plain, or framed with a schema id when ``registry_url`` is given.

    ``schema`` is the JSON text of the schema that the messages are written with; without it Flink makes one of the
    columns, in which every field may be null.
    """

    registry_url: str = ""
    schema: str = ""


Format = JsonFormat | AvroFormat


class OnError(StrEnum):
    """What becomes of a message that cannot be read."""

    FAIL = "fail"
    SKIP = "skip"
    DEAD_LETTER = "dead-letter"


@dataclass(frozen=True, slots=True)
class KafkaSource:
    """A topic that is read; ``startup_timestamp_ms``, ``startup_offsets`` (partition, offset) belong to their modes,
    ``dead_letter_topic`` to ``on_error`` DEAD_LETTER.
    """

    bootstrap_servers: str
    topic: str
    group_id: str
    startup: Startup = Startup.LATEST
    startup_timestamp_ms: int | None = None
    startup_offsets: tuple[tuple[int, int], ...] = ()
    format: Format = field(default_factory=JsonFormat)
    on_error: OnError = OnError.FAIL
    dead_letter_topic: str = ""
    properties: Mapping[str, str | Secret] = field(default_factory=dict)
    bounded: bool = False
    """Ends where the topic ends when the run starts."""


@dataclass(frozen=True, slots=True)
class KafkaSink:
    """A topic that is written; with a primary key on the table it becomes an upsert topic."""

    bootstrap_servers: str
    topic: str
    partitioner: str = "round-robin"
    exactly_once: bool = False
    format: Format = field(default_factory=JsonFormat)
    properties: Mapping[str, str | Secret] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LookupCache:
    """A cache of looked-up rows, per task: its size in rows and its age in milliseconds after the write."""

    max_rows: int = 100_000
    expire_after_write_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class JdbcConnection:
    """A database table. ``url`` is a JDBC URL whose scheme names the database (postgresql, mysql, oracle)."""

    url: str
    table: str
    username: str
    password: Secret


@dataclass(frozen=True, slots=True)
class JdbcLookup:
    """A database table that is looked up, row by row, as the stream passes."""

    connection: JdbcConnection
    cache: LookupCache | None = None
    max_retries: int = 3


@dataclass(frozen=True, slots=True)
class JdbcSink:
    """A database table that is written; with a primary key on the table the write is an upsert."""

    connection: JdbcConnection
    batch_rows: int = 5000
    flush_interval_ms: int = 1000
    max_retries: int = 3


class KeyFormat(StrEnum):
    """How a record's key holds a table's key: as a JSON object of its columns, or as the text of the only one."""

    JSON = "json"
    TEXT = "raw"


@dataclass(frozen=True, slots=True)
class KafkaLookup:
    """A topic of changes by key, that a stream looks its rows up in.

    ``versioned``: the table has event time, and a row finds what was valid at its own. Else a row finds the latest
    value, and nothing waits for the topic; ``zoned`` then is the kind of the *stream's* event time, TIMESTAMP_LTZ(3)
    or TIMESTAMP(3), because Flink compares the two only when they are of one type.
    """

    bootstrap_servers: str
    topic: str
    group_id: str
    versioned: bool = False
    zoned: bool = False
    key_format: KeyFormat = KeyFormat.JSON
    format: Format = field(default_factory=JsonFormat)
    properties: Mapping[str, str | Secret] = field(default_factory=dict)
    bounded: bool = False
    """Ends where the topic ends when the run starts."""


@dataclass(frozen=True, slots=True)
class HttpLookup:
    """An address that answers ``GET url?<join key>=<value>`` with one JSON object; 404 is no row.

    ``charset`` is what the answer is asked for in; its own Content-Type says what it is in.
    """

    url: str
    timeout_ms: int = 5000
    charset: str = "utf-8"
    cache: LookupCache | None = None
    headers: Mapping[str, str | Secret] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RedisLookup:
    """Values by key. No connector for this Flink exists; the options are those of Ververica's ``redis``."""

    host: str
    port: int
    database: int
    password: Secret
    cache: LookupCache | None = None


@dataclass(frozen=True, slots=True)
class HbaseSink:
    """A table of HBase: one column is its row key, each ROW a column family. No connector for this Flink exists."""

    table: str
    quorum: str
    znode_parent: str = "/hbase"
    buffer_size: str = "2mb"
    buffer_rows: int = 1000
    flush_interval: str = "2s"


@dataclass(frozen=True, slots=True)
class PreviewSink:
    """Rows stay in the process that runs the job, for whoever asked for a preview."""


Connector = (
    KafkaSource | KafkaSink | KafkaLookup | JdbcLookup | JdbcSink | HttpLookup | RedisLookup | HbaseSink | PreviewSink
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table as its job sees it; ``name`` is the alias that the user's SQL speaks of."""

    name: str
    role: Role
    connector: Connector
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    watermark: Watermark | None = None
    join_key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """The user's feature statement for one sink: ``INSERT INTO sink SELECT ...`` or the bare query."""

    sink: str
    sql: str


class FunctionKind(StrEnum):
    """What a function takes and gives (wire: ``udfType``); PYTHON is a scalar function written in Python."""

    SCALAR = "SCALAR"
    TABLE = "TABLE"
    AGGREGATE = "AGGREGATE"
    TABLE_AGGREGATE = "TABLEAGG"
    PYTHON = "PYTHON"


@dataclass(frozen=True, slots=True)
class Function:
    """A function that statements call by ``name``, whatever its case.

    ``implementation`` is a Java class, or ``module.function`` in Python. ``sha256`` names the file that holds it among
    the uploaded ones, ``suffix`` says what that is: ``jar``, ``py`` or ``zip``. Without a file it is one of those that
    ship with the product.
    """

    name: str
    kind: FunctionKind
    implementation: str
    sha256: str = ""
    suffix: str = ""


MODEL_TYPES = ("DOUBLE", "BIGINT", "BOOLEAN", "STRING", "TIMESTAMP(3)", "TIMESTAMP_LTZ(3)")
"""The SQL types of what models take and give; times are milliseconds since 1970 to a model."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A column that a model takes, with the model's input for it; its SQL ``type`` is one of :data:`MODEL_TYPES`."""

    name: str
    input: str
    type: str


@dataclass(frozen=True, slots=True)
class Model:
    """A trained model as its ONNX file has it: an input of the shape (rows, 1) for each feature."""

    features: tuple[Feature, ...]
    """In the order of the functions' arguments."""
    output: str
    """The output that has the predictions: classes, values or clusters."""
    result: str
    """The SQL type of a prediction, one of :data:`MODEL_TYPES`."""
    probabilities: str = ""
    """The output that has the classes' probabilities, of the shape (rows, classes); empty without one."""
    classes: tuple[str, ...] = ()
    """The classes, as text, in the order of their probabilities; empty of clusters."""
    takes_missing: bool = False
    """Whether it works with rows that lack values: NaN for a number or a time, empty for a text."""

    @property
    def positive(self) -> str | None:
        """The class that is looked for, of two: the second one, as scikit-learn has it."""
        return self.classes[1] if len(self.classes) == 2 else None

    @property
    def arguments(self) -> tuple[str, ...]:
        """What SQL calls the features: their names as far as they are identifiers, each once."""
        found: list[str] = []
        for feature in self.features:
            plain = re.sub(r"[^A-Za-z0-9_]+", "_", feature.name).strip("_")
            name = plain if plain and not plain[0].isdigit() else f"feature_{plain or len(found) + 1}"
            taken = {one.lower() for one in found}
            number = 1
            while (candidate := name if number == 1 else f"{name}_{number}").lower() in taken:
                number += 1
            found.append(candidate)
        return tuple(found)


class CheckpointMode(StrEnum):
    EXACTLY_ONCE = "EXACTLY_ONCE"
    AT_LEAST_ONCE = "AT_LEAST_ONCE"


class CheckpointCleanup(StrEnum):
    """What becomes of the last checkpoint when somebody cancels the job."""

    RETAIN = "RETAIN_ON_CANCELLATION"
    DELETE = "DELETE_ON_CANCELLATION"


class StateBackend(StrEnum):
    HASHMAP = "hashmap"
    ROCKSDB = "rocksdb"


@dataclass(frozen=True, slots=True)
class Checkpointing:
    """Checkpoints every ``interval_ms``, all times in milliseconds; ``storage`` is a URI, or the cluster decides."""

    interval_ms: int
    mode: CheckpointMode = CheckpointMode.EXACTLY_ONCE
    timeout_ms: int | None = None
    min_pause_ms: int | None = None
    max_concurrent: int | None = None
    cleanup: CheckpointCleanup = CheckpointCleanup.RETAIN
    storage: str = ""


@dataclass(frozen=True, slots=True)
class NoRestart:
    """A failure ends the job."""


@dataclass(frozen=True, slots=True)
class FixedDelay:
    """At most ``attempts`` restarts, ``delay_s`` seconds apart."""

    attempts: int
    delay_s: int


@dataclass(frozen=True, slots=True)
class FailureRate:
    """Restarts ``delay_s`` apart, given up after ``max_failures`` within ``interval_min`` minutes."""

    max_failures: int
    interval_min: int
    delay_s: int


Restart = NoRestart | FixedDelay | FailureRate


@dataclass(frozen=True, slots=True)
class MiniBatch:
    """Rows are gathered for at most ``latency_ms`` or ``size`` rows before an aggregate sees them."""

    latency_ms: int
    size: int


@dataclass(frozen=True, slots=True)
class Execution:
    """How the job runs. None leaves a setting to the cluster."""

    parallelism: int = 1
    checkpointing: Checkpointing | None = None
    state_backend: StateBackend | None = None
    restart: Restart | None = None
    mini_batch: MiniBatch | None = None
    two_phase_aggregation: bool | None = None
    split_distinct_aggregation: bool = False
    savepoint_dir: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """One Flink job: its tables, a statement for each sink, and how it runs.

    ``functions`` are those that its statements may call; planning finds out which ones they do call.
    """

    name: str
    tables: tuple[Table, ...]
    statements: tuple[Statement, ...]
    execution: Execution = field(default_factory=Execution)
    functions: tuple[Function, ...] = ()

    def table(self, name: str) -> Table:
        """The table of that alias; KeyError when the job has none."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(name)
