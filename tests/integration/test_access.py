"""Who may do what, and who did: over HTTP, on the whole service, with tokens made by the command line."""

from __future__ import annotations

import re
import sqlite3
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.access.roles import Role
from app.cli import app as cli
from app.main import create_app
from app.settings import Settings, settings
from stream_jobs.local.endpoints import Endpoints
from tests.services import Api, Json, ServiceProcess, running_service

DOCUMENT = create_app(Settings()).openapi()
OPEN_TO_ALL = {"GET /health"}
CHANGING_READS = {"GET /jobs/savepoint/{jobId}"}


def every_route() -> list[str]:
    return sorted(
        f"{method.upper()} {path}"
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
        if f"{method.upper()} {path}" not in OPEN_TO_ALL
    )


def role_of(route: str) -> Role:
    """The rule as the manual has it."""
    method, path = route.split()
    if path.startswith("/audit") or (path.startswith(("/cluster", "/notifications")) and method != "GET"):
        return Role.ADMIN
    return Role.VIEWER if method == "GET" and route not in CHANGING_READS else Role.EDITOR


@dataclass
class Guarded:
    """A service that everybody can reach, with a token of each role."""

    process: ServiceProcess
    tokens: dict[str, str]

    def call(self, token: str | None, method: str, path: str, **request: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        return httpx.request(method, f"{self.process.url}{path}", headers=headers, timeout=60, **request)

    def audit(self, **query: Any) -> list[Json]:
        answer = self.call(self.tokens["admin"], "GET", "/audit", params={"pageSize": 500, **query}).json()
        assert answer["success"], answer
        found: list[Json] = answer["data"]["records"]
        return found


def hlink(home: str, *arguments: str) -> Result:
    """The command line, in this process."""
    settings.cache_clear()
    try:
        return CliRunner().invoke(cli, arguments, env={"HLINK_HOME": home})
    finally:
        settings.cache_clear()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    home = tmp_path_factory.mktemp("guarded")
    tokens = {role: make(str(home), f"the {role}", role) for role in Role}
    with running_service(home, HLINK_HOST="0.0.0.0") as process:
        yield Guarded(process, tokens)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("open"), HLINK_ALLOWED_HOSTS="hlink.example") as process:
        yield process


def make(home: str, name: str, role: str, *more: str) -> str:
    made = hlink(home, "token", "create", "--name", name, "--role", role, *more)
    assert made.exit_code == 0, made.stderr
    return made.stdout.strip()


# Roles


@pytest.mark.parametrize("route", every_route())
def test_given_each_role_then_a_route_opens_to_those_that_the_manual_says(guarded: Guarded, route: str) -> None:
    method, template = route.split()
    path = re.sub(r"\{\w+\}", "7", template)
    needed = role_of(route)
    for role in Role:
        answer = guarded.call(guarded.tokens[role], method, path)
        allowed = list(Role).index(role) >= list(Role).index(needed)
        assert (answer.status_code == 403) is not allowed, (role, answer.text)
        assert answer.status_code != 401
        if not allowed:
            told = f"This needs the role {needed}, and the token 'the {role}' has the role {role}"
            # Each family has its own envelope; both have the message.
            assert (answer.json().get("code", -7), answer.json()["msg"].startswith(told)) == (-7, True)
    for wrong in (None, "wrong", "hlink_"):
        assert guarded.call(wrong, method, path).status_code == 401, wrong


def test_given_no_or_a_wrong_token_then_the_envelope_says_how_to_get_one(guarded: Guarded) -> None:
    for token, beginning in ((None, "This service asks for a token"), ("wrong", "The token is not valid")):
        answer = guarded.call(token, "GET", "/cluster/list")
        assert (answer.status_code, answer.json()["code"], answer.json()["success"]) == (401, -7, False)
        assert answer.json()["msg"].startswith(beginning)
        assert answer.json()["msg"].endswith("hlink token create --name NAME --role viewer|editor|admin")
        assert answer.headers["www-authenticate"] == "Bearer"


# Tokens


def test_given_a_running_service_then_a_new_token_is_valid_at_once_and_a_revoked_one_not_for_long(
    guarded: Guarded,
) -> None:
    home, name = str(guarded.process.home), f"short-lived {uuid.uuid4().hex[:6]}"
    assert guarded.call("unknown", "GET", "/cluster/list").status_code == 401  # the known tokens have been read
    token = make(home, name, "viewer", "--expires", "12h")
    assert guarded.call(token, "GET", "/cluster/list").status_code == 200
    twice = hlink(home, "token", "create", "--name", name, "--role", "viewer")
    assert (twice.exit_code, f"There is a token named '{name}' already" in twice.stderr) == (1, True)

    listed = hlink(home, "token", "list").stdout
    line = next(line for line in listed.splitlines() if name in line)
    assert re.search(r"viewer\s+valid(\s+\d{4}-\d\d-\d\d \d\d:\d\d){3}", line), line  # made, expires, last used

    assert hlink(home, "token", "revoke", name).exit_code == 0
    deadline = time.monotonic() + 20
    while guarded.call(token, "GET", "/cluster/list").status_code != 401:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert hlink(home, "token", "revoke", name).exit_code == 1
    assert make(home, name, "viewer") != token  # the name is free again


