"""Tables over HTTP: stored as definitions, searched, shown with credentials masked, refused with the remedy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlmodel import select

from app.hlink.answers import envelope
from app.hlink.connections import PART as OUTSIDE
from app.hlink.connections import Connections
from app.hlink.planner import PART as PLANNER
from app.hlink.tables import routes as tables
from app.hlink.tables.models import StoredTable
from app.service import Family, Service
from stream_jobs.local import ports
from stream_jobs.local.endpoints import Endpoints
from stream_jobs.planner.client import Planner
from tests.planners import planner_config
from tests.services import Serve

Api = httpx.AsyncClient
Json = dict[str, Any]


@pytest.fixture
async def service(serve: Serve, tmp_path: Path) -> tuple[Api, Service]:
    """The service with its tables only; the planner, which is only asked for expressions, is not started."""

    @asynccontextmanager
    async def connected(service: Service) -> AsyncIterator[None]:
        connections = service.parts[OUTSIDE] = Connections()
        service.parts[PLANNER] = Planner(planner_config(tmp_path))
        yield
        await connections.close()

    return await serve(Family("tables", [tables.router], ["/ds"], envelope, connected))


@pytest.fixture
def api(service: tuple[Api, Service]) -> Api:
    return service[0]


def fields(**values: Any) -> Json:
    return {"jsonValue": [{"fieldName": name, "fieldValue": value} for name, value in values.items()]}


def source(**changed: Any) -> Json:
    table = {
        "dsName": "Orders from the shop",
        "tableName": "orders",
        "dsType": "source",
        "tableType": "kafka",
        "schemaType": 0,
        "dsSchemaColumnVOS": [
            {"name": "root", "flinkType": "ROW", "virtualId": "1", "virtualPid": "0", "level": 0},
            {"name": "id", "flinkType": "BIGINT", "virtualId": "2", "virtualPid": "1", "level": 1},
            {"name": "order", "flinkType": "ROW", "virtualId": "3", "virtualPid": "1", "level": 1},
            {"name": "price", "flinkType": "DOUBLE", "virtualId": "4", "virtualPid": "3", "level": 2},
        ],
        "jsonFieldVO": fields(bootstrap_servers="kafka:9092", connector_topic="orders", group_id="hlink"),
    }
    return table | changed


def sink(**changed: Any) -> Json:
    table = {
        "dsName": "Results",
        "tableName": "results",
        "dsType": "sink",
        "tableType": "mysql",
        "dsSchemaColumnVOS": [{"name": "id", "flinkType": "BIGINT"}],
        "jsonFieldVO": fields(
            connector_url="jdbc:mysql://db:3306/shop",
            table_name="results",
            connector_username="hlink",
            connector_password="pa55-word",
        ),
    }
    return table | changed


async def add(api: Api, table: Json) -> int:
    answer = (await api.post("/ds/addDO", json=table)).json()
    assert answer["success"], answer["msg"]
    return int(answer["data"]["id"])


async def refusal(api: Api, table: Json) -> str:
    response = await api.post("/ds/addDO", json=table)
    answer = response.json()
    assert response.status_code == 200
    assert answer["success"] is False
    return str(answer["msg"])


async def test_a_table_comes_back_as_it_was_sent(api: Api) -> None:
    sent = source(schemaFile='{"id": 1}')
    table_id = await add(api, sent)
    got = (await api.get("/ds/get", params={"id": table_id})).json()["data"]
    assert {name: got[name] for name in ("dsName", "tableName", "dsType", "tableType", "schemaType", "schemaFile")} == {
        name: sent[name] for name in ("dsName", "tableName", "dsType", "tableType", "schemaType", "schemaFile")
    }
    tree = [(c["name"], c["flinkType"], c["virtualId"], c["virtualPid"], c["level"]) for c in got["dsSchemaColumnVOS"]]
    assert tree == [
        (c["name"], c["flinkType"], c["virtualId"], c["virtualPid"], c["level"]) for c in sent["dsSchemaColumnVOS"]
    ]
    assert got["structureType"] == 1
    assert got["createTime"].endswith("+00:00")


async def test_the_form_comes_back_filled_in_with_defaults_and_choices(api: Api) -> None:
    values = fields(bootstrap_servers="k:1", connector_topic="t", group_id="g", startup_mode="specific-offsets")
    values["jsonValue"][-1]["option"] = [
        {"name": "specific-offsets", "unionFields": [{"fieldName": "partition_offset", "fieldValue": "0,42"}]},
        {"name": "timestamp", "unionFields": [{"fieldName": "startup_timestamp", "fieldValue": "not read"}]},
    ]
    table_id = await add(api, source(jsonFieldVO=values))
    form = (await api.get("/ds/get", params={"id": table_id})).json()["data"]["jsonFieldVO"]
    by_name = {field["fieldName"]: field for field in form["jsonValue"]}
    assert by_name["watermark_delay"]["fieldValue"] == "0"
    startup = by_name["startup_mode"]
    assert (startup["type"], startup["defaultValue"], startup["required"]) == ("combobox", "latest-offset", True)
    chosen = next(option for option in startup["option"] if option["name"] == startup["fieldValue"])
    assert chosen["hasUnion"] is True
    assert [(u["fieldName"], u["fieldValue"]) for u in chosen["unionFields"]] == [("partition_offset", "0,42")]


async def test_the_generated_ddl_is_shown_for_sources_and_sinks_only(api: Api) -> None:
    await add(api, source())
    side = sink(dsType="side", tableName="products")
    side["dsSchemaColumnVOS"] = [{"name": "id", "flinkType": "BIGINT", "joinKey": 1}]
    side_id = await add(api, side)
    (record,) = (await api.get("/ds/list", params={"dsType": "source"})).json()["data"]["records"]
    assert record["dsDdl"].startswith("CREATE TABLE `orders` (")
    assert (await api.get("/ds/get", params={"id": side_id})).json()["data"]["dsDdl"] == ""


async def test_a_password_never_comes_back(service: tuple[Api, Service]) -> None:
    api, running = service
    table_id = await add(api, sink())
    shown = await api.get("/ds/get", params={"id": table_id})
    listed = await api.get("/ds/list", params={"dsType": "sink"})
    assert "pa55-word" not in shown.text + listed.text
    values = {f["fieldName"]: f["fieldValue"] for f in shown.json()["data"]["jsonFieldVO"]["jsonValue"]}
    assert values["connector_password"] == "******"
    async with running.database.read() as session:
        connection = await session.connection()
        row = (await connection.execute(text("SELECT fields, secrets FROM hlink_table"))).one()
    assert "pa55-word" not in str(row.fields)
    assert "pa55-word" not in str(row.secrets)
    async with running.database.read() as session:
        (stored,) = await session.exec(select(StoredTable))
    assert stored.secrets == {"connector_password": "pa55-word"}


async def test_a_refusal_does_not_repeat_the_password(api: Api) -> None:
    broken = sink(dsSchemaColumnVOS=[{"name": "id", "flinkType": "NUMBER"}])
    response = await api.post("/ds/addDO", json=broken)
    assert "pa55-word" not in response.text


async def test_numbers_and_booleans_may_come_as_themselves(api: Api) -> None:
    values = fields(bootstrap_servers="k:1", connector_topic="t", group_id=7, watermark_delay=5000)
    table_id = await add(api, source(jsonFieldVO=values, schemaType="0", createTime="", id=0))
    form = (await api.get("/ds/get", params={"id": table_id})).json()["data"]["jsonFieldVO"]["jsonValue"]
    got = {field["fieldName"]: field["fieldValue"] for field in form}
    assert (got["group_id"], got["watermark_delay"]) == ("7", "5000")


async def test_lists_filter_by_every_field_and_page(api: Api) -> None:
    for number in range(3):
        await add(api, source(dsName=f"Shop 100% {number}", tableName=f"orders_{number}", dsVersion=number))
    await add(api, sink())

    async def found(**query: Any) -> list[str]:
        answer = (await api.get("/ds/list", params={"dsType": "source"} | query)).json()["data"]
        return [record["tableName"] for record in answer["records"]]

    assert await found() == ["orders_2", "orders_1", "orders_0"]
    assert await found(dsType="sink") == ["results"]
    assert await found(dsName="shop 100%") == ["orders_2", "orders_1", "orders_0"]
    assert await found(dsName="100_") == []
    assert await found(tableName="ERS_1") == ["orders_1"]
    assert await found(dsVersion=2) == ["orders_2"]
    assert await found(tableType="mysql") == []
    assert await found(schemaType=1) == []
    assert await found(structureType=1, dsName="") == ["orders_2", "orders_1", "orders_0"]
    page = (await api.get("/ds/list", params={"dsType": "source", "curPage": 2, "pageSize": 2})).json()["data"]
    assert [record["tableName"] for record in page["records"]] == ["orders_0"]
    assert (page["total"], page["pages"], page["current"], page["size"]) == (3, 2, 2, 2)
    assert page["searchCount"] is True


async def test_page_bounds_are_brought_into_bounds(api: Api) -> None:
    page = (await api.get("/ds/list", params={"dsType": "source", "curPage": 0, "pageSize": 0})).json()["data"]
    assert (page["current"], page["size"], page["pages"]) == (1, 10, 0)
    page = (await api.get("/ds/list", params={"dsType": "source", "pageSize": 100000})).json()["data"]
    assert page["size"] == 500


async def test_a_list_says_which_field_it_lacks_or_cannot_read(api: Api) -> None:
    assert (await api.get("/ds/list")).json()["msg"] == "dsType: Field required"
    answer = (await api.get("/ds/list", params={"dsType": "source", "schemaType": "json"})).json()
    assert answer["success"] is False
    assert "schemaType" in answer["msg"]


async def test_an_unknown_table_is_not_found(api: Api) -> None:
    response = await api.get("/ds/get", params={"id": 1})
    assert (response.status_code, response.json()["code"]) == (200, -8)
    assert response.json()["msg"] == "There is no table 1: /ds/list shows those there are"


async def test_a_refusal_lists_every_problem_with_its_place(api: Api) -> None:
    table = source(dsName="", tableName="select")
    table["dsSchemaColumnVOS"][1]["flinkType"] = "NUMBER"
    answer = (await api.post("/ds/addDO", json=table)).json()
    assert [(p.get("table"), p["field"], p["message"]) for p in answer["problems"]] == [
        (None, "dsName", "the table has no name"),
        (None, "tableName", "'select' is a reserved word of Flink SQL"),
        ("select", "column id", "'NUMBER' is not a type of Flink SQL; write DECIMAL(p, s)"),
    ]


async def test_an_alias_is_unique_over_all_roles(api: Api) -> None:
    await add(api, source())
    assert await refusal(api, sink(tableName="orders")) == (
        "There is a table called 'orders' already ('Orders from the shop', a source table): choose another tableName"
    )


async def test_the_published_example_without_columns_is_refused_for_what_it_lacks(api: Api) -> None:
    assert await refusal(api, source(dsSchemaColumnVOS=[None])) == (
        "table orders: the table has no columns (send them in dsSchemaColumnVOS)"
    )


async def test_names_that_are_too_long_are_refused(api: Api) -> None:
    assert await refusal(api, source(dsName="n" * 201)) == "dsName: it has 201 characters (use at most 200)"


async def test_text_that_no_database_can_store_is_refused(api: Api) -> None:
    message = await refusal(api, source(dsName="a\x00b"))
    assert "dsName" in message
    assert "NUL character" in message


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({"params": {"tableName": "orders"}}, id="query"),
        pytest.param({"json": {"tableName": "orders"}}, id="JSON object"),
        pytest.param({"json": "orders"}, id="JSON text"),
        pytest.param({"content": "orders"}, id="bare text"),
    ],
)
async def test_check_table_name_takes_the_name_wherever_it_comes(api: Api, request_: Json) -> None:
    assert (await api.request("GET", "/ds/checkTableName", **request_)).json()["success"] is True
    table_id = await add(api, source())
    answer = (await api.request("GET", "/ds/checkTableName", **request_)).json()
    assert (answer["success"], answer["code"]) == (False, 0)
    assert answer["msg"].startswith("There is a table called 'orders' already")
    itself = request_ | {"params": request_.get("params", {}) | {"dsId": table_id}}
    assert (await api.request("GET", "/ds/checkTableName", **itself)).json()["success"] is True


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("User", "'User' is a reserved word of Flink SQL (choose another name, such as User_table)"),
        ("a-b", "'a-b' cannot be the name of a table (use letters, digits and underscores"),
        ("", "tableName: the table has no name"),
    ],
)
async def test_check_table_name_refuses_what_cannot_be_a_name(api: Api, name: str, message: str) -> None:
    answer = (await api.get("/ds/checkTableName", params={"tableName": name})).json()
    assert answer["success"] is False
    assert message in answer["msg"]


async def test_given_a_table_when_it_is_modified_then_the_new_definition_stands_in_its_place(api: Api) -> None:
    table_id = await add(api, sink())
    changed = sink(id=table_id, dsName="Better results", tableName="better")
    changed["dsSchemaColumnVOS"].append({"name": "n", "flinkType": "INT"})
    answer = (await api.put("/ds/modifyDO", json=changed)).json()
    assert (answer["success"], answer["msg"]) == (True, "")
    assert answer["data"] == {"id": table_id, "tableName": "better", "jobs": [], "state": "uncertain"}
    got = (await api.get("/ds/get", params={"id": table_id})).json()["data"]
    assert (got["dsName"], got["tableName"]) == ("Better results", "better")
    assert [column["name"] for column in got["dsSchemaColumnVOS"]] == ["id", "n"]
    assert got["modifyTime"] >= got["createTime"]


async def test_given_the_mask_when_a_table_is_modified_then_its_password_stays(service: tuple[Api, Service]) -> None:
    api, running = service
    table_id = await add(api, sink())
    shown = (await api.get("/ds/get", params={"id": table_id})).json()["data"]
    assert (await api.put("/ds/modifyDO", json=shown)).json()["data"]["state"] == "untouched"
    values = {field["fieldName"]: field for field in shown["jsonFieldVO"]["jsonValue"]}
    values["write_max_rows"]["fieldValue"] = "10"
    assert (await api.put("/ds/modifyDO", json=shown)).json()["data"]["state"] == "survives"
    async with running.database.read() as session:
        (stored,) = await session.exec(select(StoredTable))
    assert stored.secrets == {"connector_password": "pa55-word"}
    assert stored.fields["write_max_rows"] == "10"


async def test_given_another_topic_when_a_source_is_modified_then_its_state_is_not_promised(api: Api) -> None:
    table_id = await add(api, source())
    values = fields(bootstrap_servers="kafka:9092", connector_topic="orders2", group_id="hlink")
    answer = (await api.put("/ds/modifyDO", json=source(id=table_id, jsonFieldVO=values))).json()
    assert answer["data"]["state"] == "uncertain"


async def test_given_a_refusal_when_a_table_is_modified_then_it_stays_what_it_was(api: Api) -> None:
    await add(api, sink())
    table_id = await add(api, source())
    for refused, message in (
        (source(id=table_id, tableName="results"), "There is a table called 'results' already"),
        (source(id=table_id, dsSchemaColumnVOS=[]), "the table has no columns"),
        (source(id=7), "There is no table 7"),
        (source(), "id: no table is named"),
    ):
        answer = (await api.put("/ds/modifyDO", json=refused)).json()
        assert answer["success"] is False
        assert message in answer["msg"]
    assert (await api.get("/ds/get", params={"id": table_id})).json()["data"]["tableName"] == "orders"


async def test_given_no_job_uses_it_when_a_table_is_removed_then_it_and_its_name_are_free(api: Api) -> None:
    table_id = await add(api, source())
    assert (await api.delete("/ds/removeDO", params={"id": table_id})).json()["data"]["tableName"] == "orders"
    assert (await api.get("/ds/get", params={"id": table_id})).json()["code"] == -8
    assert (await api.delete("/ds/removeDO", params={"id": table_id})).json()["code"] == -8
    assert (await api.delete("/ds/removeDO")).json()["msg"].startswith("id: no table is named")
    await add(api, source())


async def test_given_every_kind_of_table_when_its_form_is_asked_for_then_it_has_the_published_fields(api: Api) -> None:
    published = {
        ("source", "kafka"): "zookeeper_connect bootstrap_servers connector_topic group_id startup_mode",
        ("sink", "kafka"): "bootstrap_servers connector_topic connector_sink_partitione",
        ("side", "mysql"): "connector_url table_name connector_username connector_password max_pool_size cacheType",
        ("side", "oracle"): "connector_url acquire_retry_attempts acquire_retry_delay cacheType",
        ("sink", "oracle"): "connector_url table_name connector_username connector_password write_max_rows",
    }
    for (role, kind), names in published.items():
        answer = (await api.get("/ds/getFieldTemplete", params={"dsType": role, "tableType": kind})).json()
        form = {field["fieldName"]: field for field in answer["data"]["jsonValue"]}
        assert set(names.split()) <= set(form), (role, kind)
        assert all(field["label"] and field["type"] for field in form.values())
    assert form["connector_url"]["required"] is True
    assert (form["write_max_rows"]["type"], form["write_max_rows"]["defaultValue"]) == ("numberfield", "5000")


async def test_given_an_unknown_kind_when_its_form_is_asked_for_then_the_known_ones_are_named(api: Api) -> None:
    answer = (await api.get("/ds/getFieldTemplete", params={"dsType": "source", "tableType": "pulsar"})).json()
    assert answer["msg"] == "tableType: there is no form for 'pulsar' (choose one of: kafka)"
    answer = (await api.get("/ds/getFieldTemplete", params={"dsType": "well", "tableType": "kafka"})).json()
    assert answer["msg"] == "dsType: there is no form for 'well' (choose one of: source, sink, side)"


async def test_the_type_list_offers_what_a_column_may_have(api: Api) -> None:
    data = (await api.get("/ds/getTypeList")).json()["data"]
    assert data["flinkSQLTypes"][:4] == ["ROW", "VARCHAR", "ARRAY", "INT"]
    assert data["basicTypes"][:4] == ["String", "Integer", "Row", "List"]


async def test_the_generated_ddl_shows_the_mask_for_a_password(api: Api) -> None:
    await add(api, sink())
    (record,) = (await api.get("/ds/list", params={"dsType": "sink"})).json()["data"]["records"]
    assert "'password' = '******'" in record["dsDdl"]


@pytest.fixture
def database(endpoints: Endpoints) -> Callable[..., Json]:
    """The fields of a connector to the stack's PostgreSQL."""

    def of(table: str, **changed: str) -> Json:
        server = endpoints.postgres
        values = {
            "connector_url": server.jdbc_url,
            "table_name": table,
            "connector_username": server.user,
            "connector_password": server.password,
        }
        return fields(**values | changed)

    return of


