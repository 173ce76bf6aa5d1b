"""The help: every page in both languages, its generated parts, and every statement in it before Flink's own planner."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from app.hlink import catalogue
from app.hlink.answers import envelope
from app.hlink.docs import library
from app.hlink.docs.library import ExampleTable, example_tables
from app.hlink.docs.routes import router
from app.hlink.tables import fields
from app.main import create_app
from app.service import Family
from app.settings import Settings
from stream_jobs.definitions import (
    Column,
    JdbcConnection,
    JdbcLookup,
    JdbcSink,
    Job,
    KafkaSink,
    KafkaSource,
    Role,
    Secret,
    Statement,
    Table,
    Watermark,
)
from stream_jobs.planner.client import Planner
from stream_jobs.planner.plan import plan
from tests.planners import planner_config

PAGES = [
    (language, file.stem) for language in library.LANGUAGES for file in sorted((library.FOLDER / language).glob("*.md"))
]
STATEMENTS = [
    pytest.param(sql, id=f"{language}-{key}-{number}")
    for language, key in PAGES
    for number, sql in enumerate(re.findall(r"```sql\n(.*?)```", library.page(key, language), re.DOTALL), start=1)
]


def table(one: ExampleTable) -> Table:
    """An example's table as a definition, with an address where nothing needs to be."""
    role, key = Role(one.role), (one.key,) if one.key else ()
    connection = JdbcConnection(f"jdbc:{one.kind}://db/x", one.name, "reader", Secret("x"))
    connector = {
        Role.SOURCE: KafkaSource("broker:9092", one.name, "help"),
        Role.SIDE: JdbcLookup(connection),
        Role.SINK: KafkaSink("broker:9092", one.name) if one.kind == "kafka" else JdbcSink(connection),
    }[role]
    return Table(
        one.name,
        role,
        connector,
        tuple(Column(name, kind) for name, kind in one.columns.items()),
        primary_key=key if role is Role.SINK else (),
        join_key=key if role is Role.SIDE else (),
        watermark=Watermark(one.event_time) if one.event_time else None,
    )


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def planner(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Planner]:
    async with Planner(planner_config(tmp_path_factory.mktemp("planner"))) as started:
        yield started


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("sql", STATEMENTS)
async def test_every_statement_of_the_help_is_one_that_the_planner_accepts(planner: Planner, sql: str) -> None:
    sink = re.match(r"INSERT INTO (\w+)\s", sql)
    assert sink, "an example says which sink it is for"
    used = tuple(table(one) for one in example_tables() if one.role != "sink" or one.name == sink[1])
    assert (await plan(planner, Job("help", used, (Statement(sink[1], sql),)), "7", with_plan=True)).compiled


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """The service with its help only: that needs no planner."""
    only = Family("help", [router], ["/doc"], envelope)
    monkeypatch.setattr("app.main.load_families", lambda: [only])
    app = create_app(Settings(home=tmp_path))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


async def page(api: httpx.AsyncClient, key: str, language: str = "en") -> str:
    answer = (await api.get(f"/doc/get/{key}", headers={"Accept-Language": language})).json()
    assert answer["success"], answer["msg"]
    return str(answer["data"])


async def test_every_page_is_there_in_both_languages_without_a_marker_left(api: httpx.AsyncClient) -> None:
    assert [key for language, key in PAGES if language == "zh"] == [key for language, key in PAGES if language == "en"]
    for key in library.pages():
        english, chinese = await page(api, key, "en"), await page(api, key, "zh-CN,zh;q=0.9,en;q=0.8")
        assert "{{" not in english + chinese
        assert english.startswith("# ")
        assert english != chinese


def test_both_languages_have_the_same_statements() -> None:
    for _, key in PAGES:
        found = [
            re.findall(r"```sql\n(.*?)```", library.page(key, language), re.DOTALL) for language in library.LANGUAGES
        ]
        assert found[0] == found[1], key


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        (None, "en"), ("", "en"), ("fr", "en"), ("zh", "zh"), ("zh-Hans-CN", "zh"), ("ZH-tw", "zh"), ("en-US,zh", "en"),
        ("en;q=0.5, zh;q=0.9", "zh"), ("fr, zh;q=0.1", "zh"), ("zh;q=0", "en"), ("*", "en"), ("zh;q=x", "zh"),
    ],
)  # fmt: skip
def test_the_language_is_the_best_liked_of_those_there_are(accept: str | None, language: str) -> None:
    assert library.language_of(accept) == language


@pytest.mark.parametrize("language", library.LANGUAGES)
async def test_the_types_and_words_are_those_that_the_service_goes_by(api: httpx.AsyncClient, language: str) -> None:
    schema, words = await page(api, "schema", language), await page(api, "reserved_words", language)
    assert (
        "| `DECIMAL` | `NUMERIC`, `DEC` | `DECIMAL(38, 18)` | mysql, oracle, postgresql | mysql, oracle, postgresql |"
        in schema
    )
    assert "| `ARRAY` |   |   | postgresql |   |" in schema
    assert set(re.findall(r"`([A-Z][A-Z0-9_]*)`", words)) == catalogue.reserved_words()


@pytest.mark.parametrize("kind", [kind for role in fields.roles() for kind in fields.kinds(role)])
async def test_every_connector_has_a_page_with_the_fields_of_its_forms(api: httpx.AsyncClient, kind: str) -> None:
    text = await page(api, kind)
    for role in fields.roles():
        if kind in fields.kinds(role):
            assert all(f"| `{one.name}` |" in text for one in fields.template(role, kind))


async def test_given_an_unknown_key_then_the_refusal_lists_those_there_are(api: httpx.AsyncClient) -> None:
    answer = (await api.get("/doc/get/weather")).json()
    assert (answer["code"], answer["success"], answer["data"]) == (-8, False, None)
    assert answer["msg"].startswith("There is no page 'weather': choose from access, ")
    assert (await api.get("/doc/get/..%2Freserved_words")).json()["success"] is False
