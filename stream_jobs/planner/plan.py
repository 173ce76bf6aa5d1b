"""A job through the planner: from definitions and the user's statements to a plan that can be run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stream_jobs.definitions import Column, DefinitionError, Function, Job, Secret, Table
from stream_jobs.planner.client import Answer, Planner
from stream_jobs.planner.function_sets import FunctionSet
from stream_jobs.planner.functions import prepare
from stream_jobs.problems import InvalidJob, Problem
from stream_jobs.sql import ddl, diagnosis, functions, options, statements
from stream_jobs.sql.declaration import Declaration, declare
from stream_jobs.sql.diagnosis import Refusal
from stream_jobs.sql.lookup import ExpandedStars
from stream_jobs.sql.source import Edited, Text, normalized
from stream_jobs.sql.statements import Draft, Insert
from stream_jobs.sql.tree import Node


@dataclass(frozen=True, slots=True)
class Plan:
    """A job that Flink accepts. Nothing in it holds a secret: placeholders stand in their places."""

    ddl: tuple[str, ...]
    inserts: tuple[str, ...]
    options: Mapping[str, str]
    #: Flink's compiled plan as JSON; empty where it was not asked for.
    compiled: str = ""
    #: The functions that the statements call, in the order of their names, and the statements that create users' own.
    functions: tuple[Function, ...] = ()
    function_ddl: tuple[str, ...] = ()

    @property
    def sql(self) -> str:
        """The whole job as a script for people, as Flink's own SQL client would take it."""
        settings = "\n".join(f"SET '{key}' = '{value}';" for key, value in sorted(self.options.items()))
        tables = "\n\n".join(f"{statement};" for statement in (*self.function_ddl, *self.ddl))
        body = "\n".join(f"{statement};" for statement in self.inserts)
        inserts = body if len(self.inserts) == 1 else f"EXECUTE STATEMENT SET\nBEGIN\n{body}\nEND;"
        return "\n\n".join((settings, tables, inserts))


async def plan(planner: Planner, job: Job, job_id: str, *, with_plan: bool) -> Plan:
    """Plans the job; ``with_plan`` also makes the compiled plan, which a run is started from.

    Raises:
        InvalidJob: with every problem that could be found: of the tables, else of the statements' syntax, else the
            first that Flink finds while it plans.
        PlannerError: the planner could not answer.
    """
    tables = _tables(job, job_id)
    if job.execution.options:
        await _check_options(planner, job.execution.options)
    drafts, called = await _drafts(planner, job)
    created = await asyncio.to_thread(prepare, called, planner.config)
    inserts = await asyncio.gather(*(_insert(planner, job, d, job_id, created) for d in drafts))
    settings = options.flink_options(job.name, job.execution)
    everything = (*(i.sql for i in inserts), *tables.inserts)
    answer = await planner.compile(tables.ddl, everything, settings, created, with_plan=with_plan)
    if "error" in answer:
        raise InvalidJob([_refused(Refusal.read(answer["error"]), job, inserts, tables, called)])
    return Plan(tables.ddl, everything, settings, answer["plan"], called, created.statements)


async def explain(planner: Planner, planned: Plan) -> str:
    """Flink's optimized plan of a planned job, as text."""
    created = await asyncio.to_thread(prepare, planned.functions, planner.config)
    answer = await planner.explain(planned.ddl, planned.inserts, planned.options, created)
    return str(answer.get("explanation", ""))


def secrets_of_tables(tables: Iterable[Table], job_id: str) -> dict[str, Secret]:
    """The value of each placeholder that the plan of a job with these tables holds."""
    return {name: value for table in tables for name, value in declare(table, job_id).secrets.items()}


def fill_in(compiled: str, secrets: Mapping[str, Secret]) -> str:
    """The compiled plan with its secrets. What this returns goes to Flink and nowhere else."""
    for placeholder, secret in secrets.items():
        compiled = compiled.replace(placeholder, json.dumps(secret.value)[1:-1])
    return compiled


@dataclass(frozen=True, slots=True)
class _Tables:
    """What Flink is told of a job's tables."""

    declared: tuple[tuple[str, Declaration], ...]

    @property
    def ddl(self) -> tuple[str, ...]:
        return tuple(statement for _, made in self.declared for statement in made.statements)

    @property
    def inserts(self) -> tuple[str, ...]:
        """What the tables themselves add to the job."""
        return tuple(insert for _, made in self.declared for insert in made.inserts)

    def owner(self, statement: int) -> str:
        """The table that a statement of ``ddl`` is about."""
        return [name for name, made in self.declared for _ in made.statements][statement]


def _tables(job: Job, job_id: str) -> _Tables:
    made: list[tuple[str, Declaration]] = []
    problems: list[Problem] = []
    for table in job.tables:
        try:
            made.append((table.name, declare(table, job_id)))
        except DefinitionError as error:
            problems.append(Problem(str(error), table=table.name))
    if problems:
        raise InvalidJob(problems)
    return _Tables(tuple(made))


async def _check_options(planner: Planner, given: Mapping[str, str]) -> None:
    faults = await planner.check_options(given)
    if faults:
        raise InvalidJob(
            [
                Problem(f"the option cannot be {given[name]!r}: {why}.", "Correct it or leave it out.", column=name)
                for name, why in faults.items()
            ]
        )


