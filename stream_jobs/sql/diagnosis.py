"""Flink's refusals in the user's words: which statement, table and column, where in the user's text, what to do.

Flink says what is wrong in the text of its exceptions only. The texts that people meet most are recognised in
``_EXPLAINED``; any other is passed on as Flink said it, with its place.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stream_jobs.definitions import Function, Job, KafkaLookup, Role, Table
from stream_jobs.problems import Place, Problem
from stream_jobs.sql.source import Edited
from stream_jobs.sql.statements import Insert, output_items

_MOST_SIGNATURES = 4


@dataclass(frozen=True, slots=True)
class Refusal:
    """The planner's error: the chain of causes as ``(type, message)``, outermost first, and its place in the SQL."""

    causes: tuple[tuple[str, str], ...]
    at: tuple[int, int, int, int] | None = None
    statement: int | None = None
    ddl: int | None = None
    function: int | None = None

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Refusal:
        """A refusal from the planner's answer."""
        at = raw.get("at")
        return cls(
            causes=tuple((c["type"], c["message"]) for c in raw["causes"]),
            at=tuple(at) if at else None,
            statement=raw.get("statement"),
            ddl=raw.get("ddl"),
            function=raw.get("function"),
        )

    @property
    def innermost(self) -> str:
        """The message of the deepest cause that has one."""
        return next((message for _, message in reversed(self.causes) if message not in ("", "null")), "")


@dataclass(frozen=True, slots=True)
class _Context:
    job: Job
    sink: str
    insert: Insert | None
    place: Place | None
    refusal: Refusal

    def problem(
        self, message: str, remedy: str, *, table: str = "", column: str = "", place: Place | None = None
    ) -> Problem:
        return Problem(message, remedy, self.sink, table, column, place or self.place)

    def tables_of_query(self) -> dict[str, Table]:
        """The tables that the statement reads, by the names that it calls them."""
        if self.insert is None:
            return {t.name: t for t in self.job.tables if t.role is not Role.SINK}
        known = {t.name: t for t in self.job.tables}
        named: dict[str, Table] = {}
        for node in self.insert.query.walk():
            table, alias = node, node
            if node.kind == "AS" and len(node.operands) > 1:
                table, alias = node.operand(0), node.operand(1)
            if table.kind == "IDENTIFIER" and alias.kind == "IDENTIFIER" and table.names[-1] in known:
                named[alias.names[-1]] = known[table.names[-1]]
        return named


def of_statement(refusal: Refusal, job: Job, sink: str, edited: Edited, insert: Insert | None = None) -> Problem:
    """What a refused statement of that sink means; ``edited`` is the text that Flink was given."""
    place = edited.original_place(refusal.at) if refusal.at is not None else None
    return _explain(refusal, _Context(job, sink, insert, place, refusal))


def of_table(refusal: Refusal, table: str) -> Problem:
    """What a refused CREATE TABLE means."""
    return Problem(f"table {table!r}: {_plain(refusal.innermost)}", "Correct the table's definition.", table=table)


def of_function(refusal: Refusal, function: Function) -> Problem:
    """What a refused CREATE FUNCTION means."""
    return Problem(
        f"function {function.name!r} ({function.implementation}) cannot be made: {_plain(refusal.innermost)}",
        "Upload a corrected version of it.",
    )


def of_job(refusal: Refusal, job: Job) -> Problem:
    """What a refusal of the job as a whole means."""
    return _explain(refusal, _Context(job, "", None, None, refusal))


def of_plan(refusal: Refusal) -> str:
    """What it means that a plan, which Flink itself has made, cannot be read or translated."""
    if found := re.search(
        r"Mismatch of function's argument data type '(.*)' and actual argument type '(.*)'", refusal.innermost
    ):
        return (
            f"a function takes {found[1]} and is given {found[2]}, which Flink does not convert where arguments are "
            f"named (name => value): give them by their positions, or write CAST(value AS {found[1]})"
        )
    return refusal.innermost


def _explain(refusal: Refusal, context: _Context) -> Problem:
    for _, message in reversed(refusal.causes):
        for pattern, explain in _EXPLAINED:
            if match := pattern.search(message):
                return explain(match, context)
    return context.problem(_plain(refusal.innermost), "")