async def look(api: Api, table: Json) -> Json:
    answer = (await api.post("/ds/test", json=table)).json()
    assert answer["success"], answer["msg"]
    return dict(answer["data"])


async def test_given_a_database_when_it_is_looked_at_then_a_form_can_fill_itself(
    api: Api, database: Callable[..., Json], pg_table: Callable[..., str]
) -> None:
    name = pg_table(
        "id bigint, name varchar(20), price numeric(10, 2), at timestamp, tags text[], place point, "
        "primary key (name, id)"
    )
    data = await look(api, {"dsType": "side", "tableType": "postgresql", "jsonFieldVO": database(name)})
    assert (data["ok"], data["key"], [check["name"] for check in data["checks"]]) == (
        True,
        ["id", "name"],
        ["database", "table"],
    )
    assert [(c["name"], c["flinkType"], c["joinKey"], c["databaseType"]) for c in data["dsSchemaColumnVOS"]] == [
        ("id", "BIGINT", 1, "bigint"),
        ("name", "STRING", 1, "character varying(20)"),
        ("price", "DECIMAL(10, 2)", 0, "numeric(10,2)"),
        ("at", "TIMESTAMP(6)", 0, "timestamp without time zone"),
        ("tags", "ARRAY<STRING>", 0, "text[]"),
        ("place", None, 0, "point"),
    ]
    columns = [column for column in data["dsSchemaColumnVOS"] if column["flinkType"]]
    side = sink(
        dsType="side",
        tableType="postgresql",
        tableName="filled",
        dsSchemaColumnVOS=columns,
        jsonFieldVO=database(name),
    )
    stored = await look(api, {"id": await add(api, side)})
    assert [check["message"] for check in stored["checks"]][-1] == "the definition fits the table"


