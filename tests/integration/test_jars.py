"""Programs in jars: taken in once, brought to the cluster, run as jobs, and given back byte by byte."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from stream_jobs.local import artifacts
from tests.services import Api, Json, ServiceProcess
from tests.stack import shared_artifacts

ENTRY = "org.apache.flink.streaming.examples.wordcount.WordCount"


@pytest.fixture(scope="module")
def word_count() -> Path:
    artifacts.fetch(["examples"], shared_artifacts())
    (jar,) = artifacts.paths("examples", shared_artifacts())
    return jar


@dataclass
class Jars:
    """Uploads, and the jobs that they are run as."""

    api: Api
    jar: Path

    def upload(self, content: bytes | None = None, name: str = "words.jar", **query: Any) -> Json:
        """The envelope of the answer."""
        file = {"jarfile": (name, self.jar.read_bytes() if content is None else content)}
        answer: Json = self.api.http.post("/jars/upload", params=query, files=file).json()
        return answer

    def uploaded(self, **query: Any) -> Json:
        answer = self.upload(clusterId=self.api.cluster(), **query)
        assert answer["success"], answer
        data: Json = answer["data"]
        return data

    def on_the_cluster(self) -> list[Json]:
        found: list[Json] = httpx.get(f"{self.api.endpoints.flink_url}/jars", timeout=30).json()["files"]
        return found

    def job(self, **settings: Any) -> Json:
        name = f"words {uuid.uuid4().hex[:8]}"
        return {"jobName": name, "jobType": 1, "clusterId": self.api.cluster(), **settings}


@pytest.fixture
def jars(api: Api, word_count: Path) -> Iterator[Jars]:
    made = Jars(api, word_count)
    yield made
    for jar in made.on_the_cluster():
        httpx.delete(f"{api.endpoints.flink_url}/jars/{jar['id']}", timeout=30)


def other_jar(*, entry: str = "", marker: str = "") -> bytes:
    """A jar of other contents; ``entry`` stands in its manifest."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", f"Manifest-Version: 1.0\r\n{entry}")
        archive.writestr("a/Program.class", b"\xca\xfe\xba\xbe" + marker.encode())
    return buffer.getvalue()


def test_given_a_jar_when_it_is_uploaded_twice_then_it_is_there_once_and_comes_back_byte_by_byte(jars: Jars) -> None:
    first, second = jars.uploaded(), jars.uploaded()
    assert first == second
    digest = hashlib.sha256(jars.jar.read_bytes()).hexdigest()
    assert (first["filename"], first["status"]) == (f"{digest[:16]}-words.jar", "success")
    assert [one["name"] for one in jars.on_the_cluster()].count(first["filename"]) == 1

    (listed,) = jars.api.ok("GET", "/jars/list", params={"id": first["id"]})
    assert (listed["resName"], listed["resUname"], listed["entryClass"]) == ("words.jar", first["filename"], ENTRY)
    assert (listed["resSize"], listed["resType"], listed["status"]) == (jars.jar.stat().st_size, 0, 1)
    assert listed["resSizeStr"] == "14.9 KB"

    for query in (
        {"filePath": first["filename"]},
        {"filePath": str(first["id"])},
        {"filePath": f"files/{digest}"},
        {"fileName": first["filename"]},
    ):
        answer = jars.api.http.get("/file/down", params=query)
        assert answer.content == jars.jar.read_bytes(), query
        assert "attachment" in answer.headers["content-disposition"]
    named = jars.api.http.get("/file/down", params={"filePath": first["filename"], "fileName": "mine.jar"})
    assert named.headers["content-disposition"] == 'attachment; filename="mine.jar"'
    assert int(named.headers["content-length"]) == jars.jar.stat().st_size


