"""What each operator of a compiled plan holds in its state, told from the plan alone.

A plan names columns by their positions, which change with every edit. Here each column is followed back to where it
comes from, and each stream of rows to the filters and joins that it went through, so that two operators of two plans
can be compared. Everything that is compared is a digest. What is not known of an operator goes into its digest as the
plan has it, with all columns of its inputs: then equal means equal, and different may be a mistake on the safe side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream_jobs.plans.graph import Operator, PlanGraph, options_of, row_fields, table_name, table_of

STATELESS = frozenset(
    {
        "calc", "python-calc", "exchange", "union", "watermark-assigner", "mini-batch-assigner",
        "local-group-aggregate", "local-window-aggregate", "lookup-join", "correlate", "python-correlate", "expand",
        "drop-update-before", "values",
    }
)  # fmt: skip
"""Kinds of operators that hold nothing. All others are taken to hold something."""

_COSMETIC = frozenset({"id", "type", "description", "inputProperties", "outputType", "state", "generateUpdateBefore"})
"""What says nothing of an operator's state. The time to live is for new entries; Flink takes the old ones over."""
_NEUTRAL_OPTIONS = (
    "scan.startup.", "scan.bounded.", "scan.watermark.", "scan.topic-partition-discovery", "scan.parallelism",
    "properties.", "sink.buffer-flush.", "sink.max-retries", "sink.partitioner", "sink.parallelism", "lookup.cache",
    "lookup.partial-cache.", "lookup.max-retries", "cache", "username", "password",
    "gid.connector.http.source.lookup.", "sink.transactional-id-prefix", "sink.delivery-guarantee",
)  # fmt: skip
"""Options, by their beginning, that change neither which rows a table has nor what is in them."""
_NEUTRAL_ENDINGS = ("ignore-parse-errors", "fail-on-missing-field", "on-error")
_PLACE_OPTIONS = (
    "connector", "topic", "topic-pattern", "properties.bootstrap.servers", "url", "table-name", "host", "port", "dbNum",
    "path", "zookeeper.quorum",
)  # fmt: skip
"""Options that say where a table's rows are."""
_BROKERS = "properties.bootstrap.servers"


@dataclass(frozen=True)
class Stream:
    """The rows that flow out of an operator: what each column is, and which rows there are."""

    columns: tuple[str, ...]
    base: str
    filters: frozenset[str] = frozenset()

    @property
    def rows(self) -> str:
        """Which rows there are."""
        return digest("rows", self.base, sorted(self.filters))


@dataclass(frozen=True)
class Holding:
    """What an operator is, as digests.

    ``held`` is what its state consists of, part by part: an operator with other parts cannot take it over. ``rule`` is
    how it goes on with it. ``rows`` are the rows that come in.
    """

    held: Mapping[str, str]
    rule: str
    rows: tuple[str, ...]

    @property
    def identity(self) -> str:
        return digest("held", dict(self.held))

    @property
    def whole(self) -> str:
        """All of it."""
        return digest(self.identity, self.rule, self.rows)


@dataclass(frozen=True)
class Names:
    """What a plan's tables and columns are to be called, so that those of two plans can be compared.

    ``tables`` by role and alias, ``columns`` by table and column, ``brokers`` by list of brokers; ``functions`` are the
    versions of users' functions by their names in lower case. What is not in them is called what it is called.
    """

    tables: Mapping[tuple[str, str], str] = field(default_factory=dict)
    columns: Mapping[tuple[str, str], str] = field(default_factory=dict)
    brokers: Mapping[str, str] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)
    #: Whether versions of functions, names of columns and the tables' places and formats count.
    strict: bool = True

    def table(self, role: str, alias: str) -> str:
        return self.tables.get((role, alias), alias)

    def place(self, options: Mapping[str, str]) -> dict[str, str]:
        """Where a table's rows are."""
        found = {name: value for name, value in options.items() if name in _PLACE_OPTIONS}
        if _BROKERS in found:
            found[_BROKERS] = self.brokers.get(found[_BROKERS], found[_BROKERS])
        return found


