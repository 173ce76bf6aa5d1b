"""Users' functions over HTTP on a real Flink: jars and Python modules in, what SQL makes of them out of Kafka."""

from __future__ import annotations

import io
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.java import jar_of
from tests.services import Api, Json, ServiceProcess

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
    "shop.Where": "public class Where extends ScalarFunction { public String eval(String s) { "
    "return getClass().getProtectionDomain().getCodeSource().getLocation().getPath(); } }",
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
def jar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jar_of(tmp_path_factory.mktemp("jar"), CLASSES)


@pytest.fixture
def shop(
    api: Api,
    kafka_topic: Callable[..., str],
    produce: Callable[..., None],
    pg_table: Callable[..., str],  # so that jobs end before their tables go
) -> Iterator[Shop]:
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
            api.ok("POST", f"/jobs/cancel/{job['id']}?mode=none")


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


def test_given_a_jar_function_when_a_job_calls_it_then_the_cluster_runs_it_from_a_copy_that_came_with_the_job(
    api: Api, shop: Shop, jar: Path, service: ServiceProcess, consume: Callable[..., list[Any]]
) -> None:
    uploaded(api, jar, shop.name("place"), "shop.Where", "SCALAR")
    shop.run(f"SELECT k, {shop.name('place')}(text) FROM {shop.words}")
    (place,) = set(values(consume(shop.out_topic, 2, timeout=60)))
    assert "/blobStorage/" in place
    assert str(service.home) not in place


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


def test_given_a_running_job_when_a_second_version_comes_then_it_keeps_the_first_and_the_next_job_takes_the_second(
    api: Api,
    shop: Shop,
    tmp_path: Path,
    kafka_topic: Callable[..., str],
    produce: Callable[..., None],
    consume: Callable[..., list[Any]],
) -> None:
    name, topic = shop.name("shout"), kafka_topic("late")
    jars = [jar_of(tmp_path / mark, {"shop.Shout": SCALAR % mark}, mark) for mark in ("one", "two")]
    function = uploaded(api, jars[0], name, "shop.Shout", "SCALAR")
    source = api.kafka_source(f"late_{shop.tag}", topic, {"k": "STRING"})
    # A constant is computed in the planner, the column on the cluster: both must be of one version.
    statement = f"SELECT {name}('c'), {name}(k) FROM late_{shop.tag}"
    body = api.job(f"first {shop.tag}", [source], {shop.out: statement})
    first = int(api.ok("POST", "/jobs/addDO", json=body)["id"])
    api.run(first)

    answer = api.ok("PUT", "/ds/udf/update", params={"id": function}, files={"jarfile": jars[1].open("rb")})
    assert answer == {"id": function, "version": 2}
    shown = api.ok("GET", "/ds/udf/get", params={"id": function})
    assert [(one["version"], one["jarName"]) for one in shown["versions"]] == [(2, jars[1].name), (1, jars[0].name)]
    assert (shown["version"], shown["jobs"]) == (2, [f"first {shop.tag}"])
    second = int(api.ok("POST", "/jobs/addDO", json=body | {"jobName": f"second {shop.tag}"})["id"])
    api.run(second)
    produce(topic, [{"k": "x"}])
    rows = consume(shop.out_topic, 2, timeout=60)
    assert sorted((row["k"], row["v"]) for row in rows) == [("cone", "xone"), ("ctwo", "xtwo")]

    # The first job's next run takes the new version, as a version of its own.
    api.cancel(first, mode="none")
    api.run(first)
    assert api.ok("GET", f"/jobs/{first}")["version"] == "2"
    produce(topic, [{"k": "y"}])
    deadline = time.monotonic() + 60
    while [row["v"] for row in consume(shop.out_topic, None)].count("ytwo") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_given_a_function_when_it_is_listed_changed_and_deleted_then_each_does_what_it_says(
    api: Api, shop: Shop, jar: Path, consume: Callable[..., list[Any]]
) -> None:
    name = shop.name("Shout")
    function = uploaded(api, jar, name, "shop.Shout", "SCALAR")
    uploaded(api, jar, shop.name("other"), "shop.Next")

    def listed(**query: Any) -> list[str]:
        page = api.ok("GET", "/ds/udf/list", params=query)
        return [record["udfName"] for record in page["records"]]

    assert listed(udfName=shop.tag.upper()) == [shop.name("other"), name]
    assert listed(udfName=shop.tag, udfClass="shop.sh") == [name]
    assert listed(udfName=shop.tag, udfDesc="of a") == [shop.name("other"), name]
    assert listed(udfName=shop.tag, createTime="2020-01-01") == []
    assert listed(udfName=shop.tag, modifyBy="nobody") == []
    page = api.ok("GET", "/ds/udf/list", params={"udfName": shop.tag, "pageSize": 1, "curPage": 2})
    assert (page["total"], page["pages"], page["current"]) == (2, 2, 2)
    (record,) = page["records"]
    assert (record["id"], record["udfName"], record["udfType"], record["udfClass"], record["jarName"]) == (
        function,
        name,
        "SCALAR",
        "shop.Shout",
        jar.name,
    )
    assert api.ok("PUT", "/ds/udf/update", params={"id": function, "udfDesc": "louder"})["version"] == 1
    assert listed(udfDesc="LOUDER") == [name]
    assert "already" in upload(api, jar, name.lower(), "shop.Shout")["msg"]

    job = shop.run(f"SELECT k, {name}(text) FROM {shop.words}", f"reader {shop.tag}")
    assert values(consume(shop.out_topic, 2, timeout=60)) == ["question!", "to be or!"]
    refusal = api.refused("DELETE", "/ds/udf/delete", params={"id": function})
    assert f"'reader {shop.tag}'" in refusal["msg"]
    other = api.ok("GET", "/ds/udf/list", params={"udfName": shop.name("other")})["records"][0]["id"]
    api.ok("DELETE", "/ds/udf/delete", params={"id": other})
    assert listed(udfName=shop.tag) == [name]
    assert "no function" in api.refused("DELETE", "/ds/udf/delete", params={"id": other})["msg"]
    assert job


