"""What a change means to a running job's state, over HTTP: said beforehand, refused, and done when it is allowed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.services import Api, Json

ROWS = [{"k": "ab"[n % 2], "v": n} for n in range(20)]


class Counting:
    """A job that counts rows by key into PostgreSQL."""

    def __init__(
        self, api: Api, topic: str, table: str, produce: Callable[..., None], query: Callable[[str], list[Any]]
    ) -> None:
        self.api, self._topic, self._table, self._produce, self._query = api, topic, table, produce, query
        self.tag = uuid.uuid4().hex[:8]
        self._source = api.kafka_source(f"rows_{self.tag}", topic, {"k": "STRING", "v": "BIGINT"})
        self._sink = api.postgresql(
            f"counts_{self.tag}", "sink", table, {"k": "STRING", "n": "BIGINT"}, primary_key="k", flush_interval="100"
        )
        self.id = int(api.ok("POST", "/jobs/addDO", json=self.body("SELECT k, COUNT(*) FROM {} GROUP BY k"))["id"])

    def body(self, sql: str, **settings: Any) -> Json:
        return self.api.job(
            f"impact {self.tag}",
            [self._source],
            {self._sink: sql.format(f"rows_{self.tag}")},
            checkpointInterval=200,
            **settings,
        )

    def change(self, sql: str, **settings: Any) -> Json:
        answer = self.api.call("POST", "/jobs/updateDO", json=self.body(sql, **settings) | {"id": self.id})
        assert answer["success"], answer
        return answer

    def add_rows(self) -> None:
        self._produce(self._topic, ROWS)

    def until(self, a: int, b: int) -> None:
        deadline = time.monotonic() + 120
        while (counts := dict(self._query(f"SELECT k, n FROM {self._table}"))) != {"a": a, "b": b}:
            assert time.monotonic() < deadline, (counts, self.api.ok("GET", f"/jobs/overview/{self.id}"))
            time.sleep(0.2)

    def restart(self) -> None:
        answer = self.api.ok("POST", f"/jobs/restart/{self.id}")
        assert answer["jobStatus"] in (1, 9), answer
        self.api.wait_for(self.id, 1, 120)


@pytest.fixture
def counting(
    api: Api,
    kafka_topic: Callable[..., str],
    produce: Callable[..., None],
    pg_table: Callable[..., str],
    postgres: Callable[[], Any],
) -> Iterator[Counting]:
    connection = postgres()
    table = pg_table("k text primary key, n bigint")
    made = Counting(
        api, kafka_topic("rows"), table, produce, lambda query: connection.execute(query.encode()).fetchall()
    )
    made.add_rows()
    api.run(made.id)
    made.until(10, 10)
    yield made
    api.call("POST", f"/jobs/cancel/{made.id}")


def verdicts(impact: Json) -> dict[str, str]:
    """Those on operators that have state; those that are new are called as those in whose place they are."""
    return {one["operator"]: one["verdict"] for one in impact["operators"] if one["verdict"] != "new"}


def test_given_a_change_behind_the_state_when_the_job_is_restarted_then_all_of_it_is_kept(counting: Counting) -> None:
    sql = "SELECT k, COUNT(*) + 1000 FROM {} GROUP BY k HAVING COUNT(*) > 1"
    impact = counting.api.ok("POST", "/jobs/impact", json=counting.body(sql) | {"id": counting.id})

    assert impact["restores"] is True
    assert (impact["summary"], impact["stateOfVersion"]) == ("A restart goes on with all of its state.", 1)
    assert verdicts(impact) == {
        f"source rows_{counting.tag}": "kept",
        f"aggregate by k of the statement for counts_{counting.tag}": "kept",
    }
    answer = counting.change(sql)
    assert (answer["data"]["version"], answer["data"]["impact"]) == ("2", impact)
    counting.restart()
    counting.add_rows()
    counting.until(1020, 1020)


def test_given_a_changed_filter_when_the_job_is_restarted_then_it_is_refused_until_it_is_allowed(
    counting: Counting,
) -> None:
    sql = "SELECT k, COUNT(*) FROM {} WHERE v >= 10 GROUP BY k"
    answer = counting.change(sql)
    aggregate = f"aggregate by k of the statement for counts_{counting.tag}"

    assert "A restart is refused unless allowNrs is 1." in answer["msg"]
    assert verdicts(answer["data"]["impact"])[aggregate] == "kept with another meaning"
    before = counting.api.ok("GET", f"/jobs/{counting.id}")["flinkJobId"]
    refusal = counting.api.refused("POST", f"/jobs/restart/{counting.id}")
    assert "what it has gathered so far is of other rows than those that come now" in refusal["msg"]
    assert "(v >= 10)" in refusal["msg"]
    after = counting.api.ok("GET", f"/jobs/{counting.id}")
    assert (after["flinkJobId"], after["jobStatus"]) == (before, 1), "the old run was not touched"

    counting.change(sql, allowNrs=1)
    counting.restart()
    counting.add_rows()
    counting.until(15, 15)
    log = counting.api.ok("GET", f"/jobs/{counting.id}/log")
    assert "it goes on from a state that does not fit it, as allowNrs asks" in log


def test_given_another_aggregate_when_it_is_allowed_then_it_starts_empty_behind_the_offsets(counting: Counting) -> None:
    sql = "SELECT k, SUM(v) FROM {} GROUP BY k"
    refused = counting.change(sql)["data"]["impact"]
    assert set(verdicts(refused).values()) == {"kept", "incompatible"}
    assert "it holds other aggregates" in counting.api.refused("POST", f"/jobs/restart/{counting.id}")["msg"]

    counting.change(sql, allowNrs=1)
    counting.restart()
    counting.add_rows()
    counting.until(90, 100)


def test_given_another_maximum_parallelism_when_it_is_allowed_then_all_state_is_left(counting: Counting) -> None:
    sql = "SELECT k, COUNT(*) FROM {} GROUP BY k"
    parameters = {"pipeline.max-parallelism": 64}
    counting.change(sql, parms=parameters)
    refusal = counting.api.refused("POST", f"/jobs/restart/{counting.id}")
    assert "was divided into 128 groups (pipeline.max-parallelism), and 64 are asked for" in refusal["msg"]

    counting.change(sql, parms=parameters, allowNrs=1)
    counting.restart()
    counting.add_rows()
    counting.until(20, 20)  # read again from the topic's beginning
    assert "it starts without any state, as allowNrs asks" in counting.api.ok("GET", f"/jobs/{counting.id}/log")


def test_given_a_stopped_job_when_it_was_changed_then_its_savepoint_is_judged_before_it_is_used(
    counting: Counting,
) -> None:
    savepoint = counting.api.ok("GET", f"/jobs/savepoint/{counting.id}")["path"]
    counting.api.cancel(counting.id)
    counting.change("SELECT k, SUM(v) FROM {} GROUP BY k", savepointPath=savepoint)
    refusal = counting.api.refused("POST", f"/jobs/run/{counting.id}")
    assert "it holds other aggregates" in refusal["msg"]

    counting.change("SELECT k, COUNT(*) FROM {} GROUP BY k HAVING COUNT(*) > 2", savepointPath=savepoint)
    counting.api.run(counting.id)
    counting.add_rows()
    counting.until(20, 20)