def _plain(message: str) -> str:
    """Flink's message without what only repeats its place."""
    message = re.sub(r"^(SQL (validation|parse) failed\. )+", "", message.strip())
    message = re.sub(r"^From line \d+, column \d+ to line \d+, column \d+: ", "", message)
    message = re.sub(r"^At line \d+, column \d+: ", "", message)
    message = re.sub(r"`?default_catalog`?\.`?[^`.\s']+`?\.", "", message)
    return message if message.endswith((".", "?", "!")) else message + "."


def _close(name: str, known: Iterable[str]) -> str:
    """``Did you mean ...?`` when there is something near, else what there is."""
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.6)
    if near:
        return f"Did you mean {next(n for n in names if n.lower() == near[0])!r}?"
    return f"There is {', '.join(names)}." if names else ""


def _unknown_column(match: re.Match[str], context: _Context) -> Problem:
    column, alias = match["column"], match.groupdict().get("table") or ""
    read = context.tables_of_query()
    if alias in read:
        table = read[alias].name
        known = [c.name for c in read[alias].columns]
        return context.problem(
            f"column {column!r} does not exist in table {table!r}.", _close(column, known), table=table, column=column
        )
    elsewhere = [
        t.name
        for t in context.job.tables
        if t.role is not Role.SINK and t not in read.values() and any(c.name == column for c in t.columns)
    ]
    if elsewhere and not alias:
        return context.problem(
            f"column {column!r} does not exist in the tables that are read.",
            f"Table {elsewhere[0]!r} has it: join that.",
            table=elsewhere[0],
            column=column,
        )
    known = [c.name for t in read.values() for c in t.columns]
    return context.problem(f"column {column!r} does not exist.", _close(column, known), column=column)


def _unknown_table(match: re.Match[str], context: _Context) -> Problem:
    name = match["name"]
    near = _close(name, [t.name for t in context.job.tables if t.role is not Role.SINK])
    return context.problem(f"table {name!r} is not one of this job's tables.", near, table=name)


def _unknown_function(match: re.Match[str], context: _Context) -> Problem:
    return context.problem(
        f"function {match['name']} does not exist for arguments ({_readable(match['arguments'])}).",
        _taken(match["signatures"]) or "Check its name and the number and types of its arguments.",
    )


def _taken(signatures: str | None) -> str:
    """What a function can be called with, as Flink lists it, a line each."""
    known = [line.strip() for line in (signatures or "").splitlines() if line.strip()]
    return f"It takes {' or '.join(known[:_MOST_SIGNATURES])}." if known else ""


def _wrong_types(match: re.Match[str], context: _Context) -> Problem:
    supported = " or ".join(re.findall(r"'([^']+)'", match["supported"] or "")[:4])
    remedy = (
        f"It takes {_readable(supported)}; convert with CAST(... AS type)."
        if supported
        else "Convert with CAST(... AS type)."
    )
    return context.problem(f"{match['operator']} cannot be applied to {_readable(match['call'])}.", remedy)


def _readable(types: str) -> str:
    return types.replace("VARCHAR(2147483647)", "STRING").replace("<", "").replace(">", "")


def _schema(text: str) -> list[tuple[str, str]]:
    """``a: INT, b: ROW<c STRING, d INT>`` as pairs of name and type."""
    parts, depth, start = [], 0, 0
    for index, char in enumerate(text):
        depth += char in "<(["
        depth -= char in ">)]"
        if char == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    pairs = [p.strip().split(": ", 1) for p in parts if ": " in p]
    return [(name, kind) for name, kind in pairs]


def _mismatch(match: re.Match[str], context: _Context) -> Problem:
    sink = match["sink"]
    query, target = _schema(match["query"]), _schema(match["target"])
    items = output_items(context.insert.query) if context.insert else []
    if len(query) != len(target):
        place = None
        if context.insert and items:
            extra = items[len(target) :] or items[-1:]
            text = context.insert.edited.original
            place = text.place(text.span(extra[0].extent)[0], text.span(extra[-1].extent)[1])
        names = ", ".join(f"{name} {kind}" for name, kind in target)
        return context.problem(
            f"the query has {len(query)} columns, sink {sink!r} has {len(target)}.",
            f"Select one value for each of its columns, in this order: {names}.",
            table=sink,
            place=place,
        )
    found = re.search(r"sink column '(?P<column>.*)' at position (?P<position>\d+)", match["cause"])
    if found is None:
        return context.problem(f"sink {sink!r}: {_plain(match['cause'])}", "", table=sink)
    index = int(found["position"]) - 1
    place = None
    if context.insert and len(items) == len(target):
        text = context.insert.edited.original
        place = text.place(*text.span(items[index].extent))
    wanted = target[index][1].removesuffix(" NOT NULL")
    return context.problem(
        f"column {found['column']!r} of sink {sink!r} is {target[index][1]}, the query's column {index + 1} "
        f"({query[index][0]}) is {query[index][1]}.",
        f"Convert it: CAST(... AS {wanted}).",
        table=sink,
        column=found["column"],
        place=place,
    )


