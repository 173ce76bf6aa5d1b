"""CREATE TABLE from a table's definition.

Secrets never stand in the text: a placeholder does, which the planner replaces in the compiled plan at the moment
of submission. So the text can be stored, logged and shown as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stream_jobs.definitions import (
    AvroFormat,
    Column,
    DefinitionError,
    Format,
    JdbcConnection,
    JdbcLookup,
    JdbcSink,
    JsonFormat,
    KafkaSink,
    KafkaSource,
    PreviewSink,
    Secret,
    Startup,
    Table,
    TimestampFormat,
)
from stream_jobs.sql import types
from stream_jobs.sql.quoting import identifier, literal

Options = dict[str, str | Secret]


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
    if table.primary_key:
        lines.append(f"PRIMARY KEY ({', '.join(identifier(c) for c in _known(table, table.primary_key))}) NOT ENFORCED")
    options, secrets = _placeholders(table.name, _options(table, job_id))
    body = ",\n".join(f"  {line}" for line in lines)
    settings = ",\n".join(f"  {literal(key)} = {literal(value)}" for key, value in options.items())
    return Ddl(f"CREATE TABLE {identifier(table.name)} (\n{body}\n) WITH (\n{settings}\n)", secrets)


def _column(column: Column) -> str:
    comment = f" COMMENT {literal(column.comment)}" if column.comment else ""
    if column.expression:
        return f"{identifier(column.name)} AS {column.expression}{comment}"
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
        case JdbcLookup() as lookup:
            return _jdbc_lookup(lookup)
        case PreviewSink():
            return {"connector": "hlink-preview", **_format(table, JsonFormat(), "format")}
        case JdbcSink() as sink:
            return {
                **_jdbc(sink.connection),
                "sink.buffer-flush.max-rows": str(sink.batch_rows),
                "sink.buffer-flush.interval": f"{sink.flush_interval_ms} ms",
                "sink.max-retries": str(sink.max_retries),
            }


def _kafka_source(table: Table, source: KafkaSource) -> Options:
    options: Options = {
        "connector": "kafka",
        "topic": source.topic,
        "properties.bootstrap.servers": source.bootstrap_servers,
        "scan.startup.mode": source.startup.value,
    }
    if source.group_id:
        options["properties.group.id"] = source.group_id
    if source.bounded:
        options["scan.bounded.mode"] = "latest-offset"
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
    return options | _format(table, source.format, "format")


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
        return options | _format(table, sink.format, "key.format") | _format(table, sink.format, "value.format")
    return options | _format(table, sink.format, "format")


def _format(table: Table, form: Format, key: str) -> Options:
    prefix = key.removesuffix("format")
    match form:
        case JsonFormat():
            name, options = "json", {"timestamp-format.standard": _timestamp_format(table, form).value}
        case AvroFormat() if form.registry_url:
            name, options = "avro-confluent", {"url": form.registry_url}
        case AvroFormat():
            name, options = "avro", {"timestamp_mapping.legacy": "false"}
    return {key: name, **{f"{prefix}{name}.{option}": value for option, value in options.items()}}


def _timestamp_format(table: Table, form: JsonFormat) -> TimestampFormat:
    if form.timestamp_format is not None:
        return form.timestamp_format
    # TIMESTAMP_LTZ is what reads a trailing Z, and only the ISO form has one.
    zoned = any("TIMESTAMP_LTZ" in str(types.of_column(c)) for c in table.columns if not c.expression)
    return TimestampFormat.ISO_8601 if zoned else TimestampFormat.SQL


def _jdbc_lookup(lookup: JdbcLookup) -> Options:
    options = _jdbc(lookup.connection)
    options["lookup.max-retries"] = str(lookup.max_retries)
    if lookup.cache is not None:
        options["lookup.cache"] = "PARTIAL"
        options["lookup.partial-cache.max-rows"] = str(lookup.cache.max_rows)
        options["lookup.partial-cache.expire-after-write"] = f"{lookup.cache.expire_after_write_ms} ms"
    return options


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
            placeholder = f"${{secret:{table}.{key}}}"
            secrets[placeholder] = value
            shown[key] = placeholder
        else:
            shown[key] = value
    return shown, secrets
