"""Flink's own planner, asked as the service asks it: what it makes of statements, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.hlink.planner import warm_up
from stream_jobs.definitions import Column, Execution, Job, Role, Statement, Table
from stream_jobs.planner.client import Planner, PlannerDied, PlannerTimeout
from stream_jobs.planner.plan import explain, fill_in, plan, secrets_of_tables
from stream_jobs.problems import InvalidJob, Problem
from tests import definitions
from tests.definitions import PASSWORD, job
from tests.golden import assert_golden
from tests.planners import planner_config, planner_process, planner_processes, with_own_connectors

pytestmark = pytest.mark.asyncio(loop_scope="module")

WINDOWED = """\
WITH named AS (
  SELECT f.*, a.name
  FROM flights f
  LEFT JOIN airlines a ON f.carrier = a.carrier
)
SELECT carrier, name, AVG(delay)
FROM TUMBLE(TABLE named, DESCRIPTOR(departure), INTERVAL '1' HOUR)
GROUP BY carrier, name, window_start, window_end"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def planner(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Planner]:
    async with Planner(planner_config(tmp_path_factory.mktemp("planner"))) as started:
        yield started


async def test_the_jobs_of_the_warm_up_are_accepted(planner: Planner, caplog: pytest.LogCaptureFixture) -> None:
    await warm_up(planner)

    assert caplog.records == []


async def problems(planner: Planner, planned: Job) -> list[Problem]:
    with pytest.raises(InvalidJob) as refused:
        await plan(planner, planned, "7", with_plan=False)
    return list(refused.value.problems)


