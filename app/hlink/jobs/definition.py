"""A stored job and its tables as the plain value that is planned."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import version
from typing import Any

from app.errors import InvalidInput, Problem
from app.hlink.jars.archive import check_entry_class
from app.hlink.jars.models import StoredJar
from app.hlink.jobs.execution import execution, wants_event_time
from app.hlink.jobs.models import JAR, SQL, JobTableLink, StoredJob
from app.hlink.tables.definition import to_definition
from app.hlink.tables.models import StoredTable
from app.uploads import Files
from stream_jobs.definitions import Execution, Function, Job, Role, Secret, Statement, Table
from stream_jobs.sql.options import flink_options


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
    if job.kind != SQL:
        raise InvalidInput(
            Problem(f"{job.kind} is not possible", field="jobType", remedy=f"use {SQL} (SQL) or {JAR} (a jar)")
        )
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


@dataclass(frozen=True, slots=True)
class JarJob:
    """A job that is a program in a jar, which defines its own sources and sinks."""

    name: str
    jar: str
    """The name that clusters have the jar as."""
    sha256: str
    entry_class: str
    arguments: tuple[str, ...]
    execution: Execution
    tables: tuple[Table, ...] = ()

    @property
    def script(self) -> str:
        """What is run, for people."""
        settings = "\n".join(f"SET '{name}' = '{value}';" for name, value in sorted(self.options.items()))
        return f"{settings}\n\nflink run -c {self.entry_class} {self.jar} {shlex.join(self.arguments)}".rstrip()

    @property
    def options(self) -> Mapping[str, str]:
        """Flink's configuration for it."""
        return flink_options(self.name, self.execution)


def jar_job_of(job: StoredJob, jar: StoredJar, files: Files) -> JarJob:
    """The job as a value. Reads the jar: call it in a thread.

    Raises:
        InvalidInput, NotFound: its settings, its arguments, its entry class; the jar's contents are not here.
    """
    made = execution(job.settings)
    file = files.path(jar.sha256, jar.name)
    entry_class = (job.settings.get("entry_class") or "").strip() or jar.entry_class
    if not entry_class:
        raise InvalidInput(
            Problem(
                f"{jar.name} does not say in its manifest which class to start",
                field="entryClass",
                remedy="give the class with the main method",
            )
        )
    check_entry_class(file, jar.name, entry_class)
    try:
        arguments = shlex.split(job.settings.get("program_arguments") or "")
    except ValueError as error:
        raise InvalidInput(Problem(str(error), field="program", remedy="close what is quoted")) from None
    return JarJob(job.name, jar.unique_name, jar.sha256, entry_class, tuple(arguments), made)


def digest_of(job: Job | JarJob, job_id: int) -> str:
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
