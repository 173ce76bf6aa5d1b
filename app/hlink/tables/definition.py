"""From a stored table to the plain value that SQL is generated from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import InvalidInput, Problem
from app.hlink import catalogue
from app.hlink.schemas import avro_schema
from app.hlink.schemas.described import Refused
from app.hlink.tables import column_types, columns, fields
from app.hlink.tables.columns import ColumnNode, column_problem
from app.hlink.tables.models import LONGEST_NAME, StoredTable
from stream_jobs.definitions import (
    AvroFormat,
    Connector,
    Format,
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
    OnError,
    RedisLookup,
    Role,
    Secret,
    Startup,
    Table,
    TimeFormat,
    TimestampFormat,
    Watermark,
)

JSON, AVRO = 0, 1


def to_definition(stored: StoredTable) -> Table:
    """The table as its jobs see it.

    Pure: nothing is asked, nothing is changed. Raises :class:`~app.errors.InvalidInput` with every problem found,
    each with the table, the column or field, and the remedy.
    """
    problems = [*alias_problems(stored.alias), *_kind_problems(stored)]
    if stored.kind not in fields.kinds(stored.role):
        raise InvalidInput(*problems)
    draft = _draft(stored, problems)
    watermark = draft.watermark()
    join_key = draft.join_key()
    primary_key = draft.primary_key()
    draft.check_types()
    draft.check_messages()
    if problems:
        raise InvalidInput(*problems)
    return Table(
        name=stored.alias,
        role=Role(stored.role),
        connector=draft.connector(),
        columns=tuple(node.column() for node in draft.nodes),
        primary_key=primary_key,
        watermark=watermark,
        join_key=join_key,
    )


def to_connection(stored: StoredTable) -> Table:
    """The table as far as a look at what it connects to needs it: its columns only when they are in order.

    Raises :class:`~app.errors.InvalidInput` for the role, the kind and the connector's fields.
    """
    problems = _kind_problems(stored)
    if problems:
        raise InvalidInput(*problems)
    draft = _draft(stored, problems)
    if draft.faulty_fields:
        raise InvalidInput(*draft.faulty_fields)
    columns = () if problems else tuple(node.column() for node in draft.nodes)
    return Table(
        name=stored.alias,
        role=Role(stored.role),
        connector=draft.connector(),
        columns=columns,
        primary_key=draft.primary_key() if columns else (),
    )


def _kind_problems(stored: StoredTable) -> list[Problem]:
    if stored.role not in fields.roles():
        return [
            Problem(
                f"'{stored.role}' is not a role of a table",
                field="dsType",
                table=stored.alias or None,
                remedy=f"choose one of: {', '.join(fields.roles())}",
            )
        ]
    if stored.kind not in fields.kinds(stored.role):
        return [
            Problem(
                f"a {stored.role} table cannot be of type '{stored.kind}'",
                field="tableType",
                table=stored.alias or None,
                remedy=f"choose one of: {', '.join(fields.kinds(stored.role))}",
            )
        ]
    return []


def _draft(stored: StoredTable, problems: list[Problem]) -> _Draft:
    """The table with its fields and columns read; what is wrong with them is added to ``problems``."""
    checked, faulty = fields.check(stored.role, stored.kind, stored.fields, stored.secrets, table=stored.alias or None)
    if stored.schema_type not in (JSON, AVRO):
        problems.append(
            Problem(
                f"{stored.schema_type} is not a format of messages",
                field="schemaType",
                table=stored.alias,
                remedy="choose 0 (JSON) or 1 (Avro)",
            )
        )
    url = checked.values.get("connector_url")
    if not faulty and url is not None and (fault := fields.jdbc_fault(stored.kind, url)):
        message, remedy = fault
        faulty.append(Problem(message, field="connector_url", table=stored.alias or None, remedy=remedy))
    nodes, column_problems = columns.tree(stored.columns, table=stored.alias or None)
    problems += faulty + column_problems
    return _Draft(stored, checked.values, checked.secrets, nodes, problems, faulty)


def alias_problems(alias: str) -> list[Problem]:
    """What is wrong with what SQL is to call a table: it must be a plain word that needs no quotes."""
    plain = alias.isascii() and alias.replace("_", "a").isalnum() and not alias[:1].isdigit()
    if not alias or not plain or len(alias) > LONGEST_NAME:
        return [
            Problem(
                f"{alias!r} cannot be the name of a table" if alias else "the table has no name",
                field="tableName",
                remedy=f"use letters, digits and underscores, a letter first, at most {LONGEST_NAME}",
            )
        ]
    if alias.upper() in catalogue.reserved_words():
        return [
            Problem(
                f"'{alias}' is a reserved word of Flink SQL",
                field="tableName",
                remedy=f"choose another name, such as {alias}_table",
            )
        ]
    return []


@dataclass
class _Draft:
    """A table on its way to its definition; ``problems`` grows."""

    stored: StoredTable
    values: Mapping[str, str]
    secrets: Mapping[str, str]
    nodes: list[ColumnNode]
    problems: list[Problem]
    faulty_fields: list[Problem]
    """Those of the problems that the connector's fields have."""

    def refuse_column(self, path: str, message: str, remedy: str) -> None:
        self.problems.append(column_problem(self.stored.alias, path, message, remedy))

    def refuse_field(self, name: str, message: str, remedy: str) -> None:
        self.problems.append(Problem(message, field=name, table=self.stored.alias, remedy=remedy))

    def watermark(self) -> Watermark | None:
        versioned = self.values.get("side_mode") == "versioned"
        if self.stored.role != Role.SOURCE and not versioned:
            return None
        marked = [node for node in _all(self.nodes) if node.event_time]
        for node in marked[1:]:
            self.refuse_column(
                node.path,
                f"a table has one event time, and {marked[0].path} is it already",
                "set eventTime 1 on one column only",
            )
        if not marked:
            if versioned:
                self.refuse_field(
                    "side_mode",
                    "a versioned side table needs event time, and no column is it",
                    "set eventTime 1 on the column that says since when a value is valid, or choose latest",
                )
            return None
        node = marked[0]
        if node not in self.nodes:
            self.refuse_column(
                node.path,
                "a nested field cannot be the event time",
                f"{_computed(node)} and set eventTime 1 on that one",
            )
        elif node.nesting or (node.type is not None and not node.type.is_time_attribute):
            self.refuse_column(
                node.path,
                f"event time must be TIMESTAMP(3) or TIMESTAMP_LTZ(3), not {node.nesting or node.type}",
                f"{_computed(node)} and set eventTime 1 on that one",
            )
        return Watermark(node.name, self._number("watermark_delay"), self._number("idle_timeout"))

    def join_key(self) -> tuple[str, ...]:
        if self.stored.role != Role.SIDE:
            return ()
        keys = tuple(node.name for node in self.nodes if node.join_key)
        if not keys and self.nodes:
            self.problems.append(
                Problem(
                    "a side table is looked up by a key, and no column is one",
                    field="joinKey",
                    table=self.stored.alias,
                    remedy="set joinKey 1 on the column (or columns) at the top that it is looked up by",
                )
            )
        if len(keys) > 1 and (self.values.get("key_format") == KeyFormat.TEXT or self.stored.kind == "redis"):
            self.refuse_column(
                keys[1],
                f"a key that is one text can only have one column, and {keys[0]} is it already",
                "set joinKey 1 on one column" + (", or choose key_format json" if self.stored.kind == "kafka" else ""),
            )
        return keys

    def primary_key(self) -> tuple[str, ...]:
        if self.stored.role == Role.SIDE and self.stored.kind in ("kafka", "redis"):
            return tuple(node.name for node in self.nodes if node.join_key)
        if self.stored.kind == "hbase":
            return tuple(node.name for node in self.nodes if not _is_row(node))[:1]
        known = {node.name for node in self.nodes}
        wanted = [name.strip() for name in self.values.get("primary_key", "").split(",") if name.strip()]
        for name in wanted:
            if name not in known:
                self.refuse_field(
                    "primary_key",
                    f"there is no column '{name}' at the top",
                    f"choose from: {', '.join(node.name for node in self.nodes)}",
                )
        if len(set(wanted)) < len(wanted):
            self.refuse_field("primary_key", f"'{', '.join(wanted)}' names a column twice", "name each column once")
        return tuple(wanted)

    def check_types(self) -> None:
        """What the connector cannot carry."""
        self.check_text_columns()
        self.check_families()
        carried = column_types.known().jdbc.get(self.stored.role, {}).get(self.stored.kind)
        for node in self.nodes:
            if self.stored.role == Role.SINK and node.expression:
                self.refuse_column(
                    node.path, "a sink cannot have a computed column", "compute it in the statement instead"
                )
            if carried is None or (node.expression and node.type is None):
                continue
            for name in sorted(node.type_names() - carried):
                self.refuse_column(
                    node.path,
                    f"a {self.stored.kind} table cannot hold {name}",
                    f"use one of: {', '.join(sorted(carried))}",
                )

    def check_text_columns(self) -> None:
        """Keys that are read as text, and Redis, which holds nothing else."""
        texts = [node for node in self.nodes if not node.expression and not _is_text(node)]
        if self.values.get("key_format") == KeyFormat.TEXT:
            for node in texts:
                if node.join_key:
                    self.refuse_column(node.path, "a key that is text must be STRING", "make it STRING and CAST in ON")
        if self.stored.kind == "redis":
            for node in texts:
                self.refuse_column(node.path, "a redis table holds STRING only", "make it STRING and CAST it")

    def check_families(self) -> None:
        """HBase: one row key, and families of columns."""
        if self.stored.kind != "hbase":
            return
        keys = [node for node in self.nodes if not _is_row(node)]
        for node in keys[1:]:
            self.refuse_column(
                node.path,
                f"a table of HBase has one row key, and {keys[0].path} is it already",
                "put the column into a column family: a ROW",
            )
        if not keys and self.nodes:
            self.refuse_column(self.nodes[0].path, "a table of HBase needs a row key", "add a column that is no ROW")

    def check_messages(self) -> None:
        """What the format of the messages cannot do."""
        values, source = self.values, self.stored.role == Role.SOURCE
        avro, registry = self.stored.schema_type == AVRO, values.get("registry_url", "")
        if avro and not registry and self.stored.schema_file:
            self._check_avro()
        goes_on = source and values.get("on_parse_error", OnError.FAIL) != OnError.FAIL
        if goes_on and avro and (registry or not self.stored.schema_file):
            self.refuse_field(
                "on_parse_error",
                "Avro messages can be left out only when they are read by a schema of the table's own",
                "send the schema in schemaFile, without registry_url, or choose fail",
            )
        for node in _all(self.nodes):
            if self.stored.role == Role.SINK and node.time in (TimeFormat.EPOCH_MILLIS, TimeFormat.EPOCH_SECONDS):
                self.refuse_column(
                    node.path,
                    "a sink cannot write times as numbers",
                    "make the column BIGINT and compute the number in the statement",
                )
        if values.get("dead_letter_topic") and values["dead_letter_topic"] == values.get("connector_topic"):
            self.refuse_field("dead_letter_topic", "it is the topic that is read", "choose another topic")

    def _check_avro(self) -> None:
        try:
            described = avro_schema.columns(self.stored.schema_file)
        except Refused as refused:
            fault = refused.problem
            self.refuse_field("schemaFile", f"{fault.field}: {fault.message}", fault.remedy or "")
            return
        if all(node.type or node.children for node in _all(self.nodes) if not node.expression):
            carried = [node.column() for node in self.nodes if not node.expression]
            for path, message, remedy in avro_schema.differences(carried, described):
                self.refuse_column(path, message, remedy)
            missing = avro_schema.unfilled(self.stored.schema_file, carried)
            if missing and self.stored.role == Role.SINK:
                self.refuse_field(
                    "schemaFile",
                    f"the Avro schema's fields {', '.join(missing)} have no default, and no column fills them",
                    "add columns of these names, or defaults in the schema",
                )

    def connector(self) -> Connector:
        """The connector's value; only when no problem was found."""
        values = self.values
        match (self.stored.role, self.stored.kind):
            case (Role.SOURCE, "kafka"):
                startup = Startup(values["startup_mode"])
                return KafkaSource(
                    bootstrap_servers=values["bootstrap_servers"],
                    topic=values["connector_topic"],
                    group_id=values["group_id"],
                    startup=startup,
                    startup_timestamp_ms=self._number("startup_timestamp") if startup is Startup.TIMESTAMP else None,
                    startup_offsets=fields.offsets(values.get("partition_offset", "")),
                    format=self._format(),
                    on_error=OnError(values["on_parse_error"]),
                    dead_letter_topic=values.get("dead_letter_topic", ""),
                    properties=self._properties(),
                )
            case (Role.SINK, "kafka"):
                return KafkaSink(
                    bootstrap_servers=values["bootstrap_servers"],
                    topic=values["connector_topic"],
                    partitioner=values["connector_sink_partitione"],
                    exactly_once=values["exactly_once"] == "yes",
                    format=self._format(),
                    properties=self._properties(),
                )
            case (Role.SIDE, "kafka"):
                return KafkaLookup(
                    bootstrap_servers=values["bootstrap_servers"],
                    topic=values["connector_topic"],
                    group_id=values["group_id"],
                    versioned=values["side_mode"] == "versioned",
                    zoned=values.get("stream_time", "").startswith("TIMESTAMP_LTZ"),
                    key_format=KeyFormat(values["key_format"]),
                    format=self._format(),
                    properties=self._properties(),
                )
            case (Role.SIDE, "http"):
                return HttpLookup(
                    url=values["requestUrl"],
                    timeout_ms=self._number("timeOut"),
                    charset=values["charSet"],
                    cache=self._cache(),
                    headers=self._properties("headers"),
                )
            case (Role.SIDE, "redis"):
                host, port = fields.brokers(values["redis_address"])[0]
                password = Secret(self.secrets.get("connector_password", ""))
                return RedisLookup(host, port, self._number("redis_database"), password, self._cache())
            case (Role.SINK, "hbase"):
                return HbaseSink(
                    table=values["connector_table_name"],
                    quorum=values["connector_zookeeper_quorum"],
                    znode_parent=values["connector_zookeeper_znode_parent"],
                    buffer_size=values["connector_write_buffer_flush_max_size"],
                    buffer_rows=self._number("connector_write_buffer_flush_max_rows"),
                    flush_interval=values["connector_write_buffer_flush_interval"],
                )
            case (Role.SIDE, _):
                return JdbcLookup(
                    connection=self._jdbc(),
                    cache=self._cache(),
                    max_retries=self._number("acquire_retry_attempts"),
                )
            case _:
                return JdbcSink(
                    connection=self._jdbc(),
                    batch_rows=self._number("write_max_rows"),
                    flush_interval_ms=self._number("flush_interval"),
                )

    def _number(self, name: str) -> int:
        # A value that is no number was refused already; the table is not made then.
        text = self.values.get(name, "")
        return int(text) if text.isdecimal() else 0

    def _format(self) -> Format:
        if self.stored.schema_type == AVRO:
            registry = self.values["registry_url"]
            return AvroFormat(registry, "" if registry else self.stored.schema_file)
        spelling = self.values["timestamp_format"]
        return JsonFormat(TimestampFormat(spelling) if spelling else None)

    def _properties(self, name: str = "properties") -> dict[str, str | Secret]:
        return {
            key: Secret(self.secrets[f"{name}.{key}"]) if fields.is_secret_property(key) else value
            for key, value in fields.properties(self.values, name).items()
        }

    def _jdbc(self) -> JdbcConnection:
        return JdbcConnection(
            url=self.values["connector_url"],
            table=self.values["table_name"],
            username=self.values["connector_username"],
            password=Secret(self.secrets["connector_password"]),
        )

    def _cache(self) -> LookupCache | None:
        if self.values["cacheType"] == "none":
            return None
        return LookupCache(self._number("maximumSize"), self._number("expireAfterWrite") * 1000)


def _all(nodes: list[ColumnNode]) -> list[ColumnNode]:
    return [found for node in nodes for found in (node, *_all(node.children))]


def _is_text(node: ColumnNode) -> bool:
    return node.type is not None and node.type.name in ("STRING", "CHAR", "VARCHAR")


def _is_row(node: ColumnNode) -> bool:
    return node.nesting == "ROW" or (node.type is not None and node.type.name == "ROW")


def _computed(node: ColumnNode) -> str:
    """The column to write so that event time can be on it."""
    name, reference = f"{node.name}_time", node.reference
    kind = node.type.name if node.type else ""
    if kind in ("TIMESTAMP", "TIMESTAMP_LTZ"):
        expression = reference if node.type and node.type.is_time_attribute else f"CAST({reference} AS {kind}(3))"
    elif kind in ("STRING", "CHAR", "VARCHAR"):
        expression = f"TO_TIMESTAMP({reference}, 'yyyy-MM-dd HH:mm:ss')"
    else:
        expression = f"TO_TIMESTAMP_LTZ({reference}, 3)"
    return f"add a column {name} with the expression {expression}"
