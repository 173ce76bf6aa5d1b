"""The application around the families: health, metrics, the token, its life."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from typer.testing import CliRunner

import app.service
from app.access import audit
from app.cli import app as cli
from app.main import JsonLines, create_app
from app.service import Family, Health, ReadSession, Service, WriteSession
from app.settings import Settings
from app.supervisor import active_run, create_run

router = APIRouter(prefix="/things")
lives: list[str] = []


@router.get("/{number}")
async def _thing(number: int, session: ReadSession) -> str | None:
    run = await active_run(session, f"thing:{number}")
    return run.kind if run is not None else None


@router.post("/{number}")
async def _make_thing(number: int, session: WriteSession) -> str:
    return str((await create_run(session, "things", f"thing:{number}", {})).id)


@router.delete("/{number}")
async def _break_thing(number: int) -> str:
    raise ZeroDivisionError("nobody's business either")


@asynccontextmanager
async def _life(service: Service) -> AsyncIterator[None]:
    async def ill() -> Health:
        raise OSError("a password that is nobody's business")

    service.health["planner"] = ill
    assert service.supervisor.tick_age_s is None
    lives.append("begins")
    yield
    lives.append("ends")


def _envelope(error: Exception) -> tuple[int, dict[str, Any]]:
    return 200, {"msg": str(error)}


family = Family("things", [router], ["/things"], _envelope, _life)


@pytest.fixture(autouse=True)
def _only_this_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.service, "FAMILIES", (__name__,))


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
    api = create_app(Settings.model_validate({"tick_s": 0.05, **settings}))
    transport = httpx.ASGITransport(api)
    async with api.router.lifespan_context(api), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        yield client, api


async def test_given_a_part_that_is_ill_then_the_service_is_degraded_and_alive(tmp_path: Path) -> None:
    async with running(home=tmp_path) as (client, api):
        while api.state.service.supervisor.tick_age_s is None:  # noqa: ASYNC110 - the first tick
            await asyncio.sleep(0.01)
        answer = await client.get("/health")

    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    parts = answer.json()["parts"]
    assert parts["database"] == {"ok": True, "message": "sqlite", "ageSeconds": None}
    assert parts["supervisor"]["ageSeconds"] < 60
    assert parts["planner"] == {"ok": False, "message": "OSError: no answer", "ageSeconds": None}


async def test_given_a_supervisor_that_does_not_tick_then_the_service_is_failing(tmp_path: Path) -> None:
    async with running(home=tmp_path) as (client, api):
        await api.state.service.supervisor.stop()
        api.state.service.supervisor._ticked_at = time.monotonic() - 3600
        answer = await client.get("/health")

    assert (answer.status_code, answer.json()["status"]) == (503, "failing")


async def test_given_a_route_that_writes_then_it_is_committed_before_the_answer(tmp_path: Path) -> None:
    async with running(home=tmp_path) as (client, _):
        assert (await client.post("/things/1")).status_code == 200
        assert (await client.get("/things/1")).json() == "things"


async def test_given_a_route_that_fails_then_its_familys_envelope_answers(tmp_path: Path) -> None:
    async with running(home=tmp_path) as (client, _):
        await client.post("/things/1")
        answer = await client.post("/things/1")
    assert "already has a run" in answer.json()["msg"]


async def test_given_a_route_that_breaks_then_the_audit_log_has_it_all_the_same(tmp_path: Path) -> None:
    async with running(home=tmp_path) as (client, api):
        with pytest.raises(ZeroDivisionError):  # this transport raises what a server would only log
            await client.delete("/things/7")
        async with api.state.service.database.read() as session:
            (row,), _ = await audit.page(session, [], 0, 10)
    assert (row.method, row.path, row.subjects, row.success, row.code) == (
        "DELETE",
        "/things/7",
        "number=7",
        False,
        500,
    )


async def test_metrics_count_runs_and_requests_by_the_routes_template(tmp_path: Path) -> None:
    async with running(home=tmp_path) as (client, _):
        await client.post("/things/7")
        await client.get("/nowhere/8")
        text = (await client.get("/metrics")).text

    assert 'hlink_runs{state="CREATED"} 1.0' in text
    assert 'route="/things/{number}"' in text
    assert "/things/7" not in text
    assert "/nowhere/8" not in text


async def test_given_a_token_then_families_and_metrics_ask_for_it_and_health_does_not(tmp_path: Path) -> None:
    async with running(home=tmp_path, api_token="t") as (client, _):
        assert "token" in (await client.get("/things/1")).json()["msg"]
        assert (await client.get("/metrics")).status_code == 401
        assert "parts" in (await client.get("/health")).json()
        for wrong in ("Bearer wrong", "Basic dDp0", "Bearer "):
            assert "token" in (await client.get("/things/1", headers={"Authorization": wrong})).json()["msg"]
        known = {"Authorization": "Bearer t"}
        assert (await client.get("/things/1", headers=known)).json() is None
        assert (await client.get("/metrics", headers=known)).status_code == 200


async def test_a_familys_life_is_around_the_supervisors(tmp_path: Path) -> None:
    lives.clear()
    async with running(home=tmp_path):
        assert lives == ["begins"]
    assert lives == ["begins", "ends"]


def test_the_document_is_printed_without_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HLINK_HOME", str(tmp_path / "none"))
    printed = CliRunner().invoke(cli, ["openapi"])

    assert "/things/{number}" in json.loads(printed.stdout)["paths"]
    assert not (tmp_path / "none").exists()


def test_a_log_line_is_one_json_value() -> None:
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError:
        record = logging.LogRecord("n", logging.ERROR, "f", 1, "line\n%s", ("two",), sys.exc_info())
    line = JsonLines().format(record)

    assert "\n" not in line
    assert json.loads(line)["message"] == "line\ntwo"
    assert "ZeroDivisionError: why" in json.loads(line)["trace"]