def test_given_a_function_that_is_deleted_while_a_job_with_it_is_stored_then_one_of_the_two_is_refused(
    api: Api, shop: Shop, jar: Path
) -> None:
    with ThreadPoolExecutor(1) as other:
        for attempt in range(12):
            name = shop.name(f"fleeting_{attempt}")
            function = upload(api, jar, name, "shop.Shout")["data"]["id"]
            job = shop.job(f"SELECT k, {name}(text) FROM {shop.words}", f"{name} of a job")
            storing = other.submit(httpx.post, f"{api.http.base_url}/jobs/addDO", json=job)
            time.sleep(attempt * 0.01)
            deleted = api.call("DELETE", "/ds/udf/delete", params={"id": function})
            stored = storing.result().json()
            assert deleted["success"] is not stored["success"], (deleted, stored)
            if not stored["success"]:
                assert name in stored["msg"]


def test_given_a_table_aggregate_function_when_a_statement_calls_it_then_it_is_refused_with_the_reason(
    api: Api, shop: Shop, jar: Path
) -> None:
    name = shop.name("two")
    uploaded(api, jar, name, "shop.Two", "TABLEAGG")
    refusal = api.refused(
        "POST", "/jobs/validate", json=shop.job(f"SELECT k,\n  {name}(1) FROM {shop.words} GROUP BY k")
    )
    (problem,) = refusal["problems"]
    assert "Flink SQL cannot call" in problem["message"]
    assert (problem["line"], problem["column"]) == (2, 3)


@pytest.mark.parametrize(
    ("udf_class", "kind", "words"),
    [
        ("shop.Nowhere", "SCALAR", ["'shop.Nowhere' is not in the jar", "shop.Next, shop.Shout, shop.Where"]),
        ("shop.Plain", "SCALAR", ["extends java.lang.Object", "ScalarFunction", "shop.Shout"]),
        ("shop.Split", "SCALAR", ["is a TABLE function (it extends TableFunction), not SCALAR", "shop.Shout"]),
        ("shop.Shout", "AGGREGATE", ["not AGGREGATE", "shop.Longest"]),
        ("shop.Base", "", ["is abstract"]),
        ("shop.Closed", "", ["no public constructor without arguments"]),
        ("shop.Idle", "", ["no public method eval"]),
        ("", "SCALAR", ["no class is named", "shop.Next, shop.Shout"]),
        ("shop.Shout", "MACRO", ["'MACRO' is not a type of function", "SCALAR, TABLE"]),
    ],
)
def test_given_a_class_that_is_no_such_function_when_it_is_uploaded_then_the_refusal_names_those_that_are(
    api: Api, jar: Path, udf_class: str, kind: str, words: list[str]
) -> None:
    answer = upload(api, jar, f"f{uuid.uuid4().hex}", udf_class, kind)
    assert (answer["success"], answer["code"]) == (False, -3)
    assert [word for word in words if word not in answer["msg"]] == [], answer["msg"]


@pytest.mark.parametrize("name", ["", "1st", "two words", "select", "upper", "TUMBLE", "abs", "x" * 101])
def test_given_a_name_that_sql_has_already_or_cannot_have_when_a_function_is_uploaded_then_it_is_refused(
    api: Api, jar: Path, name: str
) -> None:
    answer = upload(api, jar, name, "shop.Shout")
    assert (answer["success"], answer["problems"][0]["field"]) == (False, "udfName"), answer


def test_given_a_class_that_would_act_when_it_is_loaded_when_it_is_uploaded_then_it_does_not_run(
    api: Api, shop: Shop, tmp_path: Path
) -> None:
    trace = tmp_path / "it ran"
    hostile = jar_of(
        tmp_path,
        {
            "evil.Loader": "public class Loader extends ScalarFunction {\n"
            f'  static {{ try {{ new java.io.File("{trace}").createNewFile(); }} catch (Exception e) {{ }} }}\n'
            "  public String eval(String s) { return s; } }"
        },
    )
    uploaded(api, hostile, shop.name("loader"), "evil.Loader", "SCALAR")
    assert not trace.exists()


