"""The user's statement for a sink to the INSERT that Flink plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream_jobs.definitions import Job, Statement
from stream_jobs.problems import InvalidJob, Problem
from stream_jobs.sql import lookup, tree
from stream_jobs.sql.lookup import ExpandedStars
from stream_jobs.sql.quoting import identifier
from stream_jobs.sql.source import Edit, Edited, Text
from stream_jobs.sql.tree import Node

_QUERIES = frozenset({"SELECT", "UNION", "INTERSECT", "EXCEPT", "WITH", "ORDER_BY", "VALUES"})


@dataclass(frozen=True, slots=True)
class Insert:
    """A statement ready for Flink: the INSERT, and the way back to the user's text."""

    sink: str
    edited: Edited
    query: Node

    @property
    def sql(self) -> str:
        return self.edited.text


@dataclass(frozen=True, slots=True)
class Draft:
    """A statement on its way: the edits so far, and the SELECTs whose ``*`` has to be written out."""

    statement: Statement
    text: Text
    query: Node
    edits: tuple[Edit, ...]
    starred: tuple[Node, ...]

    def finish(self, expanded: ExpandedStars) -> Insert:
        """The INSERT, once it is known what each ``*`` stands for."""
        stars = [e for select in self.starred for e in lookup.star_edits(select, self.text, expanded)]
        return Insert(self.statement.sink, Edited(self.text, [*self.edits, *stars]), self.query)


def draft(job: Job, statement: Statement, text: Text, root: Node) -> Draft:
    """Reads a parsed statement; its parts come from Flink's own tree.

    Raises:
        InvalidJob: it is not a query or an INSERT into its own sink, or joins a side table in a way that cannot be.
    """
    edits: list[Edit] = []
    if root.kind == "INSERT":
        target = root.operand(tree.INSERT_TARGET)
        query = root.operand(tree.INSERT_SOURCE)
        if target.names[-1:] != (statement.sink,) or len(target.names) != 1:
            raise InvalidJob(
                [
                    Problem(
                        f"the statement of sink {statement.sink!r} writes into {'.'.join(target.names)!r}.",
                        f"Write INSERT INTO {statement.sink} SELECT ..., or the SELECT alone.",
                        statement=statement.sink,
                        table=statement.sink,
                        place=text.place(*text.span(target.at)),
                    )
                ]
            )
    elif root.kind in _QUERIES:
        query = root
        edits.append(Edit(0, 0, f"INSERT INTO {identifier(statement.sink)} "))
    else:
        raise InvalidJob(
            [
                Problem(
                    f"{root.operator or root.kind} is not a feature statement.",
                    "Write one SELECT, or INSERT INTO ... SELECT: tables and functions are defined beside the job.",
                    statement=statement.sink,
                    place=text.place(*text.span(root.extent)),
                )
            ]
        )
    joins = lookup.lookup_joins(query, text, job.tables)
    if joins.problems:
        raise InvalidJob([_of(statement, p) for p in joins.problems])
    return Draft(statement, text, query, (*edits, *joins.edits), tuple(joins.starred))


def _of(statement: Statement, problem: Problem) -> Problem:
    return Problem(problem.message, problem.remedy, statement.sink, problem.table, problem.column, problem.place)


def output_items(query: Node) -> Sequence[Node]:
    """The items of the query's (first) SELECT list, one per sink column; none where that cannot be told."""
    while query.kind != "SELECT":
        match query.kind:
            case "WITH":
                query = query.operand(tree.WITH_BODY)
            case "UNION" | "INTERSECT" | "EXCEPT" | "ORDER_BY":
                query = query.operand(0)
            case _:
                return []
    found = tree.items(query.operand(tree.SELECT_LIST))
    return [] if any(item.is_star() for item in found) else found
