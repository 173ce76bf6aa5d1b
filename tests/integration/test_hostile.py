"""What somebody might send who means no good: to every field, as every path, in any size; and where secrets go."""

from __future__ import annotations

import json
import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from stream_jobs.local.endpoints import Endpoints
from tests.services import Api, Json, ServiceProcess, running_service

HOSTILE = (
    "x'; DROP TABLE hlink_table; --",
    "x`; DROP TABLE `y",
    'x" OR "1"="1',
    "x'' || (SELECT 1) || ''",
    "${secret:other.connector_password}",
    "{{7*7}} %s %n $(id) `id`",
    "line\nSET 'execution.target' = 'remote';",
    "\u202e\u0000 null",
    "../../../../etc/passwd",
    "a" * 100_000,
)
_SYNTAX = re.compile(r"SQL parse failed|Encountered|Lexical error", re.I)
_COLUMNS = [{"name": "k", "flinkType": "STRING", "joinKey": 1}, {"name": "v", "flinkType": "DOUBLE"}]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("service"), HLINK_FLINK_TIMEOUT_S="2") as started:
        yield started


@pytest.fixture(scope="module")
def api(service: ServiceProcess, endpoints: Endpoints) -> Api:
    return Api(service.url, endpoints)


def _form(api: Api, role: str, kind: str) -> list[Json]:
    found = api.ok("GET", "/ds/getFieldTemplete", params={"dsType": role, "tableType": kind})
    fields: list[Json] = found["jsonValue"]
    return fields


def _filled(api: Api, role: str, kind: str) -> dict[str, str]:
    """Values with which the form is accepted."""
    given = {
        "bootstrap_servers": "localhost:9092",
        "connector_topic": "topic",
        "group_id": "group",
        "connector_url": {
            "mysql": "jdbc:mysql://localhost/x",
            "postgresql": "jdbc:postgresql://localhost/x",
            "oracle": "jdbc:oracle:thin:@localhost:1521/x",
        }.get(kind, ""),
        "table_name": "t",
        "connector_username": "u",
        "connector_password": "p",
        "requestUrl": "http://localhost/x",
        "redis_address": "localhost:6379",
        "connector_table_name": "t",
        "connector_zookeeper_quorum": "localhost:2181",
    }
    names = [field["fieldName"] for field in _form(api, role, kind)]
    return {name: given[name] for name in names if given.get(name)}


def _table(role: str, kind: str, values: dict[str, str], **changes: Any) -> Json:
    alias = f"h_{uuid.uuid4().hex[:12]}"
    return {
        "dsName": alias,
        "tableName": alias,
        "dsType": role,
        "tableType": kind,
        "schemaType": 0,
        "dsSchemaColumnVOS": _COLUMNS,
        "jsonFieldVO": {"jsonValue": [{"fieldName": name, "fieldValue": value} for name, value in values.items()]},
        **changes,
    }


def _sent(api: Api, body: Json) -> Json:
    answer = api.http.post("/ds/addDO", json=body)
    assert answer.status_code == 200, answer.text[:500]
    found: Json = answer.json()
    assert found["code"] in (200, 0, -3), found
    return found


def _holds(api: Api, table: Json) -> None:
    """A table that was accepted is one statement of SQL, whatever its values: Flink reads it as that."""
    shown = api.ok("GET", "/ds/get", params={"id": table["id"]})
    roles = {shown["dsType"]: table["id"]}
    for role in ("source", "sink"):
        if role not in roles:
            roles[role] = api.ok("POST", "/ds/addDO", json=_table(role, "kafka", _filled(api, role, "kafka")))["id"]
    source = api.ok("GET", "/ds/get", params={"id": roles["source"]})["tableName"]
    tables = [one for role, one in roles.items() if role != "sink"]
    sql = {roles["sink"]: f"SELECT k, v FROM {source}"}
    answer = api.call("POST", "/jobs/validate", json=api.job(f"hostile {table['id']}", tables, sql))
    assert answer["code"] in (200, -3), answer
    assert not _SYNTAX.search(answer["msg"]), (shown["dsDdl"], answer["msg"][:2000])


