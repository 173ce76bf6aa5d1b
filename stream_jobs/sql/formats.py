"""The format of a table's messages as options of its connector.

Flink's own formats where they read the table right, at no cost. Where they cannot (times in several spellings, with
offsets or as numbers; messages that must not end the job; Avro by its writer's schema) ours: ``stream_jobs.formats``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from stream_jobs.definitions import (
    AvroFormat,
    Column,
    DefinitionError,
    Format,
    JsonFormat,
    KafkaSink,
    KafkaSource,
    OnError,
    Table,
    TimeFormat,
    TimestampFormat,
)
from stream_jobs.sql import types

_ON_ERROR = {OnError.FAIL: "fail", OnError.SKIP: "skip", OnError.DEAD_LETTER: "emit"}
_OF_OPTION = {TimestampFormat.SQL: TimeFormat.SQL, TimestampFormat.ISO_8601: TimeFormat.ISO_LOCAL}
_EPOCHS = (TimeFormat.EPOCH_MILLIS, TimeFormat.EPOCH_SECONDS)


def of_source(table: Table, source: KafkaSource) -> dict[str, str]:
    """The options ``format`` and below it.

    Raises:
        DefinitionError: the format cannot do what the table asks of it.
    """
    match source.format:
        case JsonFormat() as form:
            option = _one_option(table, form)
            if option is not None and source.on_error is OnError.FAIL:
                return _json("format", option)
            times = _spellings(_carried(table), form)
            return _ours("hlink-json", source.on_error, times=json.dumps(times, ensure_ascii=False))
        case AvroFormat(registry_url="", schema=schema) if schema:
            return _ours("hlink-avro", source.on_error, schema=_compact(schema))
        case form:
            if source.on_error is not OnError.FAIL:
                needed = "needs JSON, or Avro with its schema (schemaFile) and without a registry"
                raise DefinitionError(f"table {table.name!r}: on_parse_error {source.on_error} {needed}")
            return _avro("format", form)


def of_sink(table: Table, form: Format, key: str) -> dict[str, str]:
    """The options ``key`` (``format``, ``value.format``) and below it.

    Raises:
        DefinitionError: the columns' times are to be written in ways that one table cannot have.
    """
    if isinstance(form, AvroFormat):
        if not form.schema or form.registry_url:
            return _avro(key, form)
        schema = _schema_of_key(table, form.schema) if key == "key.format" else form.schema
        return {key: "hlink-avro", f"{key.removesuffix('format')}hlink-avro.schema": _compact(schema)}
    if any(time in _EPOCHS for _, time in _times(_carried(table))):
        raise DefinitionError(
            f"table {table.name!r}: a sink cannot write times as numbers; make the column BIGINT and compute it in the "
            "statement"
        )
    option = _one_option(table, form, written=True)
    if option is None:
        raise DefinitionError(
            f"table {table.name!r}: a sink writes all its times in one spelling; give its columns one timeFormat"
        )
    return _json(key, option)


def of_lookup(table: Table, form: Format, key: str) -> dict[str, str]:
    """The options ``key`` and below it of a side table, which Flink's own formats read.

    Raises:
        DefinitionError: no format of Flink's reads all its times.
    """
    if isinstance(form, AvroFormat):
        return _avro(key, form)
    option = _one_option(table, form)
    if option is None:
        raise DefinitionError(
            f"table {table.name!r}: a side table reads all its times in one spelling, without offsets; make the others "
            "STRING and convert them in the statement"
        )
    return _json(key, option)


def needs_ours(table: Table) -> bool:
    """Whether the table is read or written with a format of ours, which its cluster must have."""
    match table.connector:
        case KafkaSource() as source:
            return of_source(table, source)["format"].startswith("hlink-")
        case KafkaSink(format=form):
            return of_sink(table, form, "format")["format"].startswith("hlink-")
    return False


def _compact(schema: str) -> str:
    return json.dumps(json.loads(schema), ensure_ascii=False)


def _schema_of_key(table: Table, schema: str) -> str:
    """The schema of an upsert topic's keys: the record with the key's fields only, under a name of its own."""
    record = json.loads(schema)
    kept = [one for one in record["fields"] if one["name"] in table.primary_key]
    return json.dumps({**record, "name": f"{record['name']}Key", "fields": kept})


def _json(key: str, option: TimestampFormat) -> dict[str, str]:
    return {key: "json", f"{key.removesuffix('format')}json.timestamp-format.standard": option.value}


def _avro(key: str, form: AvroFormat) -> dict[str, str]:
    prefix = key.removesuffix("format")
    if form.registry_url:
        return {key: "avro-confluent", f"{prefix}avro-confluent.url": form.registry_url}
    return {key: "avro", f"{prefix}avro.timestamp_mapping.legacy": "false"}


def _ours(name: str, on_error: OnError, **options: str) -> dict[str, str]:
    return {"format": name, f"{name}.on-error": _ON_ERROR[on_error], **{f"{name}.{k}": v for k, v in options.items()}}


def _carried(table: Table) -> Sequence[Column]:
    """The columns that are in the messages."""
    return [column for column in table.columns if not column.expression and not column.metadata]


def _times(columns: Sequence[Column]) -> Iterator[tuple[str, TimeFormat | None]]:
    """The type of every column and field that holds times, with their spelling. A plain TIME has one way in Flink."""
    for column in columns:
        if column.fields:
            yield from _times(column.fields)
        elif (kind := str(types.of_column(column))) and ("TIMESTAMP" in kind or column.time is not None):
            yield kind, column.time


def _one_option(table: Table, form: JsonFormat, *, written: bool = False) -> TimestampFormat | None:
    """The option of Flink's own JSON that is right for all times of the table; None where there is none.

    A TIMESTAMP_LTZ is read with a Z only, and only in the ISO form, so that one which may have an offset is not for it;
    it is ``written`` with a Z.
    """
    found = list(_times(_carried(table)))
    wanted = {_option(kind, time, written) for kind, time in found if time is not None}
    if any(time is None for _, time in found) or not wanted:
        # TIMESTAMP_LTZ is what reads a trailing Z, and only the ISO form has one.
        zoned = any("TIMESTAMP_LTZ" in kind for kind, _ in found)
        wanted.add(form.timestamp_format or (TimestampFormat.ISO_8601 if zoned else TimestampFormat.SQL))
    return wanted.pop() if len(wanted) == 1 else None


def _option(kind: str, time: TimeFormat | None, written: bool) -> TimestampFormat | None:
    if "TIMESTAMP_LTZ" in kind or "TIMESTAMP" not in kind:
        return TimestampFormat.ISO_8601 if written else None
    if written and time in (TimeFormat.AUTO, TimeFormat.RFC_3339):
        return TimestampFormat.ISO_8601
    return {TimeFormat.SQL: TimestampFormat.SQL, TimeFormat.ISO_LOCAL: TimestampFormat.ISO_8601}.get(
        time or TimeFormat.AUTO
    )


def _spellings(columns: Sequence[Column], form: JsonFormat) -> dict[str, Any]:
    """How the times in each column are spelled, for ``hlink-json``: a word, or the same for its fields."""
    found: dict[str, Any] = {}
    for column in columns:
        if column.fields:
            if below := _spellings(column.fields, form):
                found[column.name] = below
        elif (kind := str(types.of_column(column))) and ("TIMESTAMP" in kind or column.time is not None):
            if column.time is None and form.timestamp_format is not None and "TIMESTAMP_LTZ" not in kind:
                found[column.name] = _OF_OPTION[form.timestamp_format].value
            else:
                found[column.name] = (column.time or TimeFormat.AUTO).value
    return found