ACCEPTED = {
    "filter": job(delays="SELECT carrier, carrier, delay FROM flights WHERE delay > 0"),
    "insert_into": job(delays="INSERT INTO delays (carrier, mean) SELECT carrier, delay FROM flights;"),
    "join_then_window": job(delays=WINDOWED),
    "join_without_alias": job(
        delays="SELECT flights.carrier, airlines.name, delay\n"
        "FROM flights JOIN airlines ON flights.carrier = airlines.carrier"
    ),
    "two_side_tables": job(
        delays="SELECT f.carrier, a.name, p.built + 0E0 FROM flights AS f\n"
        "JOIN airlines AS a ON a.carrier = f.carrier LEFT JOIN planes p ON p.tail = f.plane.tail AND p.built > 1990"
    ),
    "union_in_parentheses": job(
        delays="SELECT x.carrier, name, 1E0 FROM ((SELECT carrier FROM flights) UNION ALL (SELECT 'AA' FROM flights)) x"
        " /* ) */ JOIN airlines USING (carrier)"
    ),
    "star": job(
        delays="SELECT carrier, name, delay FROM (\n"
        "  SELECT f.*, name FROM flights f JOIN airlines a ON f.carrier = a.carrier\n"
        ") AS enriched"
    ),
    "unnest": job(
        delays="SELECT origin, a.name, delay FROM flights CROSS JOIN UNNEST(legs) AS l (origin, miles) "
        "JOIN airlines a ON a.carrier = l.origin"
    ),
    "renamed_columns": job(
        delays="SELECT x.a, n.name, x.b FROM flights x(a, b, c, d, e, f, g) JOIN airlines n ON n.carrier = x.a"
    ),
    "written_out": job(
        delays="SELECT f.carrier, a.name, delay FROM (SELECT *, PROCTIME() AS proctime FROM flights) f "
        "JOIN airlines FOR SYSTEM_TIME AS OF f.proctime a ON f.carrier = a.carrier"
    ),
    "name_hidden_by_with": job(
        delays="WITH airlines AS (SELECT carrier, 'x' AS name, delay FROM flights) SELECT * FROM airlines"
    ),
    "aggregate_then_join": job(
        delays="SELECT w.carrier, a.name, w.mean FROM (\n"
        "  SELECT carrier, AVG(delay) AS mean FROM TUMBLE(TABLE flights, DESCRIPTOR(departure), INTERVAL '1' HOUR)\n"
        "  GROUP BY carrier, window_start, window_end\n"
        ") w LEFT JOIN airlines a ON a.carrier = w.carrier"
    ),
    "processing_time_in_a_subquery": job(
        delays="SELECT x.carrier, a.name, x.delay FROM (SELECT f.*, PROCTIME() AS pt FROM flights f) x\n"
        "JOIN airlines FOR SYSTEM_TIME AS OF x.pt a ON a.carrier = x.carrier"
    ),
    "processing_time_in_the_join": job(
        delays="SELECT f.carrier, a.name, planes.built + 0E0 FROM flights f\n"
        "JOIN airlines FOR SYSTEM_TIME AS OF PROCTIME() a ON a.carrier = f.carrier\n"
        "JOIN planes FOR SYSTEM_TIME AS OF PROCTIME() ON planes.tail = f.plane.tail"
    ),
    "side_at_an_address": job(
        delays="SELECT f.carrier, p.city.name, delay FROM flights f\n"
        "LEFT JOIN airports p ON p.code = f.carrier AND p.country = 'DE' WHERE p.city.people > 9"
    ),
    "side_topic_of_versions": job(
        delays="SELECT f.carrier, 'x', fare FROM flights f JOIN fares ON f.carrier = fares.carrier"
    ),
    "side_topic_of_latest_values": job(
        delays="SELECT carrier, pilot, delay FROM (\n"
        "  SELECT f.carrier, p.*, delay FROM flights f LEFT JOIN pilots p ON f.carrier = p.carrier\n"
        ") AS x (carrier, again, pilot, delay)"
    ),
    "side_topic_behind_a_subquery": job(
        delays="WITH late AS (SELECT carrier, delay, departure AS since FROM flights WHERE delay > 0)\n"
        "SELECT l.carrier, a.name, l.delay + s.fare FROM late l JOIN fares s ON l.carrier = s.carrier\n"
        "JOIN airlines a ON a.carrier = l.carrier"
    ),
    "side_topic_behind_a_name_that_hides_a_table": job(
        delays="WITH flights AS (SELECT f.*, 1 AS n FROM flights f)\n"
        "SELECT f.carrier, 'x', fare FROM flights f JOIN fares ON f.carrier = fares.carrier"
    ),
    "side_topic_of_latest_values_without_event_time": Job(
        "plain",
        (definitions.ODD, definitions.PILOTS, definitions.LATEST),
        (
            Statement(
                "latest",
                "SELECT `order`, COUNT(pilot) FROM `select` s LEFT JOIN pilots "
                "ON s.`order` = pilots.carrier GROUP BY `order`",
            ),
        ),
    ),
    "two_sinks": job(
        delays=WINDOWED,
        totals="SELECT carrier, COUNT(*) FROM flights GROUP BY carrier",
    ),
    "upsert_topic": job(latest="SELECT carrier, COUNT(*) FROM flights GROUP BY carrier"),
    "keywords_as_names": Job(
        "odd",
        (definitions.ODD, Table("table", Role.SINK, definitions.DELAYS.connector, definitions.ODD.columns)),
        (Statement("table", "SELECT `order`, `a``b;'c\"` FROM `select`"),),
    ),
    "avro": job(delays="SELECT carrier, 'x', ms + 0E0 FROM avro_flights"),
}


@pytest.mark.parametrize("name", ACCEPTED)
async def test_flink_accepts_what_is_generated(planner: Planner, name: str) -> None:
    planned = await plan(planner, ACCEPTED[name], "7", with_plan=False)
    assert_golden(f"sql/statement_{name}.sql", "\n;\n".join(planned.inserts))


LOOKED_UP_ONLY = (
    "A side table can only be looked up, row by row: FROM stream JOIN airlines ON stream.key = airlines.key; "
    "a filter on it belongs into ON as well."
)
WINDOW_LOST = (
    "a window cannot be joined with a side table and then be grouped by: the window would be lost. "
    "Join first and open the window over the result: WITH joined AS (SELECT ... JOIN ...) "
    "SELECT ... FROM TUMBLE(TABLE joined, ...) GROUP BY ..., window_start, window_end."
)