def test_given_a_token_that_expired_then_it_is_refused(guarded: Guarded) -> None:
    name = f"over {uuid.uuid4().hex[:6]}"
    token = make(str(guarded.process.home), name, "viewer", "--expires", "1h")
    with sqlite3.connect(guarded.process.home / "hlink.db", timeout=20) as database:
        database.execute("UPDATE access_token SET expires_at = created_at - 1 WHERE name = ?", (name,))
    assert guarded.call(token, "GET", "/cluster/list").status_code == 401
    line = next(one for one in hlink(str(guarded.process.home), "token", "list").stdout.splitlines() if name in one)
    assert "expired" in line


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--name", "x", "--role", "king"), 1, "'king' is not a role (use viewer, editor, admin)"),
        (("--name", " ", "--role", "viewer"), 1, "'' cannot be its name (use 1 to 64 characters)"),
        (("--name", "x", "--role", "viewer", "--expires", "soon"), 2, "'soon' is not a time"),
    ],
)
def test_given_a_token_that_cannot_be_then_it_is_not_made(
    guarded: Guarded, arguments: tuple[str, ...], status: int, words: str
) -> None:
    refused = hlink(str(guarded.process.home), "token", "create", *arguments)
    assert (refused.exit_code, refused.stdout) == (status, "")
    assert words in " ".join(refused.stderr.split())


def test_no_token_is_in_the_database_or_in_a_log(guarded: Guarded) -> None:
    for token in guarded.tokens.values():
        guarded.call(token, "POST", "/ds/addDO", json={"dsName": token})
    with sqlite3.connect(guarded.process.home / "hlink.db") as database:
        kept = "\n".join(database.iterdump())
    log = guarded.process.log.read_text()
    assert "the admin" in kept
    for token in guarded.tokens.values():
        assert token not in kept
        assert token not in log


# The audit log


def test_given_changes_and_refusals_then_each_is_one_row_without_its_content(guarded: Guarded) -> None:
    alias = f"a_{uuid.uuid4().hex[:8]}"
    body = {
        "dsName": alias, "tableName": alias, "dsType": "sink", "tableType": "kafka",
        "dsSchemaColumnVOS": [{"name": "k", "flinkType": "STRING"}],
        "jsonFieldVO": {"jsonValue": [
            {"fieldName": "bootstrap_servers", "fieldValue": "broker:9092"},
            {"fieldName": "connector_topic", "fieldValue": "secret-topic"},
        ]},
    }  # fmt: skip
    before = {row["id"] for row in guarded.audit()}
    made = guarded.call(guarded.tokens["editor"], "POST", "/ds/addDO", json=body).json()
    guarded.call(guarded.tokens["editor"], "POST", "/ds/addDO", json=body)
    guarded.call(guarded.tokens["viewer"], "POST", "/ds/addDO?password=in-the-query", json=body)
    guarded.call(guarded.tokens["viewer"], "GET", "/cluster/list")
    guarded.call(guarded.tokens["editor"], "POST", "/jobs/run/7")
    guarded.call(guarded.tokens["editor"], "POST", "/jobs/validate", json={})
    guarded.call("wrong", "POST", "/ds/addDO", json=body)

    rows = [row for row in reversed(guarded.audit()) if row["id"] not in before]
    assert [(row["who"], row["role"], row["path"], row["subjects"], row["success"], row["code"]) for row in rows] == [
        ("the editor", "editor", "/ds/addDO", f"id={made['data']['id']}", True, 200),
        ("the editor", "editor", "/ds/addDO", "", False, 0),
        ("the viewer", "viewer", "/ds/addDO", "", False, -7),
        ("the editor", "editor", "/jobs/run/7", "jobId=7", False, -8),
    ]
    assert "secret-topic" not in str(rows)
    assert "in-the-query" not in str(rows)
    shown = guarded.call(guarded.tokens["viewer"], "GET", "/ds/get", params={"id": made["data"]["id"]}).json()["data"]
    assert (shown["createBy"], shown["modifyBy"]) == ("the editor", "the editor")


