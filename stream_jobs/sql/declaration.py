"""All that Flink is told of a table: mostly one CREATE TABLE; for a source with dead letters a little more.

Such a source is read once. Its rows carry, beside their columns, what was wrong with a message that could not be
read, and the message. The name that the user's SQL speaks of is a view of the rows that could be read; the others go to
the dead-letter topic by a statement of their own in the same job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from stream_jobs.definitions import Column, KafkaSink, KafkaSource, Role, Secret, Table
from stream_jobs.sql.ddl import create_table
from stream_jobs.sql.quoting import identifier

_ERROR, _RAW = "__hlink_error", "__hlink_raw"
_TOPIC, _PARTITION, _OFFSET = "__hlink_topic", "__hlink_partition", "__hlink_offset"
_READ_ALONG = (
    Column(_ERROR, "STRING", metadata="value.error"),
    Column(_RAW, "BYTES", metadata="value.raw"),
    Column(_TOPIC, "STRING", metadata="topic"),
    Column(_PARTITION, "INT", metadata="partition"),
    Column(_OFFSET, "BIGINT", metadata="offset"),
)
_DEAD_LETTER = (
    Column("topic", "STRING"),
    Column("partition", "INT"),
    Column("offset", "BIGINT"),
    Column("error", "STRING"),
    Column("raw", "BYTES"),
    Column("text", "STRING"),
)


@dataclass(frozen=True, slots=True)
class Declaration:
    """Statements that make a table known, those that every job with it runs, and the value of each placeholder."""

    statements: tuple[str, ...]
    inserts: tuple[str, ...]
    secrets: Mapping[str, Secret]

    @property
    def text(self) -> str:
        """All of it as a script."""
        return ";\n\n".join((*self.statements, *self.inserts))


def declare(table: Table, job_id: str) -> Declaration:
    """What Flink is told of the table.

    Raises:
        DefinitionError: something in the definition cannot be said in Flink SQL.
    """
    dead_letters = dead_letter_table(table)
    if dead_letters is None:
        made = create_table(table, job_id)
        return Declaration((made.text,), (), made.secrets)
    messages = replace(
        table,
        name=f"__hlink_{table.name}_messages",
        # A row for a message that could not be read has no values.
        columns=(*(replace(column, not_null=False) for column in table.columns), *_READ_ALONG),
    )
    source, sink = create_table(messages, job_id), create_table(dead_letters, job_id)
    return Declaration(
        (source.text, _view(table, messages), sink.text),
        (_letters(messages, dead_letters),),
        {**source.secrets, **sink.secrets},
    )


def dead_letter_table(table: Table) -> Table | None:
    """The sink of a source's dead letters; None where it has none."""
    match table.connector:
        case KafkaSource(dead_letter_topic=topic) as source if topic:
            connector = KafkaSink(source.bootstrap_servers, topic, properties=source.properties)
            return Table(f"__hlink_{table.name}_dead_letters", Role.SINK, connector, _DEAD_LETTER)
    return None


def _view(table: Table, messages: Table) -> str:
    columns = ", ".join(identifier(column.name) for column in table.columns)
    return (
        f"CREATE VIEW {identifier(table.name)} AS\n"
        f"SELECT {columns}\nFROM {identifier(messages.name)} WHERE {identifier(_ERROR)} IS NULL"
    )


def _letters(messages: Table, dead_letters: Table) -> str:
    columns = ", ".join(identifier(name) for name in (_TOPIC, _PARTITION, _OFFSET, _ERROR, _RAW))
    return (
        f"INSERT INTO {identifier(dead_letters.name)}\n"
        f"SELECT {columns}, DECODE({identifier(_RAW)}, 'UTF-8')\n"
        f"FROM {identifier(messages.name)} WHERE {identifier(_ERROR)} IS NOT NULL"
    )
