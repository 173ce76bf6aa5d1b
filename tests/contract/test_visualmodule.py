"""The service's OpenAPI document declares what the published API of visual experiments declares: names and types."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from app.settings import Settings
from tests.contract.openapi import Document, Schema

_PUBLISHED = json.loads((Path(__file__).parent / "visualmodule.json").read_text("utf-8"))
ENVELOPE = _PUBLISHED["envelope"]
ENDPOINTS = {one["endpoint"]: one for one in _PUBLISHED["endpoints"]}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    return Document(create_app(Settings(home=tmp_path_factory.mktemp("home"))).openapi())


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_parameters_are_declared_as_published(document: Document, endpoint: str) -> None:
    declared = {(one["in"], one["name"]): one for one in document.operation(endpoint).get("parameters", [])}
    for published in ENDPOINTS[endpoint].get("parameters", []):
        found = declared.get((published["in"], published["name"]))
        assert found is not None, f"{published['name']} is missing"
        assert found["required"] == published["required"], published["name"]


@pytest.mark.parametrize("endpoint", [name for name, one in ENDPOINTS.items() if "form" in one])
def test_forms_are_declared_as_published(document: Document, endpoint: str) -> None:
    declared = {name for _, name in document.form(document.operation(endpoint))}
    assert declared >= set(ENDPOINTS[endpoint]["form"])


@pytest.mark.parametrize("endpoint", [name for name, one in ENDPOINTS.items() if "body" in one])
def test_bodies_are_declared_as_published(document: Document, endpoint: str) -> None:
    schema = document.operation(endpoint)["requestBody"]["content"]["application/json"]["schema"]
    assert list(_differences(document, ENDPOINTS[endpoint]["body"], schema, "body")) == []


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_answers_are_declared_as_published(document: Document, endpoint: str) -> None:
    content = document.operation(endpoint)["responses"]["200"]["content"]
    if "application/json" not in content:
        return  # a file
    schema = content["application/json"]["schema"]
    assert list(_differences(document, ENVELOPE, schema, "answer")) == []
    obj = document.fields(schema)["obj"]
    assert list(_differences(document, ENDPOINTS[endpoint].get("response", {}), obj, "answer.obj")) == []


def _differences(document: Document, published: Mapping[str, Any], schema: Schema, where: str) -> Iterator[str]:
    declared = document.fields(schema)
    for name, entry in published.items():
        wanted, below = entry if isinstance(entry, list) else (entry, {})
        if name not in declared:
            yield f"{where}.{name} is missing"
            continue
        found = document.type(declared[name]).partition("(")[0]
        if wanted and found != wanted:
            yield f"{where}.{name} is {found}, published as {wanted}"
        yield from _differences(document, below, declared[name], f"{where}.{name}")
