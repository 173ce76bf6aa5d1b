"""A stored job and its tables as the plain value that is planned."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from typing import Any

from app.errors import InvalidInput, Problem
from app.hlink.jobs.execution import execution, wants_event_time
from app.hlink.jobs.models import JAR, SQL, JobTableLink, StoredJob
from app.hlink.tables.definition import to_definition
from app.hlink.tables.models import StoredTable
from stream_jobs.definitions import Function, Job, Role, Secret, Statement


def job_of(
    job: StoredJob,
    links: Sequence[JobTableLink],
    tables: Mapping[int, StoredTable],
    functions: tuple[Function, ...] = (),
) -> Job:
    """The job as a value; ``functions`` are those that its statements may call.

    Raises:
        InvalidInput: it cannot run as it is defined: its kind, its settings, its tables.
    """
    if job.kind == JAR:
        raise InvalidInput(Problem("a JAR job cannot be run", field="jobType", remedy=f"use {SQL}, an SQL job"))
    if job.kind != SQL:
        raise InvalidInput(Problem(f"{job.kind} is not possible", field="jobType", remedy=f"use {SQL}, an SQL job"))
    problems: list[Problem] = []
    for link in links:
        table = tables[link.table_id]
        if link.role and link.role != table.role:
            problems.append(
                Problem(
                    f"it is used as {link.role} and defined as {table.role}",
                    field="dsType",
                    table=table.alias,
                    remedy=f"choose a {link.role} table, or use this one as {table.role}",
                )
            )
        if link.sql.strip() and table.role != Role.SINK:
            problems.append(
                Problem(
                    f"it is a {table.role} table and has a statement",
                    field="runSql",
                    table=table.alias,
                    remedy="give the statement to the sink that takes its rows",
                )
            )
    used = [tables[link.table_id] for link in links]
    for role, remedy in ((Role.SOURCE, "choose what the job reads"), (Role.SINK, "choose where its rows go")):
        if not any(table.role == role for table in used):
            problems.append(Problem(f"the job has no {role} table", field="jobDsVOS", remedy=remedy))
    definitions = tuple(to_definition(table) for table in used)
    if wants_event_time(job.settings) and not any(table.watermark for table in definitions):
        problems.append(
            Problem(
                "the job is to go by event time, and none of its sources has one",
                field="timeType",
                remedy="set eventTime 1 on a column of a source, or use timeType 1",
            )
        )
    aliases = [table.alias for table in used]
    for alias in sorted({a for a in aliases if aliases.count(a) > 1}):
        problems.append(Problem("it is chosen twice", field="jobDsVOS", table=alias, remedy="choose it once"))
    if problems:
        raise InvalidInput(*problems)
    return Job(
        name=job.name,
        tables=definitions,
        statements=tuple(
            Statement(tables[link.table_id].alias, link.sql)
            for link in links
            if tables[link.table_id].role == Role.SINK
        ),
        execution=execution(job.settings),
        functions=functions,
    )


def sql_of(links: Sequence[JobTableLink], tables: Mapping[int, StoredTable]) -> list[str]:
    """All SQL that users wrote for a job: its statements, and the expressions of its tables' computed columns."""
    expressions = [str(column.get("expression") or "") for table in tables.values() for column in table.columns]
    return [*(link.sql for link in links), *expressions]


def digest_of(job: Job, job_id: int) -> str:
    """Changes with everything that goes into the job's plan, and with nothing else. Secrets do not go into it."""
    value: dict[str, Any] = {"job": job, "id": job_id, "flink": version("apache-flink")}
    return hashlib.sha256(json.dumps(_without_secrets(value), sort_keys=True).encode()).hexdigest()


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Secret):
        return None
    if isinstance(value, Mapping):
        return {key: _without_secrets(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        # The class counts: two connectors may have equal fields.
        fields_ = {field.name: _without_secrets(getattr(value, field.name)) for field in fields(value)}
        return {"": type(value).__name__, **fields_}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_secrets(item) for item in value]
    return value