REFUSED = {
    "unknown_column": (
        job(delays="SELECT carrier,\n  f.dely FROM flights f"),
        "line 2, column 5: column 'dely' does not exist in table 'flights'. Did you mean 'delay'?",
    ),
    "column_of_a_table_that_is_not_joined": (
        job(delays="SELECT carrier, name, delay FROM flights"),
        "line 1, column 17: column 'name' does not exist in the tables that are read. "
        "Table 'airlines' has it: join that.",
    ),
    "column_behind_a_rewritten_join": (
        job(delays="SELECT f.carrier, a.title, 1E0\nFROM flights f JOIN airlines a ON f.carrier = a.carrier"),
        "line 1, column 21: column 'title' does not exist in table 'airlines'. There is carrier, name.",
    ),
    "unknown_table": (
        job(delays="SELECT 1 FROM flight"),
        "line 1, column 15: table 'flight' is not one of this job's tables. Did you mean 'flights'?",
    ),
    "unknown_function": (
        job(delays="SELECT carrier, SHOUT(carrier), delay FROM flights"),
        "line 1, column 17: function SHOUT does not exist for arguments (CHARACTER). "
        "Check its name and the number and types of its arguments.",
    ),
    "wrong_type": (
        job(delays="SELECT carrier, delay, delay FROM flights"),
        "line 1, column 17: column 'name' of sink 'delays' is STRING, the query's column 2 (delay) is DOUBLE. "
        "Convert it: CAST(... AS STRING).",
    ),
    "wrong_argument": (
        job(delays="SELECT carrier, carrier, SUM(carrier) FROM flights"),
        "line 1, column 26: SUM cannot be applied to SUM(STRING). It takes SUM(NUMERIC); "
        "convert with CAST(... AS type).",
    ),
    "too_few_columns": (
        job(delays="SELECT carrier FROM flights"),
        "line 1, column 8: the query has 1 columns, sink 'delays' has 3. "
        "Select one value for each of its columns, in this order: carrier STRING, name STRING, mean DOUBLE.",
    ),
    "too_many_columns": (
        job(delays="SELECT carrier, carrier, delay, delay, 1 FROM flights"),
        "line 1, column 33: the query has 5 columns, sink 'delays' has 3. "
        "Select one value for each of its columns, in this order: carrier STRING, name STRING, mean DOUBLE.",
    ),
    "changes_into_an_append_only_sink": (
        job(delays="SELECT carrier, carrier, AVG(delay) FROM flights GROUP BY carrier"),
        "sink 'delays' takes new rows only, and the query changes rows it has already produced "
        "(an aggregate without a window). Give delays a primary key, so that rows are written by key, or aggregate in "
        "a window (TUMBLE, HOP, CUMULATE), whose result is final.",
    ),
    "syntax": (
        job(delays="SELECT carrier FRM flights f"),
        "line 1, column 20: the statement cannot be read at 'flights'. Expected: ,, FROM, ORDER. "
        "If flights is meant as a name, put it in backticks: `flights`.",
    ),
    "ends_too_early": (
        job(delays="SELECT carrier FROM"),
        "line 1, column 19: the statement ends too early. Expected next: a name, (.",
    ),
    "keyword_as_name": (
        job(delays="SELECT order FROM flights"),
        "line 1, column 8: the statement cannot be read at 'order'. Expected: an expression. "
        "If order is meant as a name, put it in backticks: `order`.",
    ),
    "open_quote": (
        job(delays="SELECT 'abc FROM flights"),
        "line 1, column 8: the text that begins here is never closed by another '. Close it.",
    ),
    "two_statements": (
        job(delays="SELECT 1 FROM flights; DROP TABLE flights"),
        "line 1, column 22: the statement goes on after its semicolon. "
        "Write one statement for each sink and remove the rest.",
    ),
    "no_query": (
        job(delays="DROP TABLE flights"),
        "line 1, column 1: DROP TABLE is not a feature statement. Write one SELECT, or INSERT INTO ... SELECT: "
        "tables and functions are defined beside the job.",
    ),
    "no_statement": (
        job(delays=" ;\n"),
        "sink 'delays' has no statement. Write the SELECT whose rows it takes.",
    ),
    "other_sink": (
        job(delays="INSERT INTO flights SELECT 1"),
        "line 1, column 13: the statement of sink 'delays' writes into 'flights'. "
        "Write INSERT INTO delays SELECT ..., or the SELECT alone.",
    ),
    "side_table_alone": (
        job(delays="SELECT carrier, name, 1E0 FROM airlines"),
        f"line 1, column 32: side table 'airlines' is read on its own. {LOOKED_UP_ONLY}",
    ),
    "side_table_in_a_subquery": (
        job(delays="SELECT carrier, (SELECT MAX(name) FROM airlines), delay FROM flights"),
        f"line 1, column 40: side table 'airlines' is read on its own. {LOOKED_UP_ONLY}",
    ),
    "side_table_right_joined": (
        job(delays="SELECT a.carrier, name, delay FROM flights f RIGHT JOIN airlines a ON f.carrier = a.carrier"),
        "line 1, column 57: RIGHT JOIN on side table 'airlines' is not possible: "
        "its rows are only read when one is asked for. Use JOIN or LEFT JOIN.",
    ),
    "side_table_without_condition": (
        job(delays="SELECT f.carrier, name, delay FROM flights f, airlines"),
        "line 1, column 47: side table 'airlines' is joined without a condition. "
        "Write JOIN airlines ON stream.key = airlines.key.",
    ),
    "window_then_join_then_group": (
        job(
            delays="SELECT w.carrier, a.name, AVG(delay)\n"
            "FROM TUMBLE(TABLE flights, DESCRIPTOR(departure), INTERVAL '1' HOUR) w\n"
            "JOIN airlines a ON a.carrier = w.carrier GROUP BY w.carrier, a.name, window_start, window_end"
        ),
        f"line 3, column 6: {WINDOW_LOST}",
    ),
    "window_in_a_subquery_then_join_then_group": (
        job(
            delays="WITH w AS (SELECT * FROM TUMBLE(TABLE flights, DESCRIPTOR(departure), INTERVAL '1' HOUR))\n"
            "SELECT carrier, name, AVG(delay) FROM (\n"
            "  SELECT w.*, a.name FROM w JOIN airlines a ON a.carrier = w.carrier\n"
            ") x GROUP BY carrier, name, window_start, window_end"
        ),
        f"line 3, column 34: {WINDOW_LOST}",
    ),
    "window_then_written_out_join_then_group": (
        job(
            delays="SELECT w.carrier, a.name, AVG(delay)\n"
            "FROM TUMBLE(TABLE flights, DESCRIPTOR(departure), INTERVAL '1' HOUR) w\n"
            "JOIN airlines FOR SYSTEM_TIME AS OF w.seen AS a ON a.carrier = w.carrier\n"
            "GROUP BY w.carrier, a.name, window_start, window_end"
        ),
        f"line 3, column 6: {WINDOW_LOST}",
    ),
    "side_table_filtered_in_a_subquery": (
        job(
            delays="SELECT f.carrier, a.name, delay FROM flights f\n"
            "JOIN (SELECT * FROM airlines WHERE name <> 'x') a ON a.carrier = f.carrier"
        ),
        f"line 2, column 21: side table 'airlines' is read on its own. {LOOKED_UP_ONLY}",
    ),
    "side_table_in_a_join_in_parentheses": (
        job(
            delays="SELECT f.carrier, a.name, delay FROM flights f\n"
            "JOIN (airlines a JOIN latest_flights l ON a.carrier = l.carrier) ON a.carrier = f.carrier"
        ),
        f"line 2, column 7: side table 'airlines' is read on its own. {LOOKED_UP_ONLY}",
    ),
    "side_table_in_a_window": (
        job(delays="SELECT 'x', 'y', 1E0 FROM TUMBLE(TABLE airlines, DESCRIPTOR(ts), INTERVAL '1' HOUR)"),
        f"line 1, column 40: side table 'airlines' is read on its own. {LOOKED_UP_ONLY}",
    ),
    "side_table_fully_joined": (
        job(delays="SELECT a.carrier, name, delay FROM flights f FULL JOIN airlines a ON f.carrier = a.carrier"),
        "line 1, column 56: FULL JOIN on side table 'airlines' is not possible: "
        "its rows are only read when one is asked for. Use JOIN or LEFT JOIN.",
    ),
    "side_at_an_address_without_all_its_keys": (
        job(delays="SELECT f.carrier, p.code, delay FROM flights f JOIN airports p ON f.carrier = p.code"),
        "line 1, column 67: side table 'airports' is found by code, country, and the join says nothing of country. "
        "Add airports.country = ... to ON, or change the table's join key.",
    ),
    "side_at_an_address_with_more_than_its_keys": (
        job(
            delays="SELECT f.carrier, 'x', delay FROM flights f\n"
            "JOIN airports p ON f.carrier = p.code AND p.country = 'DE' AND p.city = f.plane"
        ),
        "line 2, column 20: side table 'airports' is asked by code, country only, and the join also compares city. "
        "Move the comparison of city into WHERE, or add it to the table's join key.",
    ),
    "side_topic_of_versions_before_event_time": (
        Job(
            "odd",
            (definitions.ODD, definitions.FARES, definitions.DELAYS),
            (
                Statement(
                    "delays", "SELECT s.`order`, 'x', fare FROM `select` s JOIN fares ON s.`order` = fares.carrier"
                ),
            ),
        ),
        "line 1, column 50: side table 'fares' is joined as of event time, and what stands before it has none. "
        "Join it right with a source table that has event time, or with a subquery that passes that column on, or "
        "write JOIN fares FOR SYSTEM_TIME AS OF <its event time> yourself.",
    ),
    "side_topic_with_another_kind_of_time": (
        job(delays="SELECT f.carrier, 'x', fare FROM avro_flights f JOIN fares ON f.carrier = fares.carrier"),
        "the stream's event time is TIMESTAMP_LTZ(3), the side table's is TIMESTAMP(3): they cannot be compared. "
        "Give both the same type; for a side table of latest values, choose that of the stream in stream_time.",
    ),
    "side_topic_of_latest_values_without_event_time_into_an_append_only_sink": (
        Job(
            "odd",
            (definitions.ODD, definitions.PILOTS, definitions.DELAYS),
            (
                Statement(
                    "delays", "SELECT `order`, pilot, 1E0 FROM `select` s JOIN pilots ON s.`order` = pilots.carrier"
                ),
            ),
        ),
        "sink 'delays' takes new rows only, and the stream that side table 'pilots' is joined to has no event time: "
        "each new value of the side table then changes rows that were already produced. Give the stream's source event "
        "time, so that each row finds the latest value once, or give delays a primary key, so that rows are written by "
        "key.",
    ),
    "side_table_without_a_connector": (
        job(delays="SELECT f.carrier, s.seats, delay FROM flights f JOIN seats s ON s.tail = f.plane.tail"),
        "table 'seats' needs the connector 'redis', and no jar with it is there; none is published for this version of "
        "Flink. Put a jar with a connector 'redis' into the lib folder of the cluster and of the planner "
        "(HLINK_HOME/lib) and restart both, or choose another type of table.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_says_where_in_the_users_text_and_what_to_do(planner: Planner, name: str) -> None:
    refused, message = REFUSED[name]
    (problem,) = await problems(planner, refused)
    assert str(problem) == message
    assert problem.statement == "delays"


async def test_a_sink_without_a_connector_is_refused_with_the_jar_that_is_missing(planner: Planner) -> None:
    (problem,) = await problems(planner, job(archive="SELECT carrier, ROW(AVG(delay)) FROM flights GROUP BY carrier"))
    assert problem.table == "archive"
    assert "table 'archive' needs the connector 'hbase-2.2', and no jar with it is there" in problem.message


async def test_given_a_connector_on_the_classpath_when_a_job_needs_it_then_it_is_planned(tmp_path: Path) -> None:
    needing = job(
        archive="SELECT f.carrier, ROW(COUNT(s.seats) + 0E0) FROM flights f JOIN seats s ON s.tail = f.plane.tail "
        "GROUP BY f.carrier"
    )
    async with Planner(with_own_connectors(planner_config(tmp_path), tmp_path / "connectors")) as planner:
        planned = await plan(planner, needing, "7", with_plan=True)
    assert any("lookup-join" in node["type"] for node in json.loads(planned.compiled)["nodes"])
    assert PASSWORD not in planned.compiled


async def test_the_failing_one_of_several_statements_is_named(planner: Planner) -> None:
    changes = "SELECT carrier, carrier, AVG(delay) FROM flights GROUP BY carrier"
    (problem,) = await problems(planner, job(totals="SELECT carrier, 1 FROM flights", delays=changes))
    assert (problem.statement, problem.table) == ("delays", "delays")


async def test_all_statements_that_cannot_be_read_are_named_at_once(planner: Planner) -> None:
    found = await problems(planner, job(totals="SELECT", delays="SELEC 1"))
    assert [p.statement for p in found] == ["totals", "delays"]


@pytest.mark.parametrize(
    "expression", ["1), b AS (2", "1 -- ", "a, b", "1 FROM flights", "PROCTIME() AS x", "'", "1 /* "]
)
async def test_a_computed_column_is_one_expression(planner: Planner, expression: str) -> None:
    table = Table("odd", Role.SOURCE, definitions.ODD.connector, (Column("c", "", expression=expression),))
    odd = Job("odd", (table, definitions.DELAYS), (Statement("delays", "SELECT 'x', 'y', 1E0 FROM odd"),))
    (problem,) = await problems(planner, odd)
    assert problem.table == "odd"
    assert problem.column == "c"
    assert "cannot be read" in problem.message


async def test_secrets_are_put_in_only_when_the_plan_is_sent(planner: Planner) -> None:
    enriched = ACCEPTED["two_side_tables"]
    planned = await plan(planner, enriched, "7", with_plan=True)
    shown = await explain(planner, planned)
    assert "LookupJoin" in shown
    written = json.dumps(PASSWORD)[1:-1]
    for text in (planned.sql, planned.compiled, shown):
        assert PASSWORD not in text
        assert written not in text
    filled = fill_in(planned.compiled, secrets_of_tables(enriched.tables, "7"))
    json.loads(filled)
    assert filled.count(written) == 2
    assert "${secret:" not in filled


async def test_given_a_translation_ahead_that_failed_when_the_plan_is_submitted_then_that_tells_why(
    planner: Planner,
) -> None:
    planner.translate_ahead("no plan", {})
    answer = await planner.execute("no plan", {})
    assert answer["error"]["step"] == "load"


async def test_equal_definitions_give_equal_plans(planner: Planner) -> None:
    first = await plan(planner, job(delays=WINDOWED), "7", with_plan=True)
    other = Execution(parallelism=3)
    await plan(planner, job(other, delays="SELECT carrier, carrier, 1E0 FROM flights"), "7", with_plan=True)
    again = await plan(planner, job(delays=WINDOWED), "7", with_plan=True)
    assert [node["type"] for node in json.loads(again.compiled)["nodes"]] == [
        node["type"] for node in json.loads(first.compiled)["nodes"]
    ]
    assert again.options == first.options


async def test_a_request_that_hangs_fails_alone(tmp_path: Path) -> None:
    config = planner_config(tmp_path)
    async with Planner(config) as planner:
        await planner.parse(["SELECT 1"])
        worker = planner_process(tmp_path)
        os.killpg(worker.pid, signal.SIGSTOP)
        hanging = asyncio.create_task(planner.ask({"op": "parse", "statements": ["SELECT 1"]}, timeout_s=0.5))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(planner.parse(["SELECT 2"]))
        with pytest.raises(PlannerTimeout, match=r"did not answer within 0\.5 s; it was replaced"):
            await hanging
        assert "tree" in (await waiting)[0]
        assert planner.statistics.restarts == 1
        assert not worker.is_running()


async def test_a_planner_that_dies_is_replaced(tmp_path: Path) -> None:
    async with Planner(planner_config(tmp_path)) as planner:
        await planner.parse(["SELECT 1"])
        worker = planner_process(tmp_path)
        jvm = worker.children()[0]
        os.killpg(worker.pid, signal.SIGSTOP)
        asked = asyncio.create_task(planner.parse(["SELECT 1"]))
        await asyncio.sleep(0.1)
        jvm.kill()
        worker.kill()
        with pytest.raises(PlannerDied, match="ended while it worked on this request"):
            await asked
        assert "tree" in (await planner.parse(["SELECT 2"]))[0]
    assert not planner_processes(tmp_path)


async def test_no_planner_outlives_its_parent(tmp_path: Path) -> None:
    async with Planner(planner_config(tmp_path)) as planner:
        await planner.parse(["SELECT 1"])
        worker = planner_process(tmp_path)
        jvm = worker.children()[0]
        worker.kill()  # as kill -9 of the service does, it closes the JVM's standard input
        await asyncio.to_thread(jvm.wait, 10)