def test_given_filters_when_jars_are_listed_then_each_filters(jars: Jars) -> None:
    tag = uuid.uuid4().hex[:8]
    answer = jars.upload(other_jar(marker=tag), f"{tag}.jar", entryClass="a.Program")
    assert answer["success"], answer
    (jar,) = jars.api.ok("GET", "/jars/list", params={"resName": tag})
    assert (jar["status"], jar["clusterId"], jar["entryClass"]) == (0, None, "a.Program")
    matching = {
        "resName": tag.upper(), "resUname": jar["resUname"][5:], "entryClass": "Program", "resType": 0, "clusterId": 0,
        "createTime": jar["createTime"][:10], "modifyTime": jar["modifyTime"],
    }  # fmt: skip
    for path in ("/jars/list", "/jars/listPage"):
        for name, value in matching.items():
            data = jars.api.ok("GET", path, params={name: value, "pageSize": 500})
            found = data if path == "/jars/list" else data["records"]
            assert jar["id"] in [one["id"] for one in found], (path, name)
        for name in matching:
            wrong = {"resType": 9, "clusterId": 9}.get(name, "2001-01-01" if name.endswith("Time") else "no such")
            data = jars.api.ok("GET", path, params={name: wrong})
            assert (data if path == "/jars/list" else data["records"]) == [], (path, name)
    assert jars.api.ok("GET", "/jars/list", params={"resName": tag, "resSize": jar["resSize"]}) == [jar]
    page = jars.api.ok("GET", "/jars/listPage", params={"curPage": 1, "pageSize": 1})
    assert (len(page["records"]), page["size"]) == (1, 1)


def test_given_what_is_no_program_when_it_is_uploaded_then_it_is_refused(jars: Jars) -> None:
    wrong_class = jars.upload(entryClass="a.b.C")
    assert wrong_class["problems"] == [
        {
            "message": "words.jar has no class a.b.C",
            "field": "entryClass",
            "remedy": f"its manifest names {ENTRY}: use that, or leave it out",
        }
    ]
    assert "is not a jar" in jars.upload(b"not a jar")["msg"]
    assert jars.upload(name="words.zip")["problems"][0]["message"] == "words.zip is not called .jar"
    assert jars.upload(resType=3)["problems"][0]["field"] == "resType"
    assert jars.upload(clusterId=7)["code"] == -8