def test_given_hostile_files_when_they_are_uploaded_then_they_are_refused_and_not_kept(
    api: Api, service: ServiceProcess, jar: Path
) -> None:
    def packed(name: str, data: bytes) -> bytes:
        content = io.BytesIO(jar.read_bytes())
        with zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, data)
        return content.getvalue()

    before = set((service.home / "files").iterdir()) if (service.home / "files").exists() else set()
    for content, words in (
        (b"#!/bin/sh\nrm -rf /\n", "not a jar"),
        (packed("../../../evil.class", b""), "leads out of the archive"),
        (packed("zeros", b"\0" * (200 * 1024 * 1024)), "expands to more than"),
        (packed("shop/Broken.class", b"\xca\xfe\xba\xbe\0\0\0\x3d\xff\xff\x01\xff\xff"), "damaged"),
    ):
        answer = upload(api, content, f"f{uuid.uuid4().hex}", "shop.Broken", "SCALAR")
        assert not answer["success"]
        assert words in answer["msg"]
    assert set((service.home / "files").iterdir()) == before


PYTHON = """
from pyflink.table.udf import udf
from pyflink.table import DataTypes

@udf(result_type=DataTypes.STRING())
def backwards(text):
    return text[::-1] + "{mark}"

def plain(text):
    return text
"""


def test_given_a_python_function_when_a_job_calls_it_then_its_results_are_in_the_sink_and_versions_do_not_mix(
    api: Api, shop: Shop, consume: Callable[..., list[Any]]
) -> None:
    name = shop.name("backwards")
    module = PYTHON.format(mark="1").encode()
    function = uploaded(api, module, name, "texts.backwards", "PYTHON", file_name="texts.py")
    job = shop.run(f"SELECT k, {name}(text) FROM {shop.words}")
    assert values(consume(shop.out_topic, 2, timeout=120)) == ["noitseuq1", "ro eb ot1"]
    api.cancel(job, mode="none")

    second = PYTHON.format(mark="2").encode()
    api.ok("PUT", "/ds/udf/update", params={"id": function}, files={"jarfile": ("texts.py", second)})
    api.run(job)
    rows = values(consume(shop.out_topic, 4, timeout=120))
    assert rows == ["noitseuq1", "noitseuq2", "ro eb ot1", "ro eb ot2"]


def test_given_a_zip_of_python_packages_when_a_statement_calls_its_function_then_it_is_planned(
    api: Api, shop: Shop
) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("wordplay/__init__.py", "")
        archive.writestr("wordplay/ends.py", "MARK = 'x'\n")
        archive.writestr("wordplay/texts.py", "from wordplay.ends import MARK\n" + PYTHON.format(mark=""))
    uploaded(api, content.getvalue(), shop.name("zipped"), "wordplay.texts.backwards", file_name="wordplay.zip")
    api.ok("POST", "/jobs/validate", json=shop.job(f"SELECT k, {shop.name('zipped')}(text) FROM {shop.words}"))


def test_given_two_files_with_one_module_name_when_a_job_calls_functions_of_both_then_it_is_refused(
    api: Api, shop: Shop
) -> None:
    names = [shop.name("first"), shop.name("second")]
    for name in names:
        uploaded(api, f"# {name}\n{PYTHON}".encode(), name, "texts.backwards", file_name="texts.py")
    message = shop.refused(f"SELECT {names[0]}(k), {names[1]}(text) FROM {shop.words}")
    assert f"{names[0]} and {names[1]} are of two files that both have a Python module 'texts'" in message


@pytest.mark.parametrize(
    ("source", "udf_class", "words"),
    [
        ("def f(: pass", "texts.f", "is not Python"),
        (PYTHON, "texts.sideways", "does not define 'sideways'"),
        (PYTHON, "texts.plain", "plain"),
        ("import nowhere_to_be_found as f", "texts.f", "nowhere_to_be_found"),
        ("-" * 400_000 + "1", "texts.f", "is not Python"),
        (PYTHON, "json.backwards", "is there already"),
        (PYTHON, "__main__.backwards", "is there already"),
        (PYTHON, "backwards", "module.function"),
        (PYTHON, "pkg.texts.backwards", "in a package"),
    ],
)
def test_given_python_that_is_no_function_when_it_is_uploaded_then_the_refusal_says_why(
    api: Api, source: str, udf_class: str, words: str
) -> None:
    answer = upload(api, source.encode(), f"f{uuid.uuid4().hex}", udf_class, "PYTHON", file_name="texts.py")
    assert (answer["success"], answer["code"]) == (False, -3), answer
    assert words in answer["msg"]


def test_given_a_module_that_hangs_when_it_is_imported_when_it_is_uploaded_then_it_is_refused_and_planning_goes_on(
    api: Api, shop: Shop
) -> None:
    source = "import threading\n" + PYTHON + "\nthreading.Event().wait()\n"
    answer = upload(api, source.encode(), shop.name("stuck"), "texts.backwards", "PYTHON", file_name="texts.py")
    assert (answer["success"], answer["code"]) == (False, -3), answer
    assert "did not answer within" in answer["msg"]
    api.ok("POST", "/jobs/validate", json=shop.job(f"SELECT k, text FROM {shop.words}"))
