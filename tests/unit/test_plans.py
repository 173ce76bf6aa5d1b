"""Compiled plans compared: which operator is which, what becomes of its state. Plans as Flink's, made small."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from stream_jobs.plans.graph import UnreadablePlan, read, row_fields
from stream_jobs.plans.numbering import Planned, first_numbers, renumbered
from stream_jobs.plans.verdict import (
    Judgement,
    SavedOperator,
    Setting,
    Verdict,
    default_max_parallelism,
    judge,
    saved_operators,
)

COLUMNS = ("k", "v", "w")


class Drawn:
    """A plan that is drawn operator by operator; each gives its number."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.edges: list[dict[str, Any]] = []

    def _add(self, kind: str, inputs: Sequence[int], **spec: Any) -> int:
        number = len(self.nodes) + 1
        self.nodes.append({"id": number, "type": f"stream-exec-{kind}_1", **spec})
        self.edges += [{"source": one, "target": number, "shuffle": {"type": "FORWARD"}} for one in inputs]
        return number

    def source(
        self, alias: str = "e", topic: str = "t", columns: Sequence[str] = COLUMNS, brokers: str = "a:1,b:1"
    ) -> int:
        options = {"connector": "kafka", "topic": topic, "properties.bootstrap.servers": brokers, "format": "json"}
        row = ", ".join(f"`{name}` BIGINT" for name in columns)
        table = {"identifier": f"`c`.`d`.`{alias}`", "resolvedTable": {"schema": {"columns": []}, "options": options}}
        return self._add("table-source-scan", [], scanTableSource={"table": table}, outputType=f"ROW<{row}>")

    def calc(self, rows: int, *columns: int, least: int | float | None = None) -> int:
        condition = {
            "kind": "CALL",
            "internalName": "$>$1",
            "operands": [column(0), {"kind": "LITERAL", "value": least, "type": "BIGINT"}],
        }
        return self._add(
            "calc",
            [rows],
            projection=[column(index) for index in columns],
            condition=None if least is None else condition,
            outputType=f"ROW<{', '.join(f'`c{n}` BIGINT' for n in range(len(columns)))}>",
            description=f"Calc(where=[{least}])",
        )

    def aggregate(
        self, rows: int, call: str = "$COUNT$1", *, key: int = 0, of: Sequence[int] = (), **call_: Any
    ) -> int:
        return self._add(
            "group-aggregate",
            [rows],
            grouping=[key],
            aggCalls=[
                {
                    "name": "EXPR$1",
                    "internalName": call,
                    "argList": list(of),
                    "filterArg": -1,
                    "type": "BIGINT",
                    **call_,
                }
            ],
            needRetraction=False,
            outputType="ROW<`k` BIGINT, `EXPR$1` BIGINT>",
            description=f"GroupAggregate(groupBy=[k], select=[k, {call}])",
        )

    def join(self, left: int, right: int, smaller: int, larger: int) -> int:
        condition = {"kind": "CALL", "internalName": "$<$1", "operands": [column(smaller), column(larger)]}
        join = {"joinType": "INNER", "leftKeys": [0], "rightKeys": [0], "filterNulls": [True]}
        row = ", ".join(f"`c{n}` BIGINT" for n in range(6))
        return self._add(
            "join", [left, right], joinSpec={**join, "nonEquiCondition": condition}, outputType=f"ROW<{row}>"
        )

    def sink(self, rows: int, alias: str = "o") -> int:
        options = {"connector": "upsert-kafka", "topic": alias, "properties.bootstrap.servers": "a:1"}
        table = {"identifier": f"`c`.`d`.`{alias}`", "resolvedTable": {"options": options}}
        return self._add("sink", [rows], dynamicTableSink={"table": table}, outputType="ROW<`k` BIGINT>")

    def text(self) -> str:
        return json.dumps({"flinkVersion": "2.3", "nodes": self.nodes, "edges": self.edges}, indent=1)


def column(index: int) -> dict[str, Any]:
    return {"kind": "INPUT_REF", "inputIndex": index, "type": "BIGINT"}


def counting(*, least: int | None = None, call: str = "$COUNT$1", of: Sequence[int] = (), **source: Any) -> str:
    plan = Drawn()
    plan.sink(plan.aggregate(plan.calc(plan.source(**source), 0, 1, least=least), call, of=of))
    return plan.text()


def numbers(compiled: str) -> list[tuple[int, str]]:
    return [(one.number, one.kind) for one in read(compiled).operators.values()]


def judged(before: str, after: str, saved: Sequence[SavedOperator] | None = None, **options: str) -> Judgement:
    taken = renumbered(Planned(after), [Planned(before)], 0)
    return judge(Setting(Planned(before), {}), Setting(Planned(taken.compiled), options), saved)


