"""What goes wrong reaches the caller in the family's envelope, without internals."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError

from app.errors import (
    Conflict,
    DatabaseFailure,
    HlinkError,
    InvalidInput,
    NoSuchAddress,
    NotFound,
    Problem,
    Unavailable,
    Unexpected,
    install,
)


def envelope(error: HlinkError) -> tuple[int, dict[str, Any]]:
    return 200, {"code": type(error).__name__, "msg": error.message}


class Sent(BaseModel):
    jobName: str
    parallelism: int


RAISED = {
    "ours": NotFound("There is no job 5", id=5),
    "fault": ZeroDivisionError("secret internals"),
    "database": OperationalError("SELECT secret", {}, Exception("secret")),
    "conflict": Conflict("twice"),
    "unavailable": Unavailable("Flink does not answer"),
}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    install(app, {"/jobs": envelope})

    @app.get("/{family}/raise/{what}")
    async def _raise(family: str, what: str) -> None:
        raise RAISED[what]

    @app.post("/jobs/add")
    async def _add(sent: Sent) -> Sent:
        return sent

    @app.get("/jobs/forbidden")
    async def _forbidden(_: Annotated[None, Depends(lambda: None)]) -> None:
        raise HTTPException(403, "not you")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as made:
        yield made


@pytest.mark.parametrize(
    ("what", "word"),
    [("ours", NotFound), ("conflict", Conflict), ("unavailable", Unavailable), ("database", DatabaseFailure)],
)
async def test_given_a_familys_path_then_an_error_comes_in_its_envelope(
    client: httpx.AsyncClient, what: str, word: type[HlinkError]
) -> None:
    answer = await client.get(f"/jobs/raise/{what}")
    assert (answer.status_code, answer.json()["code"]) == (200, word.__name__)


async def test_given_another_path_then_an_error_comes_as_problem_details(client: httpx.AsyncClient) -> None:
    answer = await client.get("/other/raise/ours")
    assert answer.status_code == 404
    assert answer.json() == {"title": "Not Found", "status": 404, "detail": "There is no job 5", "id": 5}


async def test_given_a_path_that_only_begins_like_a_familys_then_its_envelope_is_not_used(
    client: httpx.AsyncClient,
) -> None:
    assert "code" not in (await client.get("/jobsearch/raise/ours")).json()


async def test_given_an_address_that_does_not_exist_then_the_family_says_so(client: httpx.AsyncClient) -> None:
    assert (await client.get("/jobs/none")).json()["code"] == NoSuchAddress.__name__


async def test_given_a_wrong_method_outside_the_families_then_the_status_stays(client: httpx.AsyncClient) -> None:
    answer = await client.delete("/other/raise/ours")
    assert (answer.status_code, answer.json()["status"]) == (405, 405)


async def test_given_a_fault_of_ours_then_the_caller_gets_a_number_and_the_log_the_trace(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await client.get("/jobs/raise/fault")
    assert answer.json()["code"] == Unexpected.__name__
    assert "secret" not in answer.text
    [record] = [one for one in caplog.records if one.name == "app.errors"]
    assert record.args[0] in answer.text  # type: ignore[index]
    assert "ZeroDivisionError" in str(record.exc_info)


async def test_given_a_database_failure_then_no_sql_is_shown(client: httpx.AsyncClient) -> None:
    assert "secret" not in (await client.get("/other/raise/database")).text


async def test_given_a_wrong_body_then_every_field_is_named(client: httpx.AsyncClient) -> None:
    answer = await client.post("/jobs/add", json={"parallelism": "many"})
    assert answer.json()["code"] == InvalidInput.__name__
    assert "jobName" in answer.json()["msg"]
    assert "parallelism" in answer.json()["msg"]


def test_a_problem_says_where_and_what_to_do() -> None:
    problem = Problem("no column 'prise'", table="orders", line=3, column=8, remedy="did you mean 'price'?")
    assert str(problem) == "table orders, line 3, column 8: no column 'prise' (did you mean 'price'?)"


def test_invalid_input_lists_every_problem_for_machines() -> None:
    error = InvalidInput("one", Problem("two", field="jobName"))
    assert error.details == {"problems": [{"message": "one"}, {"message": "two", "field": "jobName"}]}
