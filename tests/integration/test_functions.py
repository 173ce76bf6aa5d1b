"""Users' functions over HTTP on a real Flink: jars and Python modules in, what SQL makes of them out of Kafka."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stream_jobs.local.endpoints import Endpoints
from tests.java import jar_of
from tests.services import Api, Json, ServiceProcess, running_service

SCALAR = 'public class Shout extends ScalarFunction { public String eval(String s) { return s + "%s"; } }'
CLASSES = {
    "shop.Shout": SCALAR % "!",
    "shop.Split": """
@FunctionHint(output = @DataTypeHint("ROW<word STRING, length INT>"))
public class Split extends TableFunction<Row> {
  public void eval(String text) { for (String w : text.split(" ")) collect(Row.of(w, w.length())); } }""",
    "shop.Longest": """
public class Longest extends AggregateFunction<String, Longest.Seen> {
  public static class Seen { public String word = ""; }
  @Override public Seen createAccumulator() { return new Seen(); }
  @Override public String getValue(Seen seen) { return seen.word; }
  public void accumulate(Seen seen, String word) { if (word.length() > seen.word.length()) seen.word = word; } }""",
    "shop.Two": """
public class Two extends TableAggregateFunction<Integer, Two.Seen> {
  public static class Seen { public Integer last = 0; }
  @Override public Seen createAccumulator() { return new Seen(); }
  public void accumulate(Seen seen, Integer n) { seen.last = n; }
  public void emitValue(Seen seen, org.apache.flink.util.Collector<Integer> out) { out.collect(seen.last); } }""",
    "shop.Base": "public abstract class Base extends ScalarFunction { public Long eval(Long n) { return n + 1; } }",
    "shop.Next": "public class Next extends Base { }",
    "shop.Plain": "public class Plain { public String eval(String s) { return s; } }",
    "shop.Closed": "public class Closed extends ScalarFunction { Closed() { } public Long eval(Long n) { return n; } }",
    "shop.Idle": "public class Idle extends ScalarFunction { }",
}


@dataclass
class Shop:
    """Rows of words in a topic, a topic to write into, and names of the test's own."""

    api: Api
    tag: str
    out_topic: str
    source: int
    out: int

    @property
    def words(self) -> str:
        return f"words_{self.tag}"

    def name(self, hint: str) -> str:
        return f"{hint}_{self.tag}"

    def job(self, sql: str, name: str = "") -> Json:
        return self.api.job(name or f"functions {self.tag}", [self.source], {self.out: sql})

    def run(self, sql: str, name: str = "") -> int:
        job_id = int(self.api.ok("POST", "/jobs/addDO", json=self.job(sql, name))["id"])
        self.api.run(job_id)
        return job_id

    def refused(self, sql: str) -> str:
        return str(self.api.refused("POST", "/jobs/validate", json=self.job(sql))["msg"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, endpoints: Endpoints) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("service")) as started:
        yield started


@pytest.fixture(scope="module")
def api(service: ServiceProcess, endpoints: Endpoints) -> Api:
    return Api(service.url, endpoints)


@pytest.fixture(scope="module")
def jar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jar_of(tmp_path_factory.mktemp("jar"), CLASSES)


@pytest.fixture
def shop(api: Api, kafka_topic: Callable[..., str], produce: Callable[..., None]) -> Iterator[Shop]:
    tag = uuid.uuid4().hex[:8]
    topic, out_topic = kafka_topic("words"), kafka_topic("out")
    produce(topic, [{"k": "a", "text": "to be or"}, {"k": "b", "text": "question"}])
    yield Shop(
        api,
        tag,
        out_topic,
        source=api.kafka_source(f"words_{tag}", topic, {"k": "STRING", "text": "STRING"}),
        out=api.kafka_sink(f"out_{tag}", out_topic, {"k": "STRING", "v": "STRING"}),
    )
    for job in api.ok("GET", "/jobs/list", params={"jobName": tag, "pageSize": 100})["records"]:
        if job["jobStatus"] in (1, 9):
            api.ok("POST", f"/jobs/cancel/{job['id']}")


def upload(api: Api, content: Path | bytes, name: str, udf_class: str, kind: str = "", file_name: str = "") -> Json:
    """The envelope of an upload's answer."""
    data = content if isinstance(content, bytes) else content.read_bytes()
    file_name = file_name or (content.name if isinstance(content, Path) else "functions.jar")
    query = {"udfName": name, "udfClass": udf_class, "udfType": kind, "udfDesc": "of a test"}
    return api.call("POST", "/ds/udf/upload", params=query, files={"jarfile": (file_name, data)})


def uploaded(api: Api, *arguments: Any, **more: Any) -> int:
    answer = upload(api, *arguments, **more)
    assert answer["success"], answer
    assert answer["data"]["status"] == "success"
    return int(answer["data"]["id"])


def values(rows: list[Json]) -> list[str]:
    return sorted(row["v"] for row in rows)


def test_given_a_jar_of_functions_when_statements_call_them_then_their_results_are_in_the_sink(
    api: Api, shop: Shop, jar: Path, consume: Callable[..., list[Any]]
) -> None:
    # The document misspells SCALAR; a class that inherits its method, and no type at all, will do.
    uploaded(api, jar, shop.name("Shout"), "shop.Shout", "SCALA")
    uploaded(api, jar, shop.name("split"), "shop.Split", "TABLE")
    uploaded(api, jar, shop.name("longest"), "shop.Longest", "AGGREGATE")
    uploaded(api, jar, shop.name("nextone"), "shop.Next")
    shop.run(
        f"SELECT k, {shop.name('shout')}(word) || CAST({shop.name('NEXTONE')}(CAST(length AS BIGINT)) AS STRING) "
        f"FROM {shop.words}, LATERAL TABLE({shop.name('split')}(text)) AS t(word, length)"
    )
    assert values(consume(shop.out_topic, 4, timeout=60)) == ["be!3", "or!3", "question!9", "to!3"]


def test_given_an_aggregate_function_when_rows_are_grouped_then_its_value_is_in_the_sink(
    api: Api, shop: Shop, jar: Path, pg_table: Callable[..., str], postgres: Callable[[], Any]
) -> None:
    uploaded(api, jar, shop.name("longest"), "shop.Longest", "AGGREGATE")
    table = pg_table("k text primary key, v text")
    sink = api.postgresql(f"longest_by_{shop.tag}", "sink", table, {"k": "STRING", "v": "STRING"}, primary_key="k")
    statement = f"SELECT k, {shop.name('longest')}(text) FROM {shop.words} GROUP BY k"
    body = api.job(f"aggregate {shop.tag}", [shop.source], {sink: statement}, checkpointInterval=1000)
    api.run(int(api.ok("POST", "/jobs/addDO", json=body)["id"]))
    deadline = time.monotonic() + 60
    expected = [("a", "to be or"), ("b", "question")]
    while (found := postgres().execute(f"SELECT k, v FROM {table} ORDER BY k").fetchall()) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