_PRODUCERS = {
    "GroupAggregate": "an aggregate without a window",
    "Join": "a join of two streams without a time bound",
    "Rank": "a Top-N",
    "Deduplicate": "a deduplication that keeps the last row",
    "ChangelogNormalize": "a source of changes",
    "OverAggregate": "an OVER aggregate",
}


def _changes(match: re.Match[str], context: _Context) -> Problem:
    sink, node = match["sink"], match["node"]
    if node == "Join" and (side := _latest_side(context)):
        problem = context.problem(
            f"sink {sink!r} takes new rows only, and the stream that side table {side!r} is joined to has no event "
            "time: each new value of the side table then changes rows that were already produced.",
            f"Give the stream's source event time, so that each row finds the latest value once, or give {sink} a "
            "primary key, so that rows are written by key.",
            table=sink,
        )
        return replace(problem, lacks_key=True)
    what = _PRODUCERS.get(node, node)
    problem = context.problem(
        f"sink {sink!r} takes new rows only, and the query changes rows it has already produced ({what}).",
        f"Give {sink} a primary key, so that rows are written by key, or aggregate in a window "
        "(TUMBLE, HOP, CUMULATE), whose result is final.",
        table=sink,
    )
    return replace(problem, lacks_key=True)


def _keyless_database(match: re.Match[str], context: _Context) -> Problem:
    problem = context.problem(
        f"sink {context.sink!r} takes new rows only, and the query changes rows it has already produced.",
        f"Give {context.sink} a primary key, so that rows are written by key, or aggregate in a window "
        "(TUMBLE, HOP, CUMULATE), whose result is final.",
        table=context.sink,
    )
    return replace(problem, lacks_key=True)


def _latest_side(context: _Context) -> str:
    """A side table of latest values that the statement reads, or nothing."""
    for table in context.tables_of_query().values():
        if isinstance(table.connector, KafkaLookup) and not table.connector.versioned:
            return table.name
    return ""


def _two_kinds_of_time(match: re.Match[str], context: _Context) -> Problem:
    return context.problem(
        f"the stream's event time is {match['left']}, the side table's is {match['right']}: they cannot be compared.",
        "Give both the same type; for a side table of latest values, choose that of the stream in stream_time.",
    )


def _no_connector(match: re.Match[str], context: _Context) -> Problem:
    connector = match["connector"]
    messages = " ".join(message for _, message in context.refusal.causes)
    named = re.search(r"(?:writing|reading) table '(?:[^']*\.)?([^'.]*)'", messages)
    table = named[1] if named else ""
    return context.problem(
        f"table {table!r} needs the connector {connector!r}, and no jar with it is there; none is published for this "
        "version of Flink.",
        f"Put a jar with a connector {connector!r} into the lib folder of the cluster and of the planner "
        "(HLINK_HOME/lib) and restart both, or choose another type of table.",
        table=table,
    )


def _not_temporal(match: re.Match[str], context: _Context) -> Problem:
    return context.problem(
        "the side table cannot be joined here: the row has no processing time any more.",
        "Join the side table before anything that loses it (a regular join of two streams, an aggregate), "
        "or select from that in a subquery and join its result.",
    )


#: Words that tell a reader which clause is missing; the parser lists all functions besides.
_STRUCTURE = frozenset(
    ["(", ")", ",", "=", ".", "AS", "FROM", "JOIN", "ON", "USING", "WHERE", "GROUP", "HAVING", "ORDER", "SELECT"]
)