@pytest.mark.parametrize(
    ("role", "kind"),
    [
        ("source", "kafka"), ("sink", "kafka"), ("side", "kafka"), ("side", "mysql"), ("side", "oracle"),
        ("side", "postgresql"), ("side", "http"), ("side", "redis"), ("sink", "mysql"), ("sink", "oracle"),
        ("sink", "postgresql"), ("sink", "hbase"),
    ],
)  # fmt: skip
def test_no_field_of_a_table_reaches_beyond_its_place(api: Api, role: str, kind: str) -> None:
    filled = _filled(api, role, kind)
    form = _form(api, role, kind)
    names = {field["fieldName"] for field in form} | {
        union["fieldName"]
        for field in form
        for choice in field["option"] or []
        for union in choice["unionFields"] or []
    }
    for name in sorted(names):
        accepted = [
            answer["data"]
            for text in HOSTILE
            if (answer := _sent(api, _table(role, kind, {**filled, name: text})))["success"]
        ]
        for table in accepted[:3]:
            _holds(api, table)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_no_name_reaches_beyond_its_place(api: Api, text: str) -> None:
    filled = _filled(api, "source", "kafka")
    bodies = [
        _table("source", "kafka", filled, dsName=text),
        _table("source", "kafka", filled, tableName=text),
        _table("source", "kafka", filled, dsSchemaColumnVOS=[*_COLUMNS, {"name": text, "flinkType": "STRING"}]),
        _table("source", "kafka", filled, dsSchemaColumnVOS=[*_COLUMNS, {"name": "c", "flinkType": text}]),
        _table("source", "kafka", filled, dsSchemaColumnVOS=[*_COLUMNS, {"name": "c", "expression": text}]),
        _table(
            "source",
            "kafka",
            filled,
            dsSchemaColumnVOS=[*_COLUMNS, {"name": "c", "flinkType": "STRING", "comment": text}],
        ),
        _table(text, "kafka", filled),
        _table("source", text, filled),
    ]
    for body in bodies:
        answer = _sent(api, body)
        if answer["success"]:
            _holds(api, answer["data"])
    source, sink = (
        int(_sent(api, _table(role, "kafka", _filled(api, role, "kafka")))["data"]["id"]) for role in ("source", "sink")
    )
    alias = api.ok("GET", "/ds/get", params={"id": source})["tableName"]
    for change in ({"jobName": text}, {"jobDesc": text}, {"stateSavepointsDir": text}, {"parms": {text: text}}):
        job = {**api.job(uuid.uuid4().hex, [source], {sink: f"SELECT k, v FROM {alias}"}), **change}
        answer = api.call("POST", "/jobs/validate", json=job)
        assert answer["code"] in (200, -3), answer
        assert not _SYNTAX.search(answer["msg"]), answer["msg"][:1000]
    for path, name in (("/jobs/list", "jobName"), ("/ds/list", "tableName"), ("/ds/udf/list", "udfName")):
        answer = api.call("GET", path, params={name: text[:2000], "dsType": "source"})
        assert answer["code"] in (200, -3), answer


@pytest.mark.parametrize(
    "path",
    [
        "../../../../etc/passwd", "/etc/passwd", "files/../secret.key", "..%2f..%2fsecret.key", "secret.key",
        "hlink.db",
        "file:///etc/passwd", "files/" + "0" * 64, "~/.ssh/id_rsa", "\\..\\..\\x", "files//etc/passwd",
    ],
)  # fmt: skip
def test_nothing_but_uploaded_files_can_be_fetched(api: Api, path: str) -> None:
    for query in ({"filePath": path}, {"fileName": path}, {"filePath": path, "fileName": path}):
        answer = api.http.get("/file/down", params=query)
        assert answer.status_code in (200, 404), answer.text[:200]
        assert answer.json()["success"] is False