async def test_given_a_stored_table_when_its_edit_is_looked_at_then_the_mask_stands_for_its_password_there_only(
    api: Api, database: Callable[..., Json], pg_table: Callable[..., str]
) -> None:
    connector = database(pg_table("id bigint"))
    table_id = await add(api, sink(tableType="postgresql", jsonFieldVO=connector))
    shown = (await api.get("/ds/get", params={"id": table_id})).json()["data"]
    shown["dsSchemaColumnVOS"][0]["flinkType"] = "STRING"
    data = await look(api, shown)
    assert [(check["ok"], check["field"]) for check in data["checks"]] == [
        (True, None), (True, None), (False, "column id")
    ]  # fmt: skip
    values = {field["fieldName"]: field for field in shown["jsonFieldVO"]["jsonValue"]}
    values["connector_url"]["fieldValue"] = "jdbc:postgresql://elsewhere:5432/shop"
    answer = (await api.post("/ds/test", json=shown)).json()
    assert "connector_password: '******' only stands for what was saved before" in answer["msg"]


async def test_given_a_wrong_password_when_a_database_is_looked_at_then_the_check_says_so(
    api: Api, database: Callable[..., Json]
) -> None:
    connector = database("t", connector_password="wr0ng-one")
    response = await api.post("/ds/test", json={"dsType": "sink", "tableType": "postgresql", "jsonFieldVO": connector})
    (check,) = response.json()["data"]["checks"]
    assert (check["name"], check["ok"], check["field"]) == ("database", False, "connector_password")
    assert "password authentication failed" in check["message"]
    assert check["remedy"] == "correct connector_username and connector_password"
    assert "wr0ng-one" not in response.text