def said(judgement: Judgement) -> dict[str, Verdict]:
    """The verdicts on operators that have state; those that are new are called as those in whose place they are."""
    return {one.operator: one.verdict for one in judgement.operators if one.verdict is not Verdict.NEW}


COUNT = "aggregate by k of the statement for o"


def test_given_an_operator_between_two_when_a_plan_is_numbered_then_only_that_one_is_new() -> None:
    plan = Drawn()
    rows = plan.aggregate(plan.calc(plan.source(), 0, 1))
    plan.sink(plan.calc(rows, 0, 1, least=3))
    taken = renumbered(Planned(plan.text()), [Planned(counting())], 4)

    assert numbers(taken.compiled) == [
        (1, "table-source-scan"),
        (2, "calc"),
        (3, "group-aggregate"),
        (5, "calc"),
        (4, "sink"),
    ]
    assert taken.highest == 5


def test_given_an_operator_that_was_removed_when_it_comes_again_then_its_number_is_another() -> None:
    first = first_numbers(counting())
    second = renumbered(Planned(counting(call="$SUM$1", of=[1])), [Planned(first.compiled)], first.highest)
    third = renumbered(Planned(counting()), [Planned(second.compiled)], second.highest)

    assert [number for number, kind in numbers(second.compiled) if kind == "group-aggregate"] == [5]
    assert [number for number, kind in numbers(third.compiled) if kind == "group-aggregate"] == [6]
    assert third.highest == 6


def test_given_a_change_that_is_taken_back_when_a_version_of_before_runs_then_its_numbers_are_taken_again() -> None:
    first = first_numbers(counting())
    second = renumbered(Planned(counting(call="$SUM$1", of=[1])), [Planned(first.compiled)], first.highest)
    ran, newest = Planned(first.compiled), Planned(second.compiled)
    third = renumbered(Planned(counting()), [ran, newest], second.highest)

    assert (third.compiled, third.highest) == (first.compiled, second.highest)


def test_given_equal_aggregates_when_one_is_changed_then_each_sink_keeps_its_own() -> None:
    def both(first: int, second: int) -> str:
        plan = Drawn()
        rows = plan.source()
        plan.sink(plan.aggregate(plan.calc(rows, 0, 1, least=first)), "o")
        plan.sink(plan.aggregate(plan.calc(rows, 0, 1, least=second)), "p")
        return plan.text()

    def aggregates(compiled: str) -> dict[str, int]:
        plan = read(compiled)
        return {
            "".join(plan.sinks[one.number]): one.number
            for one in plan.operators.values()
            if one.kind == "group-aggregate"
        }

    before = both(1, 2)
    assert aggregates(renumbered(Planned(both(1, 3)), [Planned(before)], 0).compiled) == aggregates(before)
    exchanged = aggregates(renumbered(Planned(both(2, 1)), [Planned(before)], 0).compiled)
    assert exchanged == {"o": aggregates(before)["p"], "p": aggregates(before)["o"]}, (
        "each keeps the rows that it knows"
    )


def test_given_a_decimal_with_many_digits_when_a_plan_is_numbered_then_it_stays_as_it_is() -> None:
    digits = "0.12345678901234567890123"
    text = counting(least=7).replace('"value": 7', f'"value": {digits}')
    assert digits in renumbered(Planned(text), [Planned(counting())], 0).compiled


def test_given_a_text_that_looks_like_an_operator_when_a_plan_is_numbered_then_it_stays_as_it_is() -> None:
    literal = json.dumps('{"id": 3, "type": "stream-exec-calc_1"}')
    text = counting(least=7).replace('"value": 7', f'"value": {literal}')
    assert literal in renumbered(Planned(text), [Planned(counting())], 0).compiled


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (counting(), Verdict.KEPT),
        (counting(columns=("new", *COLUMNS[1:], "k")), Verdict.INCOMPATIBLE),
        (counting(alias="renamed"), Verdict.KEPT),
        (counting(brokers="b:1,c:1"), Verdict.KEPT),
        (counting(least=3), Verdict.OTHER_MEANING),
        (counting(topic="another"), Verdict.OTHER_MEANING),
        (counting(columns=("renamed", *COLUMNS[1:])), Verdict.OTHER_MEANING),
        (counting(call="$SUM$1", of=[1]), Verdict.INCOMPATIBLE),
        (counting(of=[1]), Verdict.INCOMPATIBLE),
    ],
    ids=["same", "another column", "alias", "brokers", "filter", "topic", "column renamed", "SUM", "COUNT of a column"],
)
def test_given_an_edit_then_the_aggregate_is_judged_by_what_it_holds(after: str, verdict: Verdict) -> None:
    found = judged(counting(), after)
    assert (said(found)[COUNT], found.restores) == (verdict, verdict is Verdict.KEPT)


