"""Sinks without a declared key whose statement changes rows: the database's own key is taken.

The key goes into the plan only, not into the stored table: what the table says of itself stays what its owner wrote.
"""

from __future__ import annotations

from dataclasses import replace

from app.hlink.connections import Connections, unchecked
from stream_jobs.definitions import JdbcSink, Job, Table
from stream_jobs.planner.client import Planner
from stream_jobs.planner.plan import Plan, plan
from stream_jobs.problems import InvalidJob, Problem


async def plan_with_keys(planner: Planner, connections: Connections, job: Job, job_id: str, *, with_plan: bool) -> Plan:
    """Plans the job, and again with the database's key for each sink that turns out to lack one.

    Raises as :func:`stream_jobs.planner.plan.plan`; a problem says so when the database could not be asked.
    """
    while True:
        try:
            return await plan(planner, job, job_id, with_plan=with_plan)
        except InvalidJob as error:
            lacking = {problem.table: problem for problem in error.problems if problem.lacks_key}
            keyless = [table for table in job.tables if table.name in lacking and _may_take_key(table)]
            if not keyless:
                raise
            keyed = {table.name: await _keyed(connections, table, lacking[table.name]) for table in keyless}
            job = replace(job, tables=tuple(keyed.get(table.name, table) for table in job.tables))


def _may_take_key(table: Table) -> bool:
    return isinstance(table.connector, JdbcSink) and not table.primary_key


async def _keyed(connections: Connections, table: Table, lacking: Problem) -> Table:
    """The table with its database's key. Raises InvalidJob with what keeps it from having one."""
    found = await connections.look(replace(table, columns=()))
    own = {column.name.lower(): column.name for column in table.columns}
    if found.key and all(name.lower() in own for name in found.key):
        return replace(table, primary_key=tuple(own[name.lower()] for name in found.key))
    if found.problems:
        why = f"Its database could not be asked for its key: {found.problems[0].message}."
        remedy = f"Name the key in primary_key, or {found.problems[0].remedy}."
    elif found.key:
        unwritten = next(name for name in found.key if name.lower() not in own)
        why = f"Its table's own key is {', '.join(found.key)}, and the definition does not write {unwritten}."
        remedy = f"Add column {unwritten} to the definition, or name another unique key in primary_key."
    elif not found.columns:
        why = f"Its database was not asked for its key: {unchecked(table) or 'it cannot be from here'}."
        remedy = "Name the key in primary_key."
    else:
        why = "Its table in the database has no primary key, nor a single unique index, that could be taken."
        remedy = "Add a primary key to the table in the database, or name one of its unique keys in primary_key."
    raise InvalidJob([replace(lacking, message=f"{lacking.message} {why}", remedy=remedy)])