async def test_given_a_topic_when_it_is_looked_at_then_its_partitions_are_told(
    api: Api, endpoints: Endpoints, kafka_topic: Callable[..., str]
) -> None:
    broker = endpoints.kafka_bootstrap
    values = fields(bootstrap_servers=broker, connector_topic=kafka_topic("orders", partitions=3), group_id="g")
    data = await look(api, {"dsType": "source", "tableType": "kafka", "jsonFieldVO": values})
    assert (data["ok"], data["partitions"]) == (True, 3)
    values["jsonValue"][1]["fieldValue"] = "no-such-topic"
    data = await look(api, {"dsType": "source", "tableType": "kafka", "jsonFieldVO": values})
    assert [(check["name"], check["ok"]) for check in data["checks"]] == [("broker", True), ("topic", False)]


async def test_given_an_address_when_it_is_looked_at_then_it_answers_or_not(api: Api, endpoints: Endpoints) -> None:
    def side(url: str) -> Json:
        return {"dsType": "side", "tableType": "http", "jsonFieldVO": fields(requestUrl=url)}

    assert (await look(api, side(f"{endpoints.flink_url}/config")))["ok"] is True
    (check,) = (await look(api, side(f"http://127.0.0.1:{ports.choose(set())}/")))["checks"]
    assert (check["ok"], check["field"]) == (False, "requestUrl")


async def test_given_fields_that_will_not_do_when_a_table_is_looked_at_then_they_are_refused(api: Api) -> None:
    answer = (await api.post("/ds/test", json={"dsType": "sink", "tableType": "mysql"})).json()
    assert [problem["field"] for problem in answer["problems"]] == [
        "connector_url", "table_name", "connector_username", "connector_password"
    ]  # fmt: skip
    assert "is not a role of a table" in (await api.post("/ds/test", json={})).json()["msg"]