def test_a_body_that_is_too_large_is_refused_and_the_service_goes_on(api: Api) -> None:
    large = b'{"jobName": "' + b"x" * 100 * 1024 * 1024 + b'"}'
    for path in ("/jobs/addDO", "/jobs/validate", "/ds/addDO", "/ds/schemaAnalysisDO"):
        try:
            answer = api.http.post(path, content=large, headers={"content-type": "application/json"})
        except httpx.TransportError:
            continue  # it was told so before it had sent everything
        assert answer.status_code in (200, 413), answer.text[:200]
        assert answer.status_code == 413 or answer.json()["success"] is False
    assert api.http.get("/health").status_code == 200


def test_an_upload_may_be_larger_than_other_requests(api: Api) -> None:
    refusal = api.refused("POST", "/jars/upload", files={"jarfile": ("a.jar", b"x" * 20 * 1024 * 1024)})
    assert "jar" in refusal["msg"]


def test_secrets_are_nowhere_but_encrypted(api: Api, service: ServiceProcess, endpoints: Endpoints) -> None:
    mark = f"Geheim{uuid.uuid4().hex}"
    database = endpoints.postgres
    source = api.kafka_source(
        f"s_{mark[-8:]}",
        "nowhere",
        {"k": "STRING", "v": "DOUBLE"},
        properties="security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n"
        f'sasl.jaas.config=x required username="u" password="{mark}"',
    )
    in_one_line = f"security.protocol=SASL_PLAINTEXT;sasl.jaas.config=x required password={mark}"
    refused = api.refused(
        "POST",
        "/ds/addDO",
        json=_table("source", "kafka", {**_filled(api, "source", "kafka"), "properties": in_one_line}),
    )
    side = api.postgresql(
        f"d_{mark[-8:]}", "side", "no_such_table", {"k": {"flinkType": "STRING", "joinKey": 1}, "n": "STRING"},
        connector_password=mark,
    )  # fmt: skip
    sink = api.postgresql(
        f"t_{mark[-8:]}", "sink", "no_such_table", {"k": "STRING", "n": "STRING"}, connector_password=mark
    )
    sql = f"SELECT s.k, d.n FROM s_{mark[-8:]} s JOIN d_{mark[-8:]} d ON s.k = d.k"
    body = api.job(f"secret {mark[-8:]}", [source, side], {sink: sql})
    told = [refused, api.call("POST", "/jobs/validate", json=body, params={"explain": "true", "connections": "true"})]
    told.append(api.call("POST", "/jobs/preview", json=body))
    added = api.call("POST", "/jobs/addDO", json=body)
    job = added["data"]["id"]
    told += [added, api.call("POST", f"/jobs/run/{job}")]
    told += [api.call("GET", "/ds/get", params={"id": one}) for one in (source, side, sink)]
    told += [api.call("POST", "/ds/test", json={"id": one}) for one in (source, side, sink)]
    told += [
        api.call("GET", path)
        for path in (f"/jobs/{job}", f"/jobs/{job}/log", f"/jobs/{job}/versions", f"/jobs/overview/{job}", "/jobs/list")
    ]
    told += [api.call("GET", "/ds/list", params={"dsType": role}) for role in ("source", "side", "sink")]
    told.append(api.call("GET", "/audit"))

    assert any("refuses" in json.dumps(one) for one in told), "the database was asked with the wrong password"
    assert [one for one in told if mark in json.dumps(one)] == []
    assert mark not in service.log.read_text()
    logs = (service.home / "planner").rglob("*.log")
    assert [file for file in logs if mark in file.read_text("utf-8", "replace")] == []
    with closing(sqlite3.connect(service.home / "hlink.db")) as connection:
        assert [line for line in connection.iterdump() if mark in line] == []
    assert database.password not in service.log.read_text()
