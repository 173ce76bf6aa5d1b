"""What requests may look like, and how answers are written."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

import app
from app.errors import (
    Conflict,
    DatabaseFailure,
    InvalidInput,
    NoSuchAddress,
    NotFound,
    Problem,
    Unauthorised,
    Unavailable,
)
from app.hlink.answers import envelope
from app.hlink.wire import Answer, ClusterEntity, JobEntity, JobQuery, JobView, Page, Paging, TableView, time_span


def _models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for one in base.__subclasses__():
        yield one
        yield from _models(one)


def test_given_nothing_in_any_field_then_it_is_taken_or_refused() -> None:
    """Bounds of a number, on a field that may lack one, must not be held against its absence."""
    for module in pkgutil.walk_packages(app.__path__, "app."):
        if "wire" in module.name:
            importlib.import_module(module.name)
    fields = [
        (model, name, TypeAdapter(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation))
        for model in _models(BaseModel)
        if model.__module__.startswith("app.") and "wire" in model.__module__
        for name, field in model.model_fields.items()
    ]
    assert len(fields) > 300
    for model, name, read in fields:
        for nothing in (None, ""):
            with contextlib.suppress(ValidationError):
                assert read.validate_python(nothing) in (None, "", []), (model, name)


def test_a_job_is_read_by_its_published_names_misspelt_ones_too() -> None:
    job = JobView.model_validate(
        {
            "jobName": "pv",
            "checkpointMaxCuncurrency": 2,
            "tableExecMinibatchAllowlatency": 5,
            "jobDsVOS": [{"dsId": 7, "dsType": "sink", "runSql": "SELECT 1"}],
        }
    )
    assert (job.name, job.max_concurrent_checkpoints, job.mini_batch_latency_s) == ("pv", 2, 5)
    assert job.tables is not None
    assert (job.tables[0].table_id, job.tables[0].sql) == (7, "SELECT 1")


def test_what_old_clients_send_is_read_as_the_original_read_it() -> None:
    job = JobView.model_validate(
        {
            "createTime": "",
            "parallelism": "4",
            "version": 3,
            "clusterId": " ",
            "unknown": 1,
            "checkpointCleanupMode": True,
        }
    )
    assert (job.created_at, job.parallelism, job.version, job.cluster_id) == (None, 4, "3", None)
    assert job.checkpoint_cleanup == 1


def test_columns_that_are_null_are_no_columns() -> None:
    assert TableView.model_validate({"dsSchemaColumnVOS": [None]}).columns == []


@pytest.mark.parametrize(
    ("field", "value"), [("parallelism", 2**31), ("clusterId", 2**63), ("jobName", "a\x00b"), ("jobName", "\ud800")]
)
def test_what_cannot_be_stored_is_refused_by_its_published_name(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        JobView.model_validate({field: value})
    assert refused.value.errors()[0]["loc"] == (field,)


def test_answers_carry_published_names_and_iso_8601_times() -> None:
    answer = Answer(data=ClusterEntity(id=1, created_at=1385856000123, state=1)).model_dump(mode="json", by_alias=True)
    assert (answer["code"], answer["msg"], answer["success"]) == (200, "", True)
    assert answer["data"]["createTime"] == "2013-12-01T00:00:00.123+00:00"
    assert answer["data"]["delFlag"] == 1


def test_the_cleanup_mode_is_a_boolean_in_the_stored_entity_only() -> None:
    assert JobEntity(checkpoint_cleanup=True).model_dump(by_alias=True)["checkpointCleanupMode"] is True
    assert JobView(checkpoint_cleanup=1).model_dump(by_alias=True)["checkpointCleanupMode"] == 1


@pytest.mark.parametrize(
    ("asked", "number", "size", "offset"),
    [({}, 1, 10, 0), ({"curPage": 3, "pageSize": 20}, 3, 20, 40), ({"curPage": -1, "pageSize": 10**6}, 1, 500, 0)],
)
def test_paging_is_brought_into_bounds(asked: dict[str, int], number: int, size: int, offset: int) -> None:
    paging = Paging.model_validate(asked)
    assert (paging.number, paging.size, paging.offset) == (number, size, offset)


def test_a_page_knows_how_many_there_are() -> None:
    page = Page.of(["a"], 21, Paging.model_validate({"curPage": 3})).model_dump(by_alias=True)
    assert page == {"records": ["a"], "total": 21, "size": 10, "current": 3, "pages": 3, "searchCount": True}


def test_empty_query_fields_filter_nothing() -> None:
    query = JobQuery.model_validate({"jobName": "", "jobType": "", "createTime": "", "parms": ""})
    assert (query.name, query.kind, query.created_at, query.parameters) == (None, None, None, None)


@pytest.mark.parametrize(
    ("text", "start", "length_s"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC), 86_400),
        ("2026-01-31T08:00:05", datetime(2026, 1, 31, 8, 0, 5, tzinfo=UTC), 1),
        ("2026-01-31 08:00:05.750+08:00", datetime(2026, 1, 31, 0, 0, 5, tzinfo=UTC), 1),
    ],
)
def test_a_time_filter_is_a_day_or_a_second(text: str, start: datetime, length_s: int) -> None:
    began, ended = time_span(text)
    assert (began, ended - began) == (int(start.timestamp() * 1000), length_s * 1000)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidInput("no"), 200, -3),
        (Conflict("no"), 200, 0),
        (Unavailable("no"), 200, -2),
        (NotFound("no"), 200, -8),
        (NoSuchAddress("no"), 404, -8),
        (Unauthorised("no"), 401, -7),
        (DatabaseFailure("no"), 500, -4),
    ],
)
def test_errors_are_told_in_the_envelope(error: Exception, status: int, code: int) -> None:
    told, body = envelope(error)  # type: ignore[arg-type]
    assert told == status
    assert (body["code"], body["msg"], body["success"], body["data"]) == (code, "no", False, None)


def test_problems_stand_beside_the_published_fields() -> None:
    _, body = envelope(InvalidInput(Problem("unknown type", table="t", field="column c", remedy="use INT")))
    assert body["problems"] == [{"message": "unknown type", "table": "t", "field": "column c", "remedy": "use INT"}]