def digest(*parts: Any) -> str:
    """A short digest of any JSON value; sets have no order."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=sorted)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def holdings(plan: PlanGraph, names: Names | None = None) -> dict[int, Holding]:
    """What each operator of the plan holds, by its number."""
    return _Reader(plan, names or Names()).read()


def same_names(old: PlanGraph, new: PlanGraph) -> Names:
    """How the tables of the new plan are called in the old one: by their place, else by their alias.

    A column that has another name, in the same position and of the same type, is the old one renamed.
    """
    brokers = _same_brokers(old, new)
    plain = Names(brokers=brokers)
    tables: dict[tuple[str, str], str] = {}
    columns: dict[tuple[str, str], str] = {}
    before, after = _tables(old), _tables(new)
    for same in (_alias_and_place, _place, _alias):
        left = {same(plain, role, alias, spec): (role, alias) for (role, alias), spec in before.items()}
        for (role, alias), spec in list(after.items()):
            found = left.pop(same(plain, role, alias, spec), None)
            if found is None:
                continue
            tables[role, alias] = found[1]
            if role == "scan":
                columns |= {(found[1], name): was for name, was in _renamed(before[found], spec).items()}
            del before[found], after[role, alias]
    for role, alias in after:
        # A new table of an old one's alias is another.
        if (role, alias) in _tables(old):
            tables[role, alias] = f"{alias} (new)"
    return Names(tables, columns, brokers)


def _same_brokers(old: PlanGraph, new: PlanGraph) -> dict[str, str]:
    """Lists of brokers that have one in common are of one cluster."""
    lists = [
        {servers for one in plan.operators.values() if (servers := options_of(one.spec).get(_BROKERS))}
        for plan in (old, new)
    ]
    return {
        after: before
        for after in sorted(lists[1])
        for before in sorted(lists[0])
        if set(after.replace(" ", "").split(",")) & set(before.replace(" ", "").split(","))
    }


_ROLES = {"table-source-scan": "scan", "lookup-join": "lookup", "sink": "sink"}


def _tables(plan: PlanGraph) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {
        (_ROLES.get(one.kind, one.kind), table_name(one.spec)): one.spec
        for one in plan.operators.values()
        if table_of(one.spec) is not None
    }


def _alias_and_place(names: Names, role: str, alias: str, spec: Mapping[str, Any]) -> str:
    return digest(role, alias, names.place(options_of(spec)))


def _place(names: Names, role: str, alias: str, spec: Mapping[str, Any]) -> str:
    return digest(role, names.place(options_of(spec)))


def _alias(names: Names, role: str, alias: str, spec: Mapping[str, Any]) -> str:
    return digest(role, alias, options_of(spec).get("connector"))


def _renamed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    before, after = row_fields(old["outputType"]), row_fields(new["outputType"])
    known, kept = {name for name, _ in before}, {name for name, _ in after}
    return {
        name: was
        for (was, old_type), (name, new_type) in zip(before, after, strict=False)
        if name not in known and was not in kept and old_type == new_type
    }


class _Reader:
    """Goes through a plan from its sources to its sinks."""

    def __init__(self, plan: PlanGraph, names: Names) -> None:
        self._plan = plan
        self._names = names
        self._streams: dict[int, Stream] = {}
        self._kinds: Mapping[str, Callable[[Operator, Sequence[Stream]], tuple[dict[str, str], str, Stream]]] = {
            "table-source-scan": self._scan,
            "calc": self._calc,
            "python-calc": self._calc,
            "exchange": self._through,
            "drop-update-before": self._through,
            "watermark-assigner": self._through,
            "mini-batch-assigner": self._through,
            "union": self._union,
            "lookup-join": self._lookup,
            "local-group-aggregate": self._aggregate,
            "group-aggregate": self._aggregate,
            "global-group-aggregate": self._aggregate,
            "local-window-aggregate": self._aggregate,
            "window-aggregate": self._aggregate,
            "global-window-aggregate": self._aggregate,
            "join": self._join,
            "interval-join": self._interval_join,
            "rank": self._rank,
            "sink": self._sink,
        }

    def read(self) -> dict[int, Holding]:
        found: dict[int, Holding] = {}
        for operator in self._plan.operators.values():
            inputs = [self._streams[number] for number in operator.inputs]
            held, rule, stream = self._kinds.get(operator.kind, self._other)(operator, inputs)
            found[operator.number] = Holding(
                {"kind": digest(operator.spec.get("type", "")), **held}, rule, tuple(one.rows for one in inputs)
            )
            self._streams[operator.number] = stream
        return found

    def _resolved(self, value: Any, columns: Sequence[str]) -> Any:
        """An expression with its columns followed back, and the versions of the functions that it calls."""
        if isinstance(value, Mapping):
            if value.get("kind") == "INPUT_REF":
                return {"column": columns[value["inputIndex"]]}
            found = {key: self._resolved(item, columns) for key, item in value.items()}
            if self._names.strict and (name := value.get("systemName") or value.get("catalogName")):
                found["version"] = self._version(name)
            return found
        if isinstance(value, list):
            return [self._resolved(item, columns) for item in value]
        return value

    def _version(self, name: str) -> str:
        return self._names.functions.get(str(name).lower(), "")

    def _plain(self, operator: Operator, *without: str) -> dict[str, Any]:
        """What the plan says of an operator beside what was looked at, its functions with their versions."""
        plain = {key: value for key, value in operator.spec.items() if key not in _COSMETIC and key not in without}
        return {"spec": plain, "functions": self._functions(plain)}

    def _functions(self, value: Any) -> list[str]:
        """The versions of the functions named anywhere in this: state of theirs is only theirs."""
        if isinstance(value, Mapping):
            own = [self._version(value["systemName"])] if "systemName" in value else []
            return own + [one for item in value.values() for one in self._functions(item)]
        if isinstance(value, list):
            return [one for item in value for one in self._functions(item)]
        return []

    def _made(self, operator: Operator, held: Mapping[str, str], rule: str, inputs: Sequence[Stream]) -> Stream:
        """The rows of an operator that makes its own. What a column is does not depend on which rows there are."""
        base = digest(operator.kind, dict(held), rule, [one.rows for one in inputs])
        fields = row_fields(operator.spec.get("outputType", ""))
        return Stream(tuple(digest(operator.kind, dict(held), index) for index in range(len(fields))), base)

    def _scan(self, operator: Operator, inputs: Sequence[Stream]) -> tuple[dict[str, str], str, Stream]:
        options, schema = options_of(operator.spec), (table_of(operator.spec) or {}).get("resolvedTable") or {}
        table = self._names.table("scan", table_name(operator.spec))
        place = self._names.place(options)
        described = {column["name"]: column for column in (schema.get("schema") or {}).get("columns", ())}
        columns = []
        for name, of in row_fields(operator.spec["outputType"]):
            column = {key: value for key, value in described.get(name, {}).items() if key in ("kind", "metadataKey")}
            was = name if self._names.strict else self._names.columns.get((table, name), name)
            columns.append(digest("column", table, was, of, column))
        abilities = [
            one
            for one in operator.spec["scanTableSource"].get("abilities") or ()
            if one.get("type") not in ("WatermarkPushDown", "SourceWatermark", "ProjectPushDown")
        ]
        rows = [place, _telling(options)] if self._names.strict else []
        return (
            {"place": digest(place)},
            digest(abilities),
            Stream(tuple(columns), digest("scan", table, rows, abilities)),
        )

    def _calc(self, operator: Operator, inputs: Sequence[Stream]) -> tuple[dict[str, str], str, Stream]:
        (rows,) = inputs
        condition = operator.spec.get("condition")
        filters = {digest("filter", self._resolved(one, rows.columns)) for one in _conjuncts(condition)}
        columns = tuple(
            self._resolved(one, rows.columns)["column"]
            if one.get("kind") == "INPUT_REF"
            else digest("expression", self._resolved(one, rows.columns))
            for one in operator.spec["projection"]
        )
        made = Stream(columns, rows.base, rows.filters | filters)
        return {"columns": digest(columns)}, digest(sorted(filters)), made

    def _through(self, operator: Operator, inputs: Sequence[Stream]) -> tuple[dict[str, str], str, Stream]:
        (rows,) = inputs
        return {"columns": digest(rows.columns)}, digest(self._plain(operator)), rows

    def _union(self, operator: Operator, inputs: Sequence[Stream]) -> tuple[dict[str, str], str, Stream]:
        base = digest("union", sorted([one.rows, one.columns] for one in inputs))
        # A union that has one table more goes on with what was kept of the first.
        first = self._plan.operators[operator.inputs[0]]
        types = zip(row_fields(operator.spec["outputType"]), row_fields(first.spec["outputType"]), strict=True)
        columns = tuple(
            column if type_ == first_type else digest("union", column, type_)
            for column, ((_, type_), (_, first_type)) in zip(inputs[0].columns, types, strict=True)
        )
        return {"columns": digest(columns)}, "", Stream(columns, base)

    def _lookup(self, operator: Operator, inputs: Sequence[Stream]) -> tuple[dict[str, str], str, Stream]:
        (rows,) = inputs
        options = options_of(operator.spec)
        table = self._names.table("lookup", table_name(operator.spec))
        keys = {
            name: rows.columns[key["index"]] if "index" in key else key
            for name, key in (operator.spec.get("lookupKeys") or {}).items()
        }
        if "state" in operator.spec:
            return self._other(operator, inputs)
        plain = self._plain(operator, "temporalTable", "lookupKeys", "configuration", "asyncLookupOptions")
        # What a row finds is in the table, by the columns' positions in it.
        temporal = operator.spec["temporalTable"]
        told = {"table": table, "keys": keys, "rule": plain, "row": row_fields(temporal.get("outputType"))}
        if self._names.strict:
            told["place"] = [self._names.place(options), _telling(options)]
        base = digest("lookup", rows.rows, rows.columns if "INPUT_REF" in json.dumps(plain) else (), told)
        more = len(row_fields(operator.spec["outputType"])) - len(rows.columns)
        found = digest("found", table, keys, told["row"])
        columns = (*rows.columns, *(digest(found, index) for index in range(more)))
        return {"columns": digest(columns)}, digest(told), Stream(columns, base)

    def _aggregate(self, operator: Operator, inputs: Sequence[Stream]) -> tuple[dict[str, str], str, Stream]:
        (rows,) = inputs
        seen = rows
        if operator.kind.startswith("global-"):
            local = self._local(operator)
            if local is None:
                return self._other(operator, inputs)
            seen = self._streams[local.inputs[0]]
            windowing = local.spec.get("windowing")
        else:
            windowing = operator.spec.get("windowing")
        keys = [rows.columns[index] for index in operator.spec["grouping"]]
        calls = [self._call(call, seen.columns) for call in operator.spec["aggCalls"]]
        looked_at = (
            "grouping", "aggCalls", "windowing", "namedWindowProperties", "localAggInputRowType", "configuration",
        )  # fmt: skip
        held = {
            "key": digest(keys),
            "aggregates": digest(calls, self._plain(operator, *looked_at)),
            # A session's rows are found by where it begins and ends, as those of other windows are.
            "window": digest(_windowing(windowing, seen.columns)),
        }
        rule = digest(operator.spec.get("namedWindowProperties"))
        made = self._made(operator, held, rule, [Stream((), rows.base, rows.filters)])
        if operator.kind.startswith("local-"):
            made = Stream((*keys, *made.columns[len(keys) :]), rows.base, rows.filters)
        return held, rule, made

    def _local(self, operator: Operator) -> Operator | None:
        """The first phase of an aggregate in two phases."""
        (number,) = operator.inputs
        found = self._plan.operators[number]
        while found.kind == "exchange":
            found = self._plan.operators[found.inputs[0]]
        return found if found.kind.startswith("local-") else None

    def _call(self, call: Mapping[str, Any], columns: Sequence[str]) -> Mapping[str, Any]:
        told = {key: value for key, value in call.items() if key not in ("name", "argList", "filterArg")}
        told["of"] = [columns[index] for index in call["argList"]]
        told["where"] = columns[call["filterArg"]] if call.get("filterArg", -1) >= 0 else None
        if name := call.get("systemName"):
            # Another version may keep its sums in another way: never compared without it.
            told["version"] = self._version(name)
        return told

    def _join(self, operator: Operator, inputs: Sequence[Stream]) -> tuple[dict[str, str], str, Stream]:
        left, right = inputs
        join = operator.spec["joinSpec"]
        keys = [
            [left.columns[index] for index in join["leftKeys"]],
            [right.columns[index] for index in join["rightKeys"]],
        ]
        held = {
            "key": digest(keys),
            "join": digest(join["joinType"], join["filterNulls"], self._plain(operator, "joinSpec", "configuration")),
            "columns": digest(left.columns, right.columns),
        }
        rule = digest(self._resolved(join.get("nonEquiCondition"), _both(left, right)))
        return held, rule, self._made(operator, held, rule, inputs)

    def _interval_join(self, operator: Operator, inputs: Sequence[Stream]) -> tuple[dict[str, str], str, Stream]:
        left, right = inputs
        interval = operator.spec["intervalJoinSpec"]
        join, bounds = interval["joinSpec"], interval["windowBounds"]
        held = {
            "key": digest(
                [left.columns[index] for index in join["leftKeys"]],
                [right.columns[index] for index in join["rightKeys"]],
            ),
            "join": digest(join["joinType"], bounds["isEventTime"], self._plain(operator, "intervalJoinSpec")),
            "columns": digest(left.columns, right.columns),
        }
        rule = digest(bounds, self._resolved(join.get("nonEquiCondition"), _both(left, right)))
        return held, rule, self._made(operator, held, rule, inputs)

    def _rank(self, operator: Operator, inputs: Sequence[Stream]) -> tuple[dict[str, str], str, Stream]:
        (rows,) = inputs
        held = {
            "key": digest([rows.columns[index] for index in operator.spec["partition"]["fields"]]),
            "order": digest(operator.spec["orderBy"]),
            "rank": digest(
                self._plain(operator, "partition", "orderBy", "rankRange", "configuration", "outputRowNumber")
            ),
            "columns": digest(rows.columns),
        }
        rule = digest(operator.spec["rankRange"])
        # Flink's own key for the range of ranks may be a column.
        if operator.spec["rankRange"].get("type") != "Constant":
            held["rank"] = digest(held["rank"], rule)
        made = self._made(operator, held, digest(rule, operator.spec.get("outputRowNumber")), inputs)
        return held, rule, made

    def _sink(self, operator: Operator, inputs: Sequence[Stream]) -> tuple[dict[str, str], str, Stream]:
        (rows,) = inputs
        options = options_of(operator.spec)
        schema = ((table_of(operator.spec) or {}).get("resolvedTable") or {}).get("schema") or {}
        held = {"table": digest(self._names.table("sink", table_name(operator.spec)))}
        if exactly_once(operator):
            prefix = options.get("sink.transactional-id-prefix") if self._names.strict else None
            held["transactions"] = digest(self._names.place(options), prefix)
        if materializes(operator):
            held["columns"] = digest(rows.columns, (schema.get("primaryKey") or {}).get("columns"))
            held["upsert key"] = digest(operator.spec.get("inputUpsertKey"))
        rule = digest(self._names.place(options)) if self._names.strict else ""
        return held, rule, Stream(rows.columns, digest("sink", rows.rows))

    def _other(self, operator: Operator, inputs: Sequence[Stream]) -> tuple[dict[str, str], str, Stream]:
        held = {
            "definition": digest(self._plain(operator, "configuration")),
            "columns": digest([one.columns for one in inputs]),
        }
        return held, "", self._made(operator, held, "", inputs)


def exactly_once(sink: Operator) -> bool:
    """Whether a sink holds transactions that are still to be committed."""
    return options_of(sink.spec).get("sink.delivery-guarantee") == "exactly-once"


def materializes(sink: Operator) -> bool:
    """Whether a sink holds the newest rows by their key."""
    return bool(sink.spec.get("requireUpsertMaterialize"))


def stateful(operator: Operator) -> bool:
    """Whether an operator may hold something that would be missed."""
    if operator.kind == "sink":
        return exactly_once(operator) or materializes(operator)
    return operator.kind not in STATELESS or "state" in operator.spec


def _telling(options: Mapping[str, str]) -> dict[str, str]:
    """The options that decide what rows a table has and what is in them."""
    return {
        name: value
        for name, value in options.items()
        if name not in _PLACE_OPTIONS and not name.startswith(_NEUTRAL_OPTIONS) and not name.endswith(_NEUTRAL_ENDINGS)
    }


def _both(left: Stream, right: Stream) -> tuple[str, ...]:
    """The columns of two sides that may be of one table."""
    return (*(digest("left", one) for one in left.columns), *(digest("right", one) for one in right.columns))


def _conjuncts(condition: Any) -> list[Any]:
    if condition is None:
        return []
    if condition.get("internalName") == "$AND$1":
        return [one for operand in condition["operands"] for one in _conjuncts(operand)]
    return [condition]


def _windowing(windowing: Mapping[str, Any] | None, columns: Sequence[str]) -> Any:
    if windowing is None:
        return None
    told: dict[str, Any] = {}
    for name, value in windowing.items():
        if name == "window":
            told[name] = {key: item for key, item in value.items() if key != "partition_key_indices"}
            told["partition"] = [columns[index] for index in value.get("partition_key_indices") or ()]
        elif isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            told[name] = columns[value]
        else:
            told[name] = value
    return told
