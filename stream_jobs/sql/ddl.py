"""CREATE TABLE from a table's definition.

Secrets never stand in the text: a placeholder does, which the planner replaces in the compiled plan at the moment
of submission. So the text can be stored, logged and shown as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from stream_jobs.definitions import (
    Column,
    DefinitionError,
    HbaseSink,
    HttpLookup,
    JdbcConnection,
    JdbcLookup,
    JdbcSink,
    JsonFormat,
    KafkaLookup,
    KafkaSink,
    KafkaSource,
    KeyFormat,
    LookupCache,
    PreviewSink,
    RedisLookup,
    Secret,
    Startup,
    Table,
)
from stream_jobs.sql import formats, types
from stream_jobs.sql.quoting import identifier, literal

Options = dict[str, str | Secret]

PLACEHOLDER = "${secret:"
"""How each placeholder of a secret begins: ``${secret:table.option}``."""

#: A column that a side table of latest values has beside its own; nobody sees it.
_ALWAYS = "__hlink_always"
_NO_ROW = "404"


@dataclass(frozen=True, slots=True)
class Ddl:
    """A CREATE TABLE statement, and the value of each placeholder in it."""

    text: str
    secrets: Mapping[str, Secret]


def create_table(table: Table, job_id: str) -> Ddl:
    """The statement that makes the table known to Flink.

    ``job_id`` tells apart the transactions of jobs that write exactly once.

    Raises:
        DefinitionError: something in the definition cannot be said in Flink SQL.
    """
    if not table.columns:
        raise DefinitionError(f"table {table.name!r} has no columns")
    lines = [_column(c) for c in table.columns]
    if table.watermark is not None:
        lines.append(_watermark(table))
    if isinstance(table.connector, KafkaLookup) and not table.connector.versioned:
        lines += _valid_always(table.connector)
    if table.primary_key:
        lines.append(f"PRIMARY KEY ({', '.join(identifier(c) for c in _known(table, table.primary_key))}) NOT ENFORCED")
    options, secrets = _placeholders(table.name, _options(table, job_id))
    body = ",\n".join(f"  {line}" for line in lines)
    settings = ",\n".join(f"  {literal(key)} = {literal(value)}" for key, value in options.items())
    return Ddl(f"CREATE TABLE {identifier(table.name)} (\n{body}\n) WITH (\n{settings}\n)", secrets)


def as_seen(table: Table, job_id: str) -> Ddl:
    """The statement without columns of ours: what ``*`` stands for. Raises as :func:`create_table`."""
    if isinstance(table.connector, KafkaLookup):
        table = replace(table, connector=replace(table.connector, versioned=True))
    return create_table(table, job_id)


def _column(column: Column) -> str:
    comment = f" COMMENT {literal(column.comment)}" if column.comment else ""
    if column.expression:
        return f"{identifier(column.name)} AS {column.expression}{comment}"
    if column.metadata:
        of = f"METADATA FROM {literal(column.metadata)} VIRTUAL"
        return f"{identifier(column.name)} {types.of_column(column)} {of}{comment}"
    not_null = " NOT NULL" if column.not_null else ""
    return f"{identifier(column.name)} {types.of_column(column)}{not_null}{comment}"


def _watermark(table: Table) -> str:
    assert table.watermark is not None
    name = _known(table, (table.watermark.column,))[0]
    column = next(c for c in table.columns if c.name == name)
    if not column.expression and not types.of_column(column).is_time_attribute:
        raise DefinitionError(
            f"table {table.name!r}, column {name!r}: event time must be TIMESTAMP(3) or TIMESTAMP_LTZ(3), not "
            f"{column.type}; add a computed column, for epoch milliseconds TO_TIMESTAMP_LTZ({identifier(name)}, 3), "
            "and mark that one as event time"
        )
    behind = f" - {_interval(table.watermark.delay_ms)}" if table.watermark.delay_ms else ""
    return f"WATERMARK FOR {identifier(name)} AS {identifier(name)}{behind}"


def _valid_always(lookup: KafkaLookup) -> list[str]:
    """Event time of latest values: all are valid since long ago, and the stream never has to wait for one."""
    kind = "TIMESTAMP_LTZ(3)" if lookup.zoned else "TIMESTAMP(3)"
    always = identifier(_ALWAYS)
    return [
        f"{always} AS CAST(TIMESTAMP '1970-01-02 00:00:00' AS {kind})",
        f"WATERMARK FOR {always} AS CAST(TIMESTAMP '9999-12-31 00:00:00' AS {kind})",
    ]


def _interval(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    if seconds < 100 and not rest:
        return f"INTERVAL '{seconds}' SECOND"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"INTERVAL '{days} {hours:02d}:{minutes:02d}:{seconds:02d}.{rest:03d}' DAY TO SECOND(3)"


def _known(table: Table, names: tuple[str, ...]) -> tuple[str, ...]:
    columns = {c.name for c in table.columns}
    for name in names:
        if name not in columns:
            raise DefinitionError(f"table {table.name!r} has no column {name!r}; it has {', '.join(sorted(columns))}")
    return names


def _options(table: Table, job_id: str) -> Options:
    match table.connector:
        case KafkaSource() as source:
            return _kafka_source(table, source)
        case KafkaSink() as sink:
            return _kafka_sink(table, sink, job_id)
        case KafkaLookup() as lookup:
            return _kafka_lookup(table, lookup)
        case JdbcLookup() as lookup:
            return _jdbc_lookup(lookup)
        case PreviewSink():
            return {"connector": "hlink-preview", "format": "json"}
        case HttpLookup() as lookup:
            return _http_lookup(table, lookup)
        case RedisLookup() as lookup:
            return _redis_lookup(lookup)
        case JdbcSink() as sink:
            return {
                **_jdbc(sink.connection),
                "sink.buffer-flush.max-rows": str(sink.batch_rows),
                "sink.buffer-flush.interval": f"{sink.flush_interval_ms} ms",
                "sink.max-retries": str(sink.max_retries),
            }
        case HbaseSink() as sink:
            return {
                "connector": "hbase-2.2",
                "table-name": sink.table,
                "zookeeper.quorum": sink.quorum,
                "zookeeper.znode.parent": sink.znode_parent,
                "sink.buffer-flush.max-size": sink.buffer_size,
                "sink.buffer-flush.max-rows": str(sink.buffer_rows),
                "sink.buffer-flush.interval": sink.flush_interval,
            }


def _kafka_source(table: Table, source: KafkaSource) -> Options:
    options: Options = {
        "connector": "kafka",
        "topic": source.topic,
        "properties.bootstrap.servers": source.bootstrap_servers,
        **_reader(source),
        "scan.startup.mode": source.startup.value,
    }
    if source.startup is Startup.TIMESTAMP:
        if source.startup_timestamp_ms is None:
            raise DefinitionError(f"table {table.name!r}: startup mode timestamp needs the timestamp to start from")
        options["scan.startup.timestamp-millis"] = str(source.startup_timestamp_ms)
    if source.startup is Startup.SPECIFIC:
        if not source.startup_offsets:
            raise DefinitionError(f"table {table.name!r}: startup mode specific-offsets needs offsets, as 0,42;1,300")
        options["scan.startup.specific-offsets"] = ";".join(
            f"partition:{partition},offset:{offset}" for partition, offset in source.startup_offsets
        )
    if source.startup is Startup.GROUP:
        # A group that has never committed would otherwise fail the job.
        options["properties.auto.offset.reset"] = "earliest"
    if table.watermark is not None and table.watermark.idle_timeout_ms:
        options["scan.watermark.idle-timeout"] = f"{table.watermark.idle_timeout_ms} ms"
    options |= {f"properties.{key}": value for key, value in source.properties.items()}
    return options | formats.of_source(table, source)


def _kafka_sink(table: Table, sink: KafkaSink, job_id: str) -> Options:
    upsert = bool(table.primary_key)
    options: Options = {
        "connector": "upsert-kafka" if upsert else "kafka",
        "topic": sink.topic,
        "properties.bootstrap.servers": sink.bootstrap_servers,
    }
    if not upsert:
        options["sink.partitioner"] = sink.partitioner
    if sink.exactly_once:
        options["sink.delivery-guarantee"] = "exactly-once"
        options["sink.transactional-id-prefix"] = f"hlink-{job_id}-{table.name}"
        # Flink's own default lies above what brokers allow.
        options["properties.transaction.timeout.ms"] = "600000"
    options |= {f"properties.{key}": value for key, value in sink.properties.items()}
    if upsert:
        key, value = (formats.of_sink(table, sink.format, f"{part}.format") for part in ("key", "value"))
        return options | key | value
    return options | formats.of_sink(table, sink.format, "format")


def _reader(kafka: KafkaSource | KafkaLookup) -> Options:
    options: Options = {}
    if kafka.group_id:
        options["properties.group.id"] = kafka.group_id
    if kafka.bounded:
        options["scan.bounded.mode"] = "latest-offset"
    return options


def _kafka_lookup(table: Table, lookup: KafkaLookup) -> Options:
    options: Options = {
        "connector": "upsert-kafka",
        "topic": lookup.topic,
        "properties.bootstrap.servers": lookup.bootstrap_servers,
        **_reader(lookup),
    }
    if table.watermark is not None and table.watermark.idle_timeout_ms:
        options["scan.watermark.idle-timeout"] = f"{table.watermark.idle_timeout_ms} ms"
    options |= {f"properties.{key}": value for key, value in lookup.properties.items()}
    if lookup.key_format is KeyFormat.TEXT:
        options["key.format"] = lookup.key_format.value
    else:
        options |= formats.of_lookup(table, JsonFormat(), "key.format")
    return options | formats.of_lookup(table, lookup.format, "value.format")


def _http_lookup(table: Table, lookup: HttpLookup) -> Options:
    prefix = "gid.connector.http.source.lookup"
    options: Options = {
        "connector": "rest-lookup",
        "url": lookup.url,
        f"{prefix}.connection.timeout": f"{lookup.timeout_ms} ms",
        # The connector takes whole seconds for this one.
        f"{prefix}.request.timeout": str(max(1, math.ceil(lookup.timeout_ms / 1000))),
        # Servers that know nothing of HTTP/2 may refuse the attempt to change to it.
        f"{prefix}.http-version": "HTTP_1_1",
        f"{prefix}.ignored-response-codes": _NO_ROW,
        f"{prefix}.header.Accept-Charset": lookup.charset,
        # Else the connector would take what stands in Authorization for a name and a password.
        f"{prefix}.use-raw-authorization-header": "true",
        **{f"{prefix}.header.{name}": value for name, value in lookup.headers.items()},
    }
    return options | _cache(lookup.cache) | formats.of_lookup(table, JsonFormat(), "format")


def _redis_lookup(lookup: RedisLookup) -> Options:
    options: Options = {
        "connector": "redis",
        "host": lookup.host,
        "port": str(lookup.port),
        "dbNum": str(lookup.database),
    }
    if lookup.password.value:
        options["password"] = lookup.password
    if lookup.cache is not None:
        options |= {
            "cache": "LRU",
            "cacheSize": str(lookup.cache.max_rows),
            "cacheTTLMs": str(lookup.cache.expire_after_write_ms),
        }
    return options


def _jdbc_lookup(lookup: JdbcLookup) -> Options:
    return {**_jdbc(lookup.connection), "lookup.max-retries": str(lookup.max_retries), **_cache(lookup.cache)}


def _cache(cache: LookupCache | None) -> Options:
    if cache is None:
        return {}
    return {
        "lookup.cache": "PARTIAL",
        "lookup.partial-cache.max-rows": str(cache.max_rows),
        "lookup.partial-cache.expire-after-write": f"{cache.expire_after_write_ms} ms",
    }


def _jdbc(connection: JdbcConnection) -> Options:
    return {
        "connector": "jdbc",
        "url": connection.url,
        "table-name": connection.table,
        "username": connection.username,
        "password": connection.password,
    }


def _placeholders(table: str, options: Options) -> tuple[dict[str, str], dict[str, Secret]]:
    shown: dict[str, str] = {}
    secrets: dict[str, Secret] = {}
    for key, value in options.items():
        if isinstance(value, Secret):
            placeholder = f"{PLACEHOLDER}{table}.{key}}}"
            secrets[placeholder] = value
            shown[key] = placeholder
        else:
            shown[key] = value
    return shown, secrets
