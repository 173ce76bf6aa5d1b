"""Dictionaries over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.hlink.answers import envelope
from app.hlink.dictionaries.routes import router
from app.hlink.jobs.service import STATUS_NAMES
from app.hlink.tables import fields
from app.main import create_app
from app.service import Family
from app.settings import Settings

Json = dict[str, Any]


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """The service with its dictionaries only: they need no planner."""
    only = Family("dictionaries", [router], ["/dict"], envelope)
    monkeypatch.setattr("app.main.load_families", lambda: [only])
    app = create_app(Settings(home=tmp_path))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


async def items(api: httpx.AsyncClient, name: str) -> list[Json]:
    answer = (await api.get(f"/dict/list/{name}")).json()
    assert answer["success"], answer["msg"]
    found: list[Json] = answer["data"]
    return found


@pytest.mark.parametrize(
    ("name", "values", "default", "off"),
    [
        ("dc_type_source", "kafka", "kafka", ""),
        ("dc_type_side", "kafka mysql postgresql oracle http redis", "mysql", "redis"),
        ("dc_type_slink", "kafka mysql postgresql oracle hbase", "mysql", ""),
        ("dc_type_sink", "kafka mysql postgresql oracle hbase", "mysql", ""),
        ("ds_type", "source sink side udf", "source", ""),
        ("schema_type", "0 1", "0", ""),
        ("cluster_type", "0 1 2 3", "1", "0 2 3"),
        ("flink_time_type", "0 1 2", "1", ""),
        ("checkpoint_mode", "0 1", "0", ""),
        ("checkpoint_cleanup_mode", "0 1", "0", ""),
        ("restart_strategy", "0 1 2", "0", ""),
        ("statebackend", "0 1 2", "", ""),
        ("statebackend_type", "0 1 2", "", ""),
        ("job_status", "0 1 2 3 4 5 6 7 8 9 10 11 12", "", ""),
        ("job_status_published", "0 1 2 3 9", "", ""),
    ],
)
async def test_given_a_dictionarys_name_then_its_choices_are_answered_in_order(
    api: httpx.AsyncClient, name: str, values: str, default: str, off: str
) -> None:
    found = await items(api, name)
    assert [item["dictValue"] for item in found] == values.split()
    assert [item["dictSort"] for item in found] == list(range(1, len(found) + 1))
    assert " ".join(item["dictValue"] for item in found if item["isDefault"] == "Y") == default
    assert " ".join(item["dictValue"] for item in found if item["status"] == "1") == off
    assert {item["dictType"] for item in found} == {name}


async def test_given_no_name_then_all_dictionaries_are_answered_with_ids_of_their_own(api: httpx.AsyncClient) -> None:
    every = (await api.get("/dict/list")).json()["data"]
    assert every["statebackend_type"][2]["dictLabel"] == every["statebackend"][2]["dictLabel"] == "rocksdb"
    assert every["dc_type_sink"] == await items(api, "dc_type_sink")
    ids = [item["id"] for found in every.values() for item in found]
    assert len(set(ids)) == len(ids)


async def test_given_an_unknown_name_then_the_refusal_lists_those_there_are(api: httpx.AsyncClient) -> None:
    answer = (await api.get("/dict/list/colours")).json()
    assert (answer["code"], answer["success"]) == (-8, False)
    assert answer["msg"].startswith("There is no dictionary 'colours': choose from dc_type_source, ")


@pytest.mark.parametrize(
    ("role", "name"), [("source", "dc_type_source"), ("side", "dc_type_side"), ("sink", "dc_type_sink")]
)
async def test_every_kind_of_table_that_has_a_form_is_listed(api: httpx.AsyncClient, role: str, name: str) -> None:
    listed = {item["dictValue"]: item["status"] for item in await items(api, name)}
    # Redis is switched off, as published: it waits for a connector that the cluster must bring.
    assert {listed[kind] for kind in set(fields.kinds(role)) - {"redis"}} == {"0"}
    assert set(fields.kinds(role)) <= set(listed)


async def test_a_jobs_state_has_the_label_that_the_job_list_shows(api: httpx.AsyncClient) -> None:
    shown = {int(item["dictValue"]): item["dictLabel"] for item in await items(api, "job_status_published")}
    assert shown == STATUS_NAMES


async def test_an_id_is_new_each_time_and_exact_in_javascript(api: httpx.AsyncClient) -> None:
    ids = [(await api.get("/dict/getSnowflakeId")).json()["data"] for _ in range(3)]
    assert len(set(ids)) == 3
    assert all(isinstance(one, str) and 0 < int(one) < 2**53 for one in ids)