def _syntax(match: re.Match[str], context: _Context) -> Problem:
    token = match["token"].replace('\\"', '"').replace("\\'", "'")
    expected = _expected(match["rest"])
    if token == "<EOF>":
        return context.problem("the statement ends too early.", f"Expected next: {expected}.")
    if token in ("'", "`"):
        return context.problem(f"the text that begins here is never closed by another {token}.", "Close it.")
    if token == ";":
        return context.problem(
            "the statement goes on after its semicolon.", "Write one statement for each sink and remove the rest."
        )
    word = token.split()[0]
    quoting = f"If {word} is meant as a name, put it in backticks: `{word}`." if word.isidentifier() else ""
    remedy = " ".join(part for part in (f"Expected: {expected}." if expected else "", quoting) if part)
    return context.problem(f"the statement cannot be read at {token!r}.", remedy)


def _expected(rest: str) -> str:
    words = {a or b for a, b in re.findall(r"^\s+(?:\"([^\"]+)\"|(<[A-Z_]+>))", rest, re.MULTILINE)}
    if "CASE" in words:
        return "an expression"
    named = ["a name"] if "<IDENTIFIER>" in words else []
    return ", ".join(named + sorted(words & _STRUCTURE))


def _wrong_arguments(match: re.Match[str], context: _Context) -> Problem:
    called = next((found[1] for _, one in context.refusal.causes if (found := _CALLED.search(one))), "")
    what = f"{called} cannot be called so: " if called else ""
    return context.problem(f"{what}{_plain(context.refusal.innermost)}", _taken(match["signatures"]))


_CALLED = re.compile(r"Invalid function call:\n(.*)", re.DOTALL)


def _character(match: re.Match[str], context: _Context) -> Problem:
    return context.problem("this character cannot stand here.", "Remove it, or put its name in backticks.")


def _not_a_query(match: re.Match[str], context: _Context) -> Problem:
    return context.problem("this is not a statement.", "Begin with SELECT, WITH or INSERT INTO.")


_EXPLAINED: Sequence[tuple[re.Pattern[str], Callable[[re.Match[str], _Context], Problem]]] = (
    (re.compile(r"Column '(?P<column>.*)' not found in table '(?P<table>.*)'"), _unknown_column),
    (re.compile(r"Column '(?P<column>.*)' not found in any table"), _unknown_column),
    (re.compile(r"Table '(?P<name>.*)' not found"), _unknown_table),
    (re.compile(r"Object '(?P<name>[^']*)' not found"), _unknown_table),
    (
        re.compile(
            r"No match found for function signature (?P<name>\w+)\((?P<arguments>.*)\)"
            r"(?:\.\nSupported signatures are:\n(?P<signatures>(?:.|\n)*))?"
        ),
        _unknown_function,
    ),
    (
        re.compile(
            r"Cannot apply '(?P<operator>.*)' to arguments of type '(?P<call>[^']*)'(?P<supported>.*)", re.DOTALL
        ),
        _wrong_types,
    ),
    (
        re.compile(
            r"Column types of query result and sink for '(?:[^']*\.)?(?P<sink>[^'.]*)' do not match\.\n"
            r"Cause: (?P<cause>.*)\n\n"
            r"Query schema: \[(?P<query>.*)\]\nSink schema: +\[(?P<target>.*)\]",
            re.DOTALL,
        ),
        _mismatch,
    ),
    (
        re.compile(
            r"Table sink '(?:[^']*\.)?(?P<sink>[^'.]*)' doesn't support consuming (?:update|delete|update and delete) "
            r"changes which is produced by node (?P<node>\w+)"
        ),
        _changes,
    ),
    (re.compile(r"please declare primary key for sink table"), _keyless_database),
    (
        re.compile(r"same rowtime type .* are (?P<left>[A-Z_]+\(\d\)) \S+ and (?P<right>[A-Z_]+\(\d\))"),
        _two_kinds_of_time,
    ),
    (re.compile(r"Could not find any factory for identifier '(?P<connector>[^']*)'"), _no_connector),
    (re.compile(r"Temporal [Tt]able [Jj]oin currently only supports"), _not_temporal),
    (
        re.compile(r"Invalid input arguments\. Expected signatures are:\n(?P<signatures>.*)", re.DOTALL),
        _wrong_arguments,
    ),
    (re.compile(r"Encountered \"(?P<token>.*)\" at line \d+, column \d+\.\s*(?P<rest>.*)", re.DOTALL), _syntax),
    (re.compile(r"Lexical error at line"), _character),
    (re.compile(r"Non-query expression encountered in illegal context"), _not_a_query),
)
