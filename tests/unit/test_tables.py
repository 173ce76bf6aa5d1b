"""Stored tables become plain values, or are refused with the place and the remedy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jsonschema
import pytest

from app.errors import InvalidInput
from app.hlink import catalogue
from app.hlink.tables import StoredTable, to_definition
from app.hlink.tables import fields as connector_fields
from app.hlink.tables.definition import AVRO
from stream_jobs.definitions import (
    AvroFormat,
    Column,
    HbaseSink,
    HttpLookup,
    JdbcLookup,
    JdbcSink,
    JsonFormat,
    KafkaLookup,
    KafkaSink,
    KafkaSource,
    KeyFormat,
    LookupCache,
    RedisLookup,
    Role,
    Secret,
    Startup,
    TimestampFormat,
    Watermark,
)
from stream_jobs.sql import ddl, types

ORDERS = [
    {"name": "id", "flink_type": "BIGINT"},
    {"name": "ts", "flink_type": "TIMESTAMP(3)", "event_time": 1},
    {"name": "price", "flink_type": "DECIMAL"},
]


def kafka_source(columns: Sequence[dict[str, Any]] = ORDERS, **fields: str) -> StoredTable:
    given = {"bootstrap_servers": "k:9092", "connector_topic": "orders", "group_id": "g"} | fields
    return StoredTable(
        id=1, name="Orders", alias="orders", role="source", kind="kafka", columns=list(columns), fields=given
    )


def kafka_sink(columns: Sequence[dict[str, Any]] = ORDERS, **fields: str) -> StoredTable:
    given = {"bootstrap_servers": "k:9092", "connector_topic": "out"} | fields
    return StoredTable(id=1, name="Out", alias="out_t", role="sink", kind="kafka", columns=list(columns), fields=given)


def jdbc(role: str, kind: str = "postgresql", columns: Sequence[dict[str, Any]] = (), **fields: str) -> StoredTable:
    given = {
        "connector_url": connector_fields.JDBC_EXAMPLES[kind],
        "table_name": "products",
        "connector_username": "hlink",
        "connector_password": connector_fields.mask(),
    } | fields
    return StoredTable(
        id=1,
        name="Products",
        alias="products",
        role=role,
        kind=kind,
        columns=list(columns) or [{"name": "id", "flink_type": "BIGINT", "join_key": 1}],
        fields=given,
        secrets={"connector_password": "s3cret"},
    )


def refusals(table: StoredTable) -> list[str]:
    with pytest.raises(InvalidInput) as refused:
        to_definition(table)
    return [str(problem) for problem in refused.value.problems]


# What becomes of a table that is in order


def test_kafka_source_takes_its_connector_from_the_fields() -> None:
    table = to_definition(
        kafka_source(startup_mode="specific-offsets", partition_offset="0,42;1,300", watermark_delay="5000")
    )
    assert table.role is Role.SOURCE
    assert table.connector == KafkaSource(
        "k:9092", "orders", "g", Startup.SPECIFIC, startup_offsets=((0, 42), (1, 300)), format=JsonFormat(None)
    )
    assert table.watermark == Watermark("ts", delay_ms=5000)


def test_zookeeper_may_be_left_out_though_the_original_asks_for_it() -> None:
    assert to_definition(kafka_source(zookeeper_connect="")).name == "orders"


def test_a_source_can_start_at_a_point_in_time() -> None:
    connector = to_definition(kafka_source(startup_mode="timestamp", startup_timestamp="1385856000000")).connector
    assert isinstance(connector, KafkaSource)
    assert (connector.startup, connector.startup_timestamp_ms) == (Startup.TIMESTAMP, 1385856000000)


def test_schema_type_1_is_avro_and_a_registry_frames_it() -> None:
    stored = kafka_source(registry_url="http://registry:8081")
    stored.schema_type = 1
    assert to_definition(stored).connector.format == AvroFormat("http://registry:8081")  # type: ignore[union-attr]


def test_a_given_timestamp_format_overrides_the_choice_by_types() -> None:
    connector = to_definition(kafka_source(timestamp_format="ISO-8601")).connector
    assert connector.format == JsonFormat(TimestampFormat.ISO_8601)  # type: ignore[union-attr]


def test_kafka_sink_with_a_primary_key_is_an_upsert() -> None:
    table = to_definition(kafka_sink(primary_key="id, ts", exactly_once="yes", connector_sink_partitione="fixed"))
    assert table.primary_key == ("id", "ts")
    assert table.connector == KafkaSink("k:9092", "out", "fixed", exactly_once=True, format=JsonFormat(None))


def test_credentials_among_client_properties_are_secrets() -> None:
    stored = kafka_sink(properties="acks=all\nsasl.jaas.config=******")
    stored.secrets = {"properties.sasl.jaas.config": "PlainLoginModule password=x"}
    connector = to_definition(stored).connector
    assert isinstance(connector, KafkaSink)
    assert connector.properties == {"acks": "all", "sasl.jaas.config": Secret("PlainLoginModule password=x")}


def test_side_table_is_a_lookup_by_its_join_keys() -> None:
    columns = [
        {"name": "id", "flink_type": "BIGINT", "join_key": 1},
        {"name": "region", "flink_type": "STRING", "join_key": 1},
        {"name": "price", "flink_type": "DOUBLE"},
    ]
    table = to_definition(jdbc("side", columns=columns, cacheType="W_TinyLFU", maximumSize="50", expireAfterWrite="2"))
    assert table.join_key == ("id", "region")
    assert isinstance(table.connector, JdbcLookup)
    assert table.connector.cache == LookupCache(max_rows=50, expire_after_write_ms=2000)
    assert table.connector.connection.password == Secret("s3cret")


@pytest.mark.parametrize(("kind", "retries"), [("mysql", 3), ("postgresql", 3), ("oracle", 30)])
def test_lookup_retries_default_to_the_originals(kind: str, retries: int) -> None:
    connector = to_definition(jdbc("side", kind)).connector
    assert isinstance(connector, JdbcLookup)
    assert (connector.max_retries, connector.cache) == (retries, None)


def test_jdbc_sink_takes_batch_and_flush() -> None:
    connector = to_definition(jdbc("sink", "mysql", write_max_rows="10", flush_interval="200")).connector
    assert isinstance(connector, JdbcSink)
    assert (connector.batch_rows, connector.flush_interval_ms) == (10, 200)


NESTED = [
    {"name": "id", "flink_type": "BIGINT", "virtual_id": "1", "level": 1},
    {"name": "user", "flink_type": "ROW", "virtual_id": "2", "level": 1},
    {"name": "name", "flink_type": "STRING", "virtual_id": "3", "virtual_parent_id": "2", "level": 2},
    {"name": "work", "flink_type": "ARRAY", "virtual_id": "4", "level": 1},
    {"name": "company", "flink_type": "STRING", "virtual_id": "5", "virtual_parent_id": "4", "level": 2},
]
NESTED_COLUMNS = (
    Column("id", "BIGINT"),
    Column("user", "ROW", (Column("name", "STRING"),)),
    Column("work", "ARRAY", (Column("company", "STRING"),)),
)


def below(parent: str) -> list[dict[str, Any]]:
    return [{"virtual_parent_id": parent, **column} for column in NESTED]


ROOT = {"name": "root", "flink_type": "ROW", "virtual_id": "9", "virtual_parent_id": "0", "level": 0}


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param(below("0"), id="without the root row"),
        pytest.param([ROOT, *below("9")], id="with it"),
        pytest.param(below("9"), id="with its id but without the row"),
    ],
)
def test_the_column_tree_comes_with_or_without_its_root(columns: list[dict[str, Any]]) -> None:
    assert to_definition(kafka_source(columns)).columns == NESTED_COLUMNS


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("VARCHAR", "STRING"),
        ("decimal", "DECIMAL(38, 18)"),
        ("DECIMAL(10,2)", "DECIMAL(10, 2)"),
        ("TIMESTAMP", "TIMESTAMP(3)"),
        ("TIMESTAMP_LTZ", "TIMESTAMP_LTZ(3)"),
        ("ARRAY<VARCHAR>", "ARRAY<STRING>"),
        ("map<string, array<bigint>>", "MAP<STRING, ARRAY<BIGINT>>"),
        ("ROW<a INT, `order` DECIMAL>", "ROW<`a` INT, `order` DECIMAL(38, 18)>"),
    ],
)
def test_types_mean_what_they_meant_in_the_original(written: str, meant: str) -> None:
    assert to_definition(kafka_source([{"name": "c", "flink_type": written}])).columns == (Column("c", meant),)


def test_not_null_belongs_to_the_column() -> None:
    column = to_definition(kafka_source([{"name": "c", "flink_type": "BIGINT not null"}])).columns[0]
    assert (column.type, column.not_null) == ("BIGINT", True)


def test_a_column_can_be_computed_and_carry_event_time() -> None:
    columns = [
        {"name": "ms", "flink_type": "BIGINT"},
        {"name": "at", "expression": "TO_TIMESTAMP_LTZ(ms, 3)", "event_time": 1},
        {"name": "now", "expression": "PROCTIME()"},
    ]
    table = to_definition(kafka_source(columns))
    assert table.columns[1] == Column("at", "", expression="TO_TIMESTAMP_LTZ(ms, 3)")
    assert table.watermark == Watermark("at")


@pytest.mark.parametrize("name", ["order", "a b", "it's", "a`b", "价格", "x;y"])
def test_columns_may_be_called_anything_that_can_be_quoted(name: str) -> None:
    table = to_definition(kafka_source([{"name": name, "flink_type": "INT"}]))
    assert table.columns[0].name == name
    assert ddl.create_table(table, "1").text


def test_event_time_on_a_sink_means_nothing_and_is_left_alone() -> None:
    assert to_definition(kafka_sink()).watermark is None


# What is refused, and how


def test_every_problem_is_told_not_only_the_first() -> None:
    found = refusals(kafka_source([{"name": "a", "flink_type": "NUMBER"}], connector_topic="", startup_mode="latest"))
    assert len(found) == 3


@pytest.mark.parametrize(
    ("alias", "message"),
    [
        ("order", "'order' is a reserved word of Flink SQL (choose another name, such as order_table)"),
        ("my table", "'my table' cannot be the name of a table"),
        ("t`; DROP", "cannot be the name of a table (use letters, digits and underscores, a letter first"),
        ("1st", "'1st' cannot be the name of a table"),
        ("", "tableName: the table has no name"),
    ],
)
def test_an_alias_is_a_plain_word_that_is_not_reserved(alias: str, message: str) -> None:
    stored = kafka_source()
    stored.alias = alias
    assert message in refusals(stored)[0]


def test_unknown_role_and_kind_are_refused_with_the_choices() -> None:
    stored = kafka_source()
    stored.kind = "pulsar"
    assert refusals(stored) == [
        "table orders, tableType: a source table cannot be of type 'pulsar' (choose one of: kafka)"
    ]
    stored.role = "udf"
    assert refusals(stored) == [
        "table orders, dsType: 'udf' is not a role of a table (choose one of: source, sink, side)"
    ]


def test_unknown_message_format_is_refused() -> None:
    stored = kafka_source()
    stored.schema_type = 2
    assert refusals(stored) == ["table orders, schemaType: 2 is not a format of messages (choose 0 (JSON) or 1 (Avro))"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"connector_topic": ""}, "connector_topic: is required and has no value (give the topic)"),
        ({"group_id": " "}, "group_id: is required and has no value (give the consumer group)"),
        ({"bootstrap_servers": "kafka"}, "bootstrap_servers: 'kafka' is not host:port (give the brokers as host:port"),
        ({"bootstrap_servers": "a:1,b:99999"}, "'b:99999' is not host:port"),
        ({"connector_topic": "a b"}, "connector_topic: 'a b' cannot be a topic (use at most 249 letters"),
        (
            {"startup_mode": "latest"},
            "startup_mode: 'latest' is not one of its values (choose one of: latest-offset, earliest-offset",
        ),
        (
            {"startup_mode": "specific-offsets"},
            "partition_offset: is required and has no value (partition,offset pairs",
        ),
        (
            {"startup_mode": "specific-offsets", "partition_offset": "0:42"},
            "partition_offset: '0:42' is not partition,offset (write pairs such as 0,42;1,300)",
        ),
        (
            {"startup_mode": "specific-offsets", "partition_offset": "0,1;0,2"},
            "partition_offset: partition 0 is there twice",
        ),
        ({"startup_mode": "timestamp"}, "startup_timestamp: is required and has no value (give a whole number)"),
        ({"watermark_delay": "5s"}, "watermark_delay: '5s' is not a whole number"),
        ({"idle_timeout": "-1"}, "idle_timeout: -1 is too small (the smallest is 0)"),
        ({"registry_url": "registry:8081"}, "registry_url: 'registry:8081' is not an address (write http://host:port)"),
        ({"startup_mod": "x"}, "startup_mod: a kafka source table has no such field (did you mean startup_mode?)"),
        ({"properties": "acks"}, "properties: line 1 is not key=value (write one property a line"),
        ({"properties": "a=1\na=2"}, "properties: 'a' is there twice (keep one of the two lines)"),
        ({"properties": "sasl.jaas.config=******"}, "'******' for sasl.jaas.config only stands for what was"),
    ],
)
def test_a_connector_field_is_refused_by_name_value_and_remedy(fields: dict[str, str], message: str) -> None:
    (problem,) = refusals(kafka_source(**fields))
    assert problem.startswith("table orders, ")
    assert message in problem


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"flink_type": "NUMBER"}, "column c: 'NUMBER' is not a type of Flink SQL; write DECIMAL(p, s)"),
        ({"flink_type": "BIGNIT"}, "'BIGNIT' is not a type of Flink SQL; did you mean BIGINT?"),
        ({"flink_type": "DECIMAL(40, 2)"}, "'DECIMAL(40, 2)': 40 is out of bounds, DECIMAL takes 1 to 38"),
        ({"flink_type": "DECIMAL(5, 7)"}, "'DECIMAL(5, 7)' has more digits after the point (7) than in all (5)"),
        ({"flink_type": "MAP"}, "'MAP' is not a type of Flink SQL; write element types, as in ARRAY<STRING>"),
        ({"flink_type": "INT) WITH ("}, "'INT) WITH (' is not a type of Flink SQL"),
        ({"flink_type": "ARRAY<" * 99 + "INT" + ">" * 99}, "' is too long for a type; flatten it"),
        ({"flink_type": ""}, "column c: it has no type (give its flinkType, such as BIGINT or STRING)"),
        ({"flink_type": "ROW"}, "column c: a ROW needs fields (add child columns"),
        ({"flink_type": "ARRAY"}, "column c: an ARRAY needs an element type (write ARRAY<STRING>"),
        ({"flink_type": "INT", "name": ""}, "column (no name): it has no name (give every column a name)"),
        ({"flink_type": "INT", "name": "a\nb"}, "its name 'a\\nb' has characters that cannot be seen (rename it)"),
        ({"flink_type": "INT", "name": " a"}, "its name ' a' begins or ends with a space (remove the space)"),
    ],
)
def test_a_column_is_refused_by_name_and_remedy(column: dict[str, Any], message: str) -> None:
    found = refusals(kafka_source([{"name": "c", **column}]))
    assert message in found[0]


def test_duplicate_names_are_refused_at_every_level() -> None:
    columns = [*below("0"), {"name": "id", "flink_type": "INT"}]
    columns.append({"name": "name", "flink_type": "INT", "virtual_id": "8", "virtual_parent_id": "2", "level": 2})
    assert refusals(kafka_source(columns)) == [
        "table orders, column id: the name is there 2 times (rename all but one)",
        "table orders, column user.name: the name is there 2 times (rename all but one)",
    ]


def test_a_tree_that_does_not_hold_together_is_refused() -> None:
    orphan = {"name": "x", "flink_type": "INT", "virtual_id": "7", "virtual_parent_id": "66", "level": 2}
    assert (
        "column x: its parent 66 is not among the columns (send the parent with it"
        in refusals(kafka_source([*NESTED, orphan]))[0]
    )
    twin = {"name": "x", "flink_type": "INT", "virtual_id": "1"}
    assert "the columns id, x have the same virtualId 1" in refusals(kafka_source([*NESTED, twin]))[0]
    circle = [
        {"name": "a", "flink_type": "ROW", "virtual_id": "1", "virtual_parent_id": "2", "level": 2},
        {"name": "b", "flink_type": "ROW", "virtual_id": "2", "virtual_parent_id": "1", "level": 2},
    ]
    assert "some columns are their own ancestors" in refusals(kafka_source(circle))[0]
    assert refusals(kafka_source([])) == [
        "table orders: the table has no columns (send them in dsSchemaColumnVOS)",
    ]


def test_children_need_a_column_that_can_have_them() -> None:
    columns = [
        {"name": "a", "flink_type": "INT", "virtual_id": "1"},
        {"name": "b", "flink_type": "INT", "virtual_id": "2", "virtual_parent_id": "1", "level": 2},
    ]
    assert "column a: a INT cannot have child columns (make it ROW or ARRAY" in refusals(kafka_source(columns))[0]


def test_two_event_times_are_refused() -> None:
    columns = [{"name": n, "flink_type": "TIMESTAMP(3)", "event_time": 1} for n in ("a", "b")]
    assert refusals(kafka_source(columns)) == [
        "table orders, column b: a table has one event time, and a is it already (set eventTime 1 on one column only)"
    ]


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("BIGINT", "add a column ts_time with the expression TO_TIMESTAMP_LTZ(`ts`, 3) and set eventTime 1 on that"),
        ("STRING", "the expression TO_TIMESTAMP(`ts`, 'yyyy-MM-dd HH:mm:ss')"),
        ("TIMESTAMP(6)", "the expression CAST(`ts` AS TIMESTAMP(3))"),
    ],
)
def test_event_time_of_another_type_shows_the_column_to_write(kind: str, remedy: str) -> None:
    (problem,) = refusals(kafka_source([{"name": "ts", "flink_type": kind, "event_time": 1}]))
    assert f"column ts: event time must be TIMESTAMP(3) or TIMESTAMP_LTZ(3), not {kind}" in problem
    assert remedy in problem


def test_nested_event_time_shows_the_column_to_write() -> None:
    columns = [dict(column) for column in NESTED]
    columns[2] |= {"flink_type": "TIMESTAMP(3)", "event_time": 1}
    assert (
        "column user.name: a nested field cannot be the event time (add a column name_time with the expression "
        in (refusals(kafka_source(columns))[0])
    )


def test_a_side_table_needs_a_join_key() -> None:
    assert refusals(jdbc("side", columns=[{"name": "id", "flink_type": "BIGINT"}])) == [
        "table products, joinKey: a side table is looked up by a key, and no column is one "
        "(set joinKey 1 on the column (or columns) at the top that it is looked up by)"
    ]


def test_primary_key_must_name_columns() -> None:
    assert refusals(kafka_sink(primary_key="idd")) == [
        "table out_t, primary_key: there is no column 'idd' at the top (choose from: id, ts, price)"
    ]


@pytest.mark.parametrize(
    ("kind", "url", "message"),
    [
        ("postgresql", "jdbc:mysql://h/db", "a postgresql table cannot have a URL of mysql (write jdbc:postgresql://"),
        ("mysql", "mysql://h/db", "'mysql:' is not the beginning of a URL of mysql (write jdbc:mysql://host:3306/"),
        ("mysql", "jdbc:mysql://h", "the URL lacks its host or its database (write jdbc:mysql://host:3306/database)"),
        ("mysql", "jdbc:mysql://u:p4ss@h/db", "the URL carries credentials, and URLs are shown (take them out"),
        ("postgresql", "jdbc:postgresql://h/db?user=u&password=p4ss", "the URL carries credentials"),
        ("oracle", "jdbc:oracle:thin:scott/p4ss@//h:1521/x", "the URL carries credentials"),
    ],
)
def test_a_url_must_fit_its_table_and_carry_no_credentials(kind: str, url: str, message: str) -> None:
    (problem,) = refusals(jdbc("sink", kind, connector_url=url))
    assert message in problem
    assert "p4ss" not in problem


def test_a_database_table_holds_only_what_its_dialect_has() -> None:
    columns = [{"name": "m", "flink_type": "MAP<STRING, INT>"}, {"name": "t", "flink_type": "TIMESTAMP_LTZ(3)"}]
    found = refusals(jdbc("sink", "mysql", columns=columns))
    assert [problem.split(" (")[0] for problem in found] == [
        "table products, column m: a mysql table cannot hold MAP",
        "table products, column t: a mysql table cannot hold TIMESTAMP_LTZ",
    ]


def test_arrays_of_postgresql_can_be_read_and_not_written() -> None:
    columns = [{"name": "id", "flink_type": "INT", "join_key": 1}, {"name": "a", "flink_type": "ARRAY<INT>"}]
    assert to_definition(jdbc("side", columns=columns)).columns[1].type == "ARRAY<INT>"
    (problem,) = refusals(jdbc("sink", columns=columns))
    assert "column a: a postgresql table cannot hold ARRAY" in problem


def test_a_sink_has_no_computed_columns() -> None:
    columns = [{"name": "id", "flink_type": "INT"}, {"name": "p", "expression": "PROCTIME()"}]
    assert refusals(kafka_sink(columns)) == [
        "table out_t, column p: a sink cannot have a computed column (compute it in the statement instead)"
    ]


# Side tables that are no databases, and HBase

KEYED = [
    {"name": "id", "flink_type": "STRING", "join_key": 1},
    {"name": "since", "flink_type": "TIMESTAMP(3)", "event_time": 1},
]


def other(role: str, kind: str, columns: Sequence[dict[str, Any]] = KEYED, **fields: str) -> StoredTable:
    given = {
        ("side", "kafka"): {"bootstrap_servers": "k:9092", "connector_topic": "prices", "group_id": "g"},
        ("side", "http"): {"requestUrl": "http://h/prices"},
        ("side", "redis"): {"redis_address": "r:6379", "connector_password": connector_fields.mask()},
        ("sink", "hbase"): {"connector_table_name": "ns:t", "connector_zookeeper_quorum": "z1:2181,z2:2181"},
    }[role, kind]
    secrets = {"connector_password": "s3cret"}
    return StoredTable(
        id=1,
        name="P",
        alias="prices",
        role=role,
        kind=kind,
        columns=list(columns),
        fields=given | fields,
        secrets=secrets,
    )


def test_a_topic_as_side_table_finds_the_latest_value_or_that_of_its_own_time() -> None:
    latest = to_definition(other("side", "kafka", stream_time="TIMESTAMP_LTZ(3)"))
    assert latest.connector == KafkaLookup("k:9092", "prices", "g", zoned=True)
    assert (latest.primary_key, latest.join_key, latest.watermark) == (("id",), ("id",), None)
    versioned = to_definition(other("side", "kafka", side_mode="versioned", watermark_delay="2000", key_format="raw"))
    assert versioned.connector == KafkaLookup("k:9092", "prices", "g", versioned=True, key_format=KeyFormat.TEXT)
    assert versioned.watermark == Watermark("since", 2000, 5000)


def test_a_versioned_side_table_needs_event_time() -> None:
    assert refusals(other("side", "kafka", KEYED[:1], side_mode="versioned")) == [
        "table prices, side_mode: a versioned side table needs event time, and no column is it "
        "(set eventTime 1 on the column that says since when a value is valid, or choose latest)"
    ]


def test_a_key_that_is_text_is_one_string() -> None:
    columns = [{"name": name, "flink_type": "INT", "join_key": 1} for name in ("a", "b")]
    assert [problem.split(" (")[0] for problem in refusals(other("side", "kafka", columns, key_format="raw"))] == [
        "table prices, column b: a key that is one text can only have one column, and a is it already",
        "table prices, column a: a key that is text must be STRING",
        "table prices, column b: a key that is text must be STRING",
    ]


def test_an_address_as_side_table_takes_its_connector_from_the_fields() -> None:
    cache = {"cacheType": "W_TinyLFU", "maximumSize": "10", "expireAfterWrite": "5"}
    assert to_definition(other("side", "http", timeOut="1500", charSet="gbk", **cache)).connector == HttpLookup(
        "http://h/prices", 1500, "gbk", LookupCache(10, 5000)
    )
    assert to_definition(other("side", "http")).connector == HttpLookup("http://h/prices")
    told = to_definition(other("side", "http", headers="Authorization=Bearer x1\nX-From=hlink"))
    assert told.connector == HttpLookup(
        "http://h/prices", headers={"Authorization": Secret("Bearer x1"), "X-From": "hlink"}
    )
    assert "x1" not in ddl.create_table(told, "7").text


def test_an_address_that_carries_credentials_is_refused_without_repeating_them() -> None:
    for url in ("http://u:p4ss@h/x", "http://h/x?api_key=p4ss"):
        (problem,) = refusals(other("side", "http", requestUrl=url))
        assert "the address carries credentials, and addresses are shown (put them into headers" in problem
        assert "p4ss" not in problem


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"connector_write_buffer_flush_max_size": "big"}, "'big' is not a size (write a number and its unit, such as"),
        ({"connector_write_buffer_flush_interval": "2"}, "'2' is not a length of time (write a number and its unit, s"),
        (
            {"connector_write_buffer_flush_max_rows": "9999999999"},
            "9999999999 is too large (the largest is 2147",
        ),
        ({"connector_zookeeper_quorum": "z1"}, "connector_zookeeper_quorum: 'z1' is not host:port"),
    ],
)
def test_a_field_is_held_against_its_template(fields: dict[str, str], message: str) -> None:
    (problem,) = refusals(other("sink", "hbase", [{"name": "id", "flink_type": "STRING"}], **fields))
    assert message in problem


def test_redis_and_hbase_have_their_definitions_though_no_connector_is_published() -> None:
    redis = to_definition(other("side", "redis", KEYED[:1]))
    assert redis.connector == RedisLookup("r", 6379, 0, Secret("s3cret"))
    families = [{"name": "id", "flink_type": "STRING"}, {"name": "f", "flink_type": "ROW<a INT>"}]
    hbase = to_definition(other("sink", "hbase", families))
    assert hbase.connector == HbaseSink("ns:t", "z1:2181,z2:2181")
    assert hbase.primary_key == ("id",)
    (problem,) = refusals(other("sink", "hbase", [*families, {"name": "n", "flink_type": "INT"}]))
    assert "column n: a table of HBase has one row key, and id is it already (put the column into a column" in problem


# Credentials


def test_credentials_are_masked_apart_and_kept_when_the_mask_comes_back() -> None:
    first, problems = connector_fields.check(
        "sink", "mysql", jdbc("sink", "mysql").fields | {"connector_password": "p"}
    )
    assert not problems
    assert first.values["connector_password"] == "******"
    assert first.secrets == {"connector_password": "p"}
    again, problems = connector_fields.check("sink", "mysql", first.values, first.secrets)
    assert not problems
    assert again == first


def test_the_mask_alone_is_no_password() -> None:
    _, problems = connector_fields.check("sink", "mysql", jdbc("sink", "mysql").fields)
    assert [str(p) for p in problems] == [
        "connector_password: '******' only stands for what was saved before for the same address "
        "(send the value itself)"
    ]


def test_secrets_are_not_in_the_representation() -> None:
    assert "s3cret" not in repr(jdbc("side")) + repr(to_definition(jdbc("side")))


# Messages


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"flink_type": "TIMESTAMP(3)", "time_format": "iso"}, "'iso' is not a way to spell times"),
        ({"flink_type": "BIGINT", "time_format": "epoch-millis"}, "a BIGINT has no timeFormat"),
        ({"expression": "PROCTIME()", "time_format": "auto"}, "a computed column is not in the messages"),
    ],
)
def test_a_spelling_of_times_that_cannot_be_is_refused(column: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        to_definition(kafka_source([{"name": "ts", **column}]))


def test_a_sink_writes_no_times_as_numbers() -> None:
    with pytest.raises(InvalidInput, match="a sink cannot write times as numbers"):
        to_definition(kafka_sink([{"name": "ts", "flink_type": "TIMESTAMP(3)", "time_format": "epoch-millis"}]))


def test_dead_letters_need_a_topic_of_their_own() -> None:
    for fields, message in (
        ({}, "dead_letter_topic: is required and has no value"),
        ({"dead_letter_topic": "orders"}, "dead_letter_topic: it is the topic that is read"),
    ):
        with pytest.raises(InvalidInput, match=message):
            to_definition(kafka_source(on_parse_error="dead-letter", **fields))


def test_avro_of_a_registry_or_without_a_schema_is_not_skipped() -> None:
    for fields, schema in (({"registry_url": "http://registry:8081"}, "{}"), ({}, "")):
        table = kafka_source(on_parse_error="skip", **fields)
        table.schema_type, table.schema_file = AVRO, schema
        with pytest.raises(InvalidInput, match="on_parse_error: Avro messages can be left out only when"):
            to_definition(table)


def test_an_avro_sink_fills_every_field_that_has_no_default() -> None:
    table = kafka_sink([{"name": "id", "flink_type": "BIGINT"}])
    fields = [{"name": name, "type": "long"} for name in ("id", "at")]
    table.schema_type, table.schema_file = AVRO, json.dumps({"type": "record", "name": "r", "fields": fields})
    with pytest.raises(InvalidInput, match="the Avro schema's fields at have no default"):
        to_definition(table)


# The data files


@pytest.mark.parametrize(
    "name", ["fields", "types", "reserved_words", "database_types", "dictionaries", "basic_types", "examples"]
)
def test_data_files_hold_to_their_schema(name: str) -> None:
    document = json.loads((catalogue.FOLDER / f"{name}.json").read_text("utf-8"))
    schema = json.loads((catalogue.FOLDER / f"{name}.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)


def test_types_of_the_data_file_are_types_of_the_grammar() -> None:
    from app.hlink.tables.column_types import known

    assert set(known().types) <= set(types.ATOMIC)
    for of_role in known().jdbc.values():
        assert set().union(*of_role.values()) <= {*types.ATOMIC, "ARRAY"}
    for rule in known().types.values():
        assert not rule.bare or types.parse(rule.bare)


def test_every_kafka_and_jdbc_default_is_itself_in_order() -> None:
    for table in (kafka_source(), kafka_sink(), *(jdbc("side", k) for k in connector_fields.JDBC_EXAMPLES)):
        assert to_definition(table)