def test_given_another_topic_then_the_source_begins_anew_and_says_so() -> None:
    (source, *_) = judged(counting(), counting(topic="another")).operators
    assert str(source) == (
        "source e: incompatible: it holds the offsets of topic t at a:1,b:1, and the table is topic another at a:1,b:1 "
        "now, which is read from where its startup mode says"
    )


def test_given_a_join_of_a_table_with_itself_when_the_sides_are_exchanged_then_it_means_something_else() -> None:
    def joined(smaller: int, larger: int) -> str:
        plan = Drawn()
        rows = plan.source()
        plan.sink(plan.join(rows, rows, smaller, larger))
        return plan.text()

    assert judged(joined(1, 4), joined(1, 4)).restores
    assert Verdict.OTHER_MEANING in said(judged(joined(1, 4), joined(4, 1))).values()


def test_given_another_version_of_an_aggregate_function_then_its_state_is_not_taken_over() -> None:
    plan = Drawn()
    plan.sink(plan.aggregate(plan.source(), "", systemName="Own"))
    before, after = Planned(plan.text(), {"OWN": "1"}), {"own": "2"}
    taken = renumbered(Planned(plan.text(), after), [before], 0)
    found = judge(Setting(before, {}), Setting(Planned(taken.compiled, after), {}))
    assert Verdict.INCOMPATIBLE in {one.verdict for one in found.operators}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"pipeline.max-parallelism": "64"},
            "State by key was divided into 128 groups (pipeline.max-parallelism), and 64 are asked for: Flink cannot "
            "divide it anew.",
        ),
        (
            {"parallelism.default": "200"},
            "State by key was divided into 128 groups (pipeline.max-parallelism), and the parallelism is 200: there "
            "would be tasks without any.",
        ),
        (
            {"state.backend.type": "rocksdb"},
            "The state is in the native format of the state backend of the cluster, and rocksdb is asked for: only a "
            "savepoint in canonical format can change it.",
        ),
    ],
)
def test_given_what_flink_refuses_whatever_it_is_told_then_that_is_the_obstacle(
    options: Mapping[str, str], reason: str
) -> None:
    saved = [SavedOperator(3, "aggregate", 100, keyed=True, max_parallelism=128, native=True)]
    found = judged(counting(), counting(), saved, **options)
    assert (found.obstacle, found.restores) == (reason, False)


def test_given_a_savepoint_of_unknown_origin_then_what_has_no_place_is_lost_and_the_rest_is_unknown() -> None:
    found = judge(
        None,
        Setting(Planned(counting()), {}),
        saved_operators(
            [
                {
                    "uid": "3_group-aggregate",
                    "name": "GroupAggregate",
                    "size": 5,
                    "keyed": True,
                    "max_parallelism": 128,
                },
                {"uid": "9_join", "name": "Join", "size": 5, "keyed": True, "max_parallelism": 128},
                {"uid": "8_calc", "name": "Calc", "size": 0, "holds": False},
            ]
        ),
    )
    assert said(found) == {COUNT: Verdict.UNKNOWN, "Join": Verdict.LOST}
    assert (found.restores, found.unclaimed) == (False, True)


def test_given_a_sink_without_transactions_when_it_is_removed_then_nothing_is_lost() -> None:
    plan = Drawn()
    rows = plan.aggregate(plan.source())
    plan.sink(rows, "o")
    plan.sink(rows, "p")
    alone = Drawn()
    alone.sink(alone.aggregate(alone.source()), "o")
    found = judged(plan.text(), alone.text())
    assert (found.restores, found.unclaimed) == (True, True)


@pytest.mark.parametrize(
    ("uid", "number"),
    [("4_group-aggregate", 4), ("Sink Committer: 5_sink", 5), ("own", None), ("", None)],
)
def test_the_number_of_a_saved_operator_is_in_its_uid(uid: str, number: int | None) -> None:
    (found,) = saved_operators([{"uid": uid, "name": "x", "size": 1}])
    assert found.number == number


@pytest.mark.parametrize(("parallelism", "groups"), [(1, 128), (85, 128), (86, 256), (30_000, 32_768)])
def test_the_number_of_key_groups_is_flinks_own(parallelism: int, groups: int) -> None:
    assert default_max_parallelism(parallelism) == groups


def test_row_types_are_read_with_their_nested_types() -> None:
    assert row_fields("ROW<`a` ROW<`x, y` INT, `z` DECIMAL(10, 2)>, `b` ARRAY<STRING> NOT NULL> NOT NULL") == [
        ("a", "ROW<`x, y` INT, `z` DECIMAL(10, 2)>"),
        ("b", "ARRAY<STRING> NOT NULL"),
    ]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"nodes": [{}], "edges": []}'])
def test_given_a_text_that_is_no_plan_then_it_is_refused(text: str) -> None:
    with pytest.raises(UnreadablePlan, match="this is not a compiled plan of Flink"):
        read(text)
