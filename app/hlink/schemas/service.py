"""Schemas and samples as somebody sends them, to the columns of a table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from app.errors import InvalidInput, Problem, Unavailable
from app.hlink.schemas import avro_schema, described, inference, json_schema
from app.hlink.schemas.described import LARGEST_BYTES, Refused
from app.hlink.schemas.inference import Sample, Seen
from app.hlink.schemas.topic import TopicUnreadable, newest_messages
from app.hlink.tables import columns as tables
from app.hlink.tables import fields
from app.hlink.tables.definition import AVRO, JSON
from app.hlink.wire import InferredColumn, SchemaAnalysis, SchemaColumn, SchemaInference, TopicSample
from stream_jobs.definitions import Column, KafkaSource, Secret

_READERS: dict[int, Callable[[str], tuple[Column, ...]]] = {JSON: json_schema.columns, AVRO: avro_schema.columns}
_MESSAGES, _MOST_MESSAGES = 200, 10_000


async def analyse(content: bytes, schema_type: str, structure: str) -> SchemaAnalysis:
    """The columns that a schema describes.

    Raises InvalidInput: with the place in the schema and the remedy.
    """
    kind = _choice("schemaType", schema_type, "JSON", "Avro")
    structure_type = _choice("structureType", structure, "flat", "nested")
    text = _text(content, "schema")
    try:
        found = await asyncio.to_thread(_READERS[kind], text)
    except Refused as refused:
        raise InvalidInput(refused.problem) from None
    listed = [column for column, _ in described.flat(found)]
    _check(found, listed, structure_type)
    return SchemaAnalysis(schema_file=text, schema_type=kind, structure=structure_type, columns=listed)


async def infer(content: bytes) -> SchemaInference:
    """The columns of messages that somebody sent: a JSON array, or one message a line. Raises InvalidInput."""
    text = _text(content, "file of messages")
    try:
        return _inferred(await asyncio.to_thread(inference.messages, text))
    except Refused as refused:
        raise InvalidInput(refused.problem) from None


async def infer_from_topic(asked: TopicSample) -> SchemaInference:
    """The columns of the newest messages in a topic.

    Raises:
        InvalidInput: the request, a topic without messages or without JSON.
        Unavailable: the broker does not answer, or not in time.
    """
    source, wanted = _source(asked)
    try:
        texts = await newest_messages(source, wanted)
    except TopicUnreadable as error:
        raise Unavailable(str(error)) from None
    if not texts:
        raise InvalidInput(
            Problem(f"topic '{source.topic}' is empty", field="topic", remedy="send messages first, or upload samples")
        )
    try:
        return _inferred(await asyncio.to_thread(inference.sample, iter(texts)))
    except Refused as refused:
        raise InvalidInput(refused.problem) from None


def _inferred(sample: Sample) -> SchemaInference:
    if sample.unreadable_count and not sample.rows:
        raise Refused("", f"no message is a JSON object; {sample.unreadable[0]}", "send JSON objects")
    columns, seen = inference.infer(sample.rows)
    listed = [
        InferredColumn(**(column.model_dump() | _counts(seen[path]))) if path else InferredColumn(**column.model_dump())
        for column, path in described.flat(columns)
    ]
    _check(columns, listed)
    return SchemaInference(
        structure=int(bool(described.nested(columns))),
        columns=listed,
        messages=len(sample.rows),
        unreadable=list(sample.unreadable),
        unreadable_count=sample.unreadable_count,
    )


def _check(columns: Sequence[Column], listed: Sequence[SchemaColumn], structure: int | None = None) -> None:
    """Whether a table can be made of them as they are.

    Raises InvalidInput: names that no column can have, or nesting where ``structure`` says that there is none.
    """
    if not columns:
        raise InvalidInput(Problem("it describes no column", field="the schema", remedy="describe its fields"))
    _, problems = tables.tree([one.model_dump(exclude_none=True) for one in listed])
    if structure == 0 and (nested := described.nested(columns)):
        problems.append(
            Problem(
                f"structureType 0 says that the messages are flat, and {', '.join(nested)} is nested",
                field="structureType",
                remedy="send 1",
            )
        )
    if problems:
        raise InvalidInput(*problems)


def _counts(seen: Seen) -> dict[str, object]:
    return {
        "present": seen.present,
        "nulls": seen.nulls,
        "missing": seen.missing,
        "times": {str(spelling): count for spelling, count in seen.times.items() if count},
        "conflicts": seen.conflicts,
    }


def _choice(name: str, text: str, *meanings: str) -> int:
    if text.strip() in map(str, range(len(meanings))):
        return int(text)
    known = ", ".join(f"{number} ({meaning})" for number, meaning in enumerate(meanings))
    raise InvalidInput(Problem(f"'{text}' is not one of its values", field=name, remedy=f"send {known}"))


def _text(content: bytes, what: str) -> str:
    if len(content) > LARGEST_BYTES:
        raise InvalidInput(
            Problem(f"the {what} is larger than {LARGEST_BYTES} bytes", field="file", remedy="send a smaller one")
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            Problem(f"the {what} is not UTF-8 text (byte {error.start})", field="file", remedy="save it as UTF-8")
        ) from None
    if not text.strip() or "\x00" in text:
        raise InvalidInput(Problem(f"the {what} is empty or no text", field="file", remedy="send it as a file"))
    return text


def _source(asked: TopicSample) -> tuple[KafkaSource, int]:
    """Where to read, checked as a source's own fields are, and how many messages."""
    given = {
        "bootstrap_servers": asked.servers or "",
        "connector_topic": asked.topic or "",
        "properties": asked.properties or "",
        "group_id": "hlink-sample",
    }
    checked, problems = fields.check("source", "kafka", given)
    wanted = _MESSAGES if asked.messages is None else asked.messages
    if not 0 < wanted <= _MOST_MESSAGES:
        problems.append(Problem(f"{wanted} is out of bounds", field="messages", remedy=f"send 1 to {_MOST_MESSAGES}"))
    if problems:
        raise InvalidInput(*problems)
    properties = {
        key: Secret(checked.secrets[f"properties.{key}"]) if fields.is_secret_property(key) else value
        for key, value in fields.properties(checked.values).items()
    }
    values = checked.values
    return KafkaSource(values["bootstrap_servers"], values["connector_topic"], "", properties=properties), wanted