def test_the_audit_log_is_searched_and_paged(guarded: Guarded) -> None:
    guarded.call(guarded.tokens["editor"], "POST", "/jobs/run/8")
    guarded.call(guarded.tokens["editor"], "POST", "/jobs/cancel/8")
    assert {row["who"] for row in guarded.audit(who="EDIT")} == {"the editor"}
    assert {row["path"] for row in guarded.audit(path="/cancel/8")} == {"/jobs/cancel/8"}
    today = guarded.audit()[0]["time"][:10]
    assert guarded.audit(**{"from": today, "to": today})
    assert guarded.audit(to="2001-01-01") == []
    assert guarded.audit(**{"from": "2200-01-01"}) == []
    newest, next_one = (guarded.audit(pageSize=1, curPage=number)[0]["path"] for number in (1, 2))
    assert (newest, next_one) == ("/jobs/cancel/8", "/jobs/run/8")


def test_given_rows_older_than_the_setting_then_a_start_deletes_them(guarded: Guarded) -> None:
    home = guarded.process.home
    guarded.call(guarded.tokens["editor"], "POST", "/jobs/run/9")
    with sqlite3.connect(home / "hlink.db", timeout=20) as database:
        database.execute("UPDATE audit_event SET at = at - 3 * 86400000 WHERE path = '/jobs/run/9'")
    guarded.process.stop()
    guarded.process.start(HLINK_AUDIT_DAYS="2", HLINK_API_TOKEN="the-setting's")
    deadline = time.monotonic() + 20
    while guarded.audit(path="/jobs/run/9"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert guarded.audit()
    # The token of the setting is an administrator's, beside the others.
    assert guarded.call("the-setting's", "GET", "/audit").json()["success"] is True


# A service without tokens


def test_given_no_token_on_this_machine_then_the_service_is_open_and_the_caller_is_called_local(
    service: ServiceProcess, endpoints: Endpoints
) -> None:
    api = Api(service.url, endpoints)
    cluster = api.cluster()
    shown = api.ok("GET", "/cluster/info", params={"clusterId": cluster})
    assert (shown["createBy"], shown["modifyBy"]) == ("local", "local")
    (row,) = api.ok("GET", "/audit", params={"path": "/cluster/add"})["records"]
    assert (row["who"], row["role"], row["subjects"]) == ("local", "admin", f"id={cluster}")


@pytest.mark.parametrize(
    ("header", "value", "allowed"),
    [
        ("Host", "localhost:8086", True),
        ("Host", "127.0.0.1", True),
        ("Host", "[::1]:8086", True),
        ("Host", "HLINK.example:80", True),
        ("Host", "attacker.example:8086", False),
        ("Host", "localhost.attacker.example", False),
        ("Host", "127.0.0.1.nip.example", False),
        ("Host", "", False),
        ("Origin", "http://localhost:5173", True),
        ("Origin", "https://attacker.example", False),
        ("Origin", "null", False),
    ],
)
def test_given_no_token_then_only_requests_meant_for_this_machine_are_answered(
    service: ServiceProcess, header: str, value: str, allowed: bool
) -> None:
    answer = httpx.get(f"{service.url}/cluster/list", headers={header: value})
    assert answer.status_code == (200 if allowed else 403)
    if not allowed:
        assert answer.json()["code"] == -7
        assert f"the request's {header} is {value!r}" in answer.json()["msg"]
        assert "HLINK_ALLOWED_HOSTS" in answer.json()["msg"]


def test_given_a_token_then_any_name_of_the_host_does(guarded: Guarded) -> None:
    headers = {"Host": "hlink.example", "Authorization": f"Bearer {guarded.tokens['viewer']}"}
    assert httpx.get(f"{guarded.process.url}/cluster/list", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "hlink.example"])
def test_given_another_address_without_a_token_then_serving_is_refused_with_the_command_that_makes_one(
    tmp_path_factory: pytest.TempPathFactory, host: str
) -> None:
    refused = hlink(str(tmp_path_factory.mktemp("refused")), "serve", "--host", host)
    assert refused.exit_code == 2
    assert f"Refusing to listen on {host} without a token" in refused.stderr
    assert "hlink token create --name NAME --role" in refused.stderr


def test_given_the_first_token_then_an_open_service_closes_and_stays_closed_when_it_is_revoked(
    service: ServiceProcess,
) -> None:
    def status(**headers: str) -> int:
        return httpx.get(f"{service.url}/cluster/list", headers=headers).status_code

    def wait_for_401(**headers: str) -> None:
        deadline = time.monotonic() + 20
        while status(**headers) != 401:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    assert status() == 200
    token = {"Authorization": f"Bearer {make(str(service.home), 'first', 'admin')}"}
    wait_for_401()
    assert status(**token) == 200
    assert hlink(str(service.home), "token", "revoke", "first").exit_code == 0
    wait_for_401(**token)
    assert status() == 401
