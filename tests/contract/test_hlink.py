"""The service's OpenAPI document declares what the published Hlink API declares: names and types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.main import create_app
from app.settings import Settings
from tests.contract.openapi import Document

PUBLISHED = {
    f"{endpoint['method']} {endpoint['path']}": endpoint
    for endpoint in json.loads((Path(__file__).parent / "hlink.json").read_text("utf-8"))["endpoints"]
}

SERVED = (
    "POST /cluster/add",
    "PUT /cluster/update",
    "DELETE /cluster/delete",
    "GET /cluster/list",
    "GET /cluster/info",
    "GET /cluster/check/list",
    "GET /dashboard/clusterInfo",
    "GET /dict/getSnowflakeId",
    "GET /dict/list",
    "GET /dict/list/{dictType}",
    "GET /doc/get/{key}",
    "POST /ds/addDO",
    "GET /ds/get",
    "GET /ds/list",
    "GET /ds/checkTableName",
    "PUT /ds/modifyDO",
    "DELETE /ds/removeDO",
    "GET /ds/getFieldTemplete",
    "GET /ds/getTypeList",
    "POST /ds/schemaAnalysisDO",
    "POST /ds/udf/upload",
    "GET /ds/udf/list",
    "PUT /ds/udf/update",
    "DELETE /ds/udf/delete",
    "POST /jobs/addDO",
    "POST /jobs/updateDO",
    "DELETE /jobs/removeDO",
    "POST /jobs/run/{jobId}",
    "POST /jobs/runBatch",
    "POST /jobs/cancelBatch",
    "GET /jobs/{jobId}/log",
    "GET /jars/list",
    "GET /jars/listPage",
    "DELETE /jars/removeDO",
    "POST /jars/upload",
    "GET /file/down",
    "POST /jobs/cancel/{jobId}",
    "POST /jobs/restart/{jobId}",
    "POST /jobs/restartBatch",
    "GET /jobs/savepoint/{jobId}",
    "GET /jobs/list",
    "GET /jobs/{jobId}",
    "GET /jobs/overview/{jobId}",
)

MAY_COME_OTHERWISE = {
    # A JSON or form body may carry them instead, so the query cannot demand them.
    "POST /cluster/add": {"name", "address", "type"},
    "PUT /cluster/update": {"id"},
    # Published as the body of a GET; the query carries it as well.
    "GET /ds/checkTableName": {"tableName"},
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    return Document(create_app(Settings(home=tmp_path_factory.mktemp("home"))).openapi())


@pytest.mark.parametrize("endpoint", SERVED)
def test_parameters_are_declared_as_published(document: Document, endpoint: str) -> None:
    declared = (
        {(parameter["in"], parameter["name"]): parameter for parameter in document.operation(endpoint)["parameters"]}
        if "parameters" in document.operation(endpoint)
        else {}
    ) | document.form(document.operation(endpoint))
    otherwise = MAY_COME_OTHERWISE.get(endpoint, set())
    differences = []
    for published in PUBLISHED[endpoint].get("parameters", []):
        name, place = published["name"], published["in"]
        parameter = declared.get(("query" if name in otherwise else place, name))
        if parameter is None:
            differences.append(f"{place} {name} is missing")
            continue
        found = document.type(parameter["schema"])
        if found != published["type"]:
            differences.append(f"{place} {name} is {found}, published as {published['type']}")
        if parameter["required"] and not published.get("required"):
            differences.append(f"{place} {name} is demanded, published as optional")
        if published.get("required") and not parameter["required"] and name not in otherwise:
            differences.append(f"{place} {name} is optional, published as required")
    assert differences == []


@pytest.mark.parametrize("endpoint", [name for name in SERVED if "body" in PUBLISHED[name]])
def test_bodies_are_declared_as_published(document: Document, endpoint: str) -> None:
    schema = document.operation(endpoint)["requestBody"]["content"]["application/json"]["schema"]
    assert list(document.differences(PUBLISHED[endpoint]["body"], schema, "body")) == []
    assert not document.resolved(schema).get("required"), "every published field of a body is optional"


@pytest.mark.parametrize("endpoint", [name for name in SERVED if PUBLISHED[name].get("response")])
def test_answers_are_declared_as_published(document: Document, endpoint: str) -> None:
    schema = document.operation(endpoint)["responses"]["200"]["content"]["application/json"]["schema"]
    assert list(document.differences(PUBLISHED[endpoint].get("response", {}), schema, "answer")) == []


@pytest.mark.parametrize("endpoint", [name for name in SERVED if "body" in PUBLISHED[name]])
def test_a_wrong_type_would_be_noticed(document: Document, endpoint: str) -> None:
    schema = document.operation(endpoint)["requestBody"]["content"]["application/json"]["schema"]
    assert list(document.differences({"id": "string", "nothing": "string"}, schema, "body")) == [
        "body.id is integer(int64), published as string",
        "body.nothing is missing",
    ]


def test_every_served_endpoint_is_a_published_one() -> None:
    assert set(SERVED) <= set(PUBLISHED)