async def _drafts(planner: Planner, job: Job) -> tuple[list[Draft], tuple[Function, ...]]:
    """All statements parsed, and the functions that they call; computed columns, which are a user's SQL, too."""
    known = {function.name.lower(): function for function in (*planner.config.shipped, *job.functions)}
    called: set[Function] = set()
    texts = [Text(normalized(s.sql)) for s in job.statements]
    answers = await planner.parse([*(t.text for t in texts), *_computed_queries(job.tables)])
    problems = _computed_problems(job.tables, answers[len(texts) :])
    drafts: list[Draft] = []
    for statement, text, answer in zip(job.statements, texts, answers, strict=False):
        if not text.text:
            problems.append(
                Problem(
                    f"sink {statement.sink!r} has no statement.",
                    "Write the SELECT whose rows it takes.",
                    statement=statement.sink,
                    table=statement.sink,
                )
            )
        elif "error" in answer:
            refusal = Refusal.read(answer["error"])
            problems.append(diagnosis.of_statement(refusal, job, statement.sink, Edited(text, [])))
        else:
            try:
                tree = Node.read(answer["tree"])
                called |= functions.called(tree, text, statement, known)
                drafts.append(statements.draft(job, statement, text, tree))
            except InvalidJob as error:
                problems.extend(error.problems)
    if problems:
        raise InvalidJob(problems)
    for answer in answers[len(texts) :]:
        called |= {known[name] for name, _ in functions.calls(Node.read(answer["tree"])) if name in known}
    ordered = tuple(sorted(called, key=lambda function: function.name))
    functions.refuse_mixed_modules(ordered)
    return drafts, ordered


async def check_computed(planner: Planner, table: Table) -> list[Problem]:
    """What is wrong with the expressions of a table's computed columns. Raises PlannerError.

    The planner is only asked when there are any.
    """
    queries = _computed_queries([table])
    return _computed_problems([table], await planner.parse(queries)) if queries else []


def _computed_columns(tables: Iterable[Table]) -> list[tuple[Table, Column]]:
    return [(table, column) for table in tables for column in table.columns if column.expression]


def _computed_queries(tables: Iterable[Table]) -> list[str]:
    return [f"SELECT {column.expression}" for _, column in _computed_columns(tables)]


def _computed_problems(tables: Iterable[Table], answers: Sequence[Answer]) -> list[Problem]:
    found = (
        _computed_column(table, column.name, column.expression, answer)
        for (table, column), answer in zip(_computed_columns(tables), answers, strict=True)
    )
    return [problem for problem in found if problem is not None]


def _computed_column(table: Table, column: str, expression: str, answer: Answer) -> Problem | None:
    """An expression must be one expression: it stands inside a CREATE TABLE."""
    if "error" in answer:
        reason = Refusal.read(answer["error"]).innermost.splitlines()[0]
    else:
        root = Node.read(answer["tree"])
        items = root.operand(1).operands if root.kind == "SELECT" else ()
        whole = len(items) == 1 and items[0] is not None and items[0].kind != "AS" and root.operands[2] is None
        if whole and "--" not in expression and "/*" not in expression:
            wrong = next(
                (found for name, node in functions.calls(root) if (found := functions.fault(name, node))), None
            )
            return wrong and Problem(
                f"table {table.name!r}, column {column!r}: {wrong[0]}", wrong[1], table=table.name, column=column
            )
        reason = "it is not a single expression"
    return Problem(
        f"table {table.name!r}, column {column!r}: the expression {expression!r} cannot be read: {reason}.",
        "Write one SQL expression over the table's other columns, for example TO_TIMESTAMP_LTZ(ts, 3).",
        table=table.name,
        column=column,
    )


async def _insert(planner: Planner, job: Job, draft: Draft, job_id: str, created: FunctionSet) -> Insert:
    expanded: ExpandedStars = {}
    if draft.starred:
        # The user's own text is expanded, before the edits, over the user's own columns: it names what they may see.
        seen = [ddl.as_seen(table, job_id).text for table in job.tables]
        answer = await planner.expand_stars(seen, draft.text.text, created)
        if "error" in answer:
            refusal = Refusal.read(answer["error"])
            if refusal.ddl is not None:
                raise InvalidJob([diagnosis.of_table(refusal, job.tables[refusal.ddl].name)])
            raise InvalidJob([diagnosis.of_statement(refusal, job, draft.statement.sink, Edited(draft.text, []))])
        expanded = {
            tuple(select["at"]): [(tuple(item["at"]), tuple(item["names"])) for item in select["items"]]
            for select in answer["selects"]
        }
    return draft.finish(expanded)


def _refused(refusal: Refusal, job: Job, inserts: list[Insert], tables: _Tables, called: Sequence[Function]) -> Problem:
    if refusal.function is not None:
        created = [function for function in called if function.sha256]
        return diagnosis.of_function(refusal, created[refusal.function])
    if refusal.ddl is not None:
        return diagnosis.of_table(refusal, tables.owner(refusal.ddl))
    if refusal.statement is None or refusal.statement >= len(inserts):
        return diagnosis.of_job(refusal, job)
    insert = inserts[refusal.statement]
    return diagnosis.of_statement(refusal, job, insert.sink, insert.edited, insert)