def test_given_a_program_when_it_is_run_then_it_ends_under_the_id_that_was_chosen_first(
    jars: Jars, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    words = tmp_path / "words.txt"
    words.write_text("to be or not to be\n")
    out = tmp_path / "out"
    arguments = f"--input 'file://{words}' --output file://{out}"
    jar = jars.uploaded()
    body = jars.job(useJar=jar["filename"], program=arguments, parallelism=1)
    validated = jars.api.ok("POST", "/jobs/validate", json=body, params={"connections": "true"})
    assert validated["sql"].endswith(
        f"flink run -c {ENTRY} {jar['filename']} --input file://{words} --output file://{out}"
    )

    job_id = jars.api.ok("POST", "/jobs/addDO", json=body)["id"]
    run = jars.api.ok("POST", f"/jobs/run/{job_id}")
    jars.api.wait_for(job_id, 0)
    status = httpx.get(f"{jars.api.endpoints.flink_url}/jobs/{run['flinkJobId']}/status", timeout=30).json()
    assert status == {"status": "FINISHED"}
    found = [line for file in out.rglob("*") if file.is_file() for line in file.read_text().splitlines()]
    assert sorted(found)[-2:] == ["(to,1)", "(to,2)"]
    view = jars.api.ok("GET", f"/jobs/{job_id}")
    assert (view["jobTypeName"], view["useJar"], view["program"]) == ("JAR", str(jar["id"]), arguments)


def test_given_a_program_that_runs_when_the_cluster_forgot_its_jar_then_it_is_brought_again_and_its_settings_count(
    jars: Jars, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    body = jars.job(
        useJar=str(jars.uploaded()["id"]),
        program=f"--input file://{tmp_path} --discovery-interval 1s",
        computingUnit=1,
        checkpointInterval=7000,
    )
    for jar in jars.on_the_cluster():
        httpx.delete(f"{jars.api.endpoints.flink_url}/jars/{jar['id']}", timeout=30)
    job_id = jars.api.ok("POST", "/jobs/addDO", json=body)["id"]
    flink_job_id = jars.api.run(job_id)["flinkJobId"]

    refusal = jars.api.refused("DELETE", "/jars/removeDO", params={"jarid": jars.uploaded()["id"]})
    assert "is used by " in refusal["msg"]
    assert body["jobName"] in refusal["msg"]
    assert jars.api.refused("POST", f"/jobs/run/{job_id}")["msg"] == f"Job {body['jobName']!r} is running already"
    flink = f"{jars.api.endpoints.flink_url}/jobs/{flink_job_id}"
    assert httpx.get(f"{flink}/checkpoints/config", timeout=30).json()["interval"] == 7000
    vertices = httpx.get(flink, timeout=30).json()["vertices"]
    assert max(vertex["parallelism"] for vertex in vertices) == 2

    restarted = jars.api.ok("POST", f"/jobs/restart/{job_id}")
    jars.api.wait_for(job_id, 1)
    checkpoints = (
        f"{jars.api.endpoints.flink_url}/jobs/{jars.api.ok('GET', f'/jobs/{job_id}')['flinkJobId']}/checkpoints"
    )
    assert httpx.get(checkpoints, timeout=30).json()["latest"]["restored"]["external_path"] == restarted["restoredFrom"]
    jars.api.cancel(job_id, mode="none")


def test_given_a_wrong_program_when_it_is_stored_or_run_then_it_is_told_why(jars: Jars) -> None:
    jar_id = str(jars.uploaded()["id"])
    add = ("POST", "/jobs/addDO")
    wrong = jars.api.refused(*add, json=jars.job(useJar=jar_id, entryClass="a.b.C"))
    assert wrong["problems"][0]["remedy"] == f"its manifest names {ENTRY}: use that, or leave it out"
    assert jars.api.refused(*add, json=jars.job())["problems"][0]["field"] == "useJar"
    assert jars.api.refused(*add, json=jars.job(useJar="nothing.jar"))["code"] == -8
    assert jars.api.refused(*add, json=jars.job(useJar=jar_id, program="'"))["problems"][0]["field"] == "program"

    body = jars.job(useJar=jar_id, program="--execution-mode nonsense")
    job_id = jars.api.ok("POST", "/jobs/addDO", json=body)["id"]
    failed = jars.api.refused("POST", f"/jobs/run/{job_id}")
    assert "The program failed before it submitted its job" in failed["msg"]
    assert "nonsense" in failed["msg"].lower()
    assert jars.api.status(job_id) == 3


def test_given_an_unused_jar_when_it_is_removed_then_it_is_gone_here_and_on_the_cluster(jars: Jars) -> None:
    tag = uuid.uuid4().hex[:8]
    jar = jars.upload(other_jar(marker=tag), f"{tag}.jar", clusterId=jars.api.cluster())["data"]
    assert jar["filename"] in [one["name"] for one in jars.on_the_cluster()]
    jars.api.ok("DELETE", "/jars/removeDO", params={"jarid": jar["id"]})
    assert jar["filename"] not in [one["name"] for one in jars.on_the_cluster()]
    assert jars.api.ok("GET", "/jars/list", params={"resName": tag}) == []
    assert jars.api.refused("DELETE", "/jars/removeDO", params={"jarid": jar["id"]})["code"] == -8
    assert jars.api.http.get("/file/down", params={"filePath": jar["filename"]}).status_code == 404


def test_given_a_path_when_it_is_downloaded_then_nothing_but_uploads_is_served(
    jars: Jars, service: ServiceProcess, tmp_path: Path
) -> None:
    jars.uploaded()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    link = service.home / "files" / ("0" * 64)
    os.symlink(secret, link)
    for wanted in (
        "/etc/passwd",
        "../hlink.db",
        "..%2fhlink.db",
        "files/../hlink.db",
        "..\\hlink.db",
        str(secret),
        str(service.home / "secret.key"),
        "secret.key",
        ".",
        "files/",
        "0" * 64,
        "files/" + "f" * 64,
        "\u0000",
    ):
        for name in ("filePath", "fileName"):
            answer = jars.api.http.get("/file/down", params={name: wanted})
            assert (answer.status_code, answer.json()["code"]) == (404, -8), (name, wanted)
            assert answer.json()["success"] is False
    link.unlink()
    assert jars.api.refused("GET", "/file/down")["problems"][0]["field"] == "filePath"
