"""Models that were trained over HTTP, deployed, and called by a stream job's SQL on a real Flink."""

from __future__ import annotations

import asyncio
import math
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pandas as pd
import pytest
import skops.io
from sklearn import datasets

from app.visual.choices import Status
from app.visual.family import family
from stream_jobs import models
from stream_jobs.definitions import (
    Column,
    Function,
    FunctionKind,
    Job,
    KafkaSink,
    KafkaSource,
    Role,
    Startup,
    Statement,
    Table,
)
from stream_jobs.java import compiled_jar
from stream_jobs.local.endpoints import Endpoints
from stream_jobs.planner.client import Planner
from stream_jobs.planner.functions import prepare
from stream_jobs.planner.plan import plan
from stream_jobs.rest import Cluster
from tests.graphs import Experiments, Json, node
from tests.planners import planner_config
from tests.services import Api, Serve, ServiceProcess

CANCER = datasets.load_breast_cancer(as_frame=True).data
IRIS = datasets.load_iris(as_frame=True).data
DIABETES = datasets.load_diabetes(as_frame=True).data
OTHERS = [name for name in DIABETES.columns if name != "bmi"]
GRAPH = [
    node("cancer", "sklearn.dataset", {"dataset": 3, "target": "target"}),
    node("scale", "sklearn.standard_scaler", data="cancer.data"),
    node("tumours", "sklearn.logistic_regression", data="scale.data"),
    node("iris", "sklearn.dataset", {"dataset": 1, "target": "target"}),
    node("flowers", "sklearn.hist_gradient_boosting_classifier", data="iris.data"),
    node("diabetes", "sklearn.dataset", {"dataset": 5, "target": "target"}),
    node("weight", "sklearn.drop_columns", {"columns": OTHERS}, data="diabetes.data"),
    node("progress", "sklearn.ridge", data="weight.data"),
    node("idle", "sklearn.dataset", {"dataset": 2, "target": "target"}),
]


@dataclass
class Trained:
    """The graph's models, all of one job that has been run."""

    url: str
    job: int
    nodes: dict[str, int]

    def output(self, name: str, port: str) -> Json:
        return {"jobId": self.job, "nodeId": self.nodes[name], "portName": port}

    def deploy(self, name: str, port: str, function: str) -> Json:
        """The answer's envelope."""
        body = {**self.output(name, port), "name": function}
        answer: Json = httpx.post(f"{self.url}/visualmodule/job/deploy", json=body, timeout=60).json()
        return answer

    def deployed(self, name: str, port: str, function: str) -> Json:
        answer = self.deploy(name, port, function)
        assert answer["status"] == 200, answer
        obj: Json = answer["obj"]
        return obj

    def pipeline(self, name: str, folder: Path) -> Any:
        """What scikit-learn made of it."""
        address = f"{self.url}/visualmodule/job/download/pipeline"
        file = folder / f"{name}.skops"
        file.write_bytes(httpx.get(address, params=self.output(name, "pipeline"), timeout=60).content)
        return skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))


@pytest.fixture(scope="module")
def trained(service: ServiceProcess) -> Trained:
    async def train() -> Trained:
        async with httpx.AsyncClient(base_url=service.url) as client:
            lab = Experiments(client)
            job, nodes = await lab.job(await lab.experiment("to be deployed"), GRAPH)
            ended = await lab.run(job)
            assert ended["jobStatus"] == Status.SUCCEEDED, ended
            return Trained(service.url, job, nodes)

    return asyncio.run(train())


@pytest.fixture
def tag() -> str:
    return uuid.uuid4().hex[:8]


def test_given_deployed_models_when_a_job_calls_them_then_every_score_is_the_batchs(
    api: Api,
    trained: Trained,
    tag: str,
    tmp_path: Path,
    kafka_topic: Callable[..., str],
    produce: Callable[..., None],
    consume: Callable[..., list[Any]],
) -> None:
    tumour, tumour_proba = trained.deployed("tumours", "pipeline", f"tumour_{tag}")["functions"]
    flower, flower_proba = (told := trained.deployed("flowers", "model", f"flower_{tag}"))["functions"]
    (progress,) = trained.deployed("progress", "model", f"progress_{tag}")["functions"]
    assert (tumour["returns"], tumour_proba["gives"]) == ("STRING", "the probability of 'malignant'")
    assert (progress["returns"], told["takesMissing"]) == ("DOUBLE", True)

    def fed(frame: pd.DataFrame, hint: str, kind: str, lacking: int) -> tuple[pd.DataFrame, int, str]:
        """The rows, and one that lacks a value, in a topic: they, its table, and the table's columns."""
        frame = pd.concat([frame, frame.iloc[:1].assign(**{str(frame.columns[lacking]): math.nan})], ignore_index=True)
        topic, names = kafka_topic(hint), [f"c{n}" for n in range(len(frame.columns))]
        rows = [
            {"id": n, **{name: None if math.isnan(value) else value for name, value in zip(names, row, strict=True)}}
            for n, row in enumerate(frame.itertuples(index=False))
        ]
        produce(topic, rows)
        table = api.kafka_source(f"{hint}_{tag}", topic, {"id": "BIGINT", **dict.fromkeys(names, kind)})
        return frame, table, ", ".join(names)

    tumours, tumour_rows, columns = fed(CANCER, "tumours", "DOUBLE", 3)
    flowers, flower_rows, numbers = fed(IRIS, "flowers", "DECIMAL(10, 2)", 2)
    patients, patient_rows, features = fed(DIABETES[["bmi"]], "patients", "DOUBLE", 0)
    scores = {"id": "BIGINT", "label": "STRING", "p": "DOUBLE"}
    topics = [kafka_topic(hint) for hint in ("tumour", "flower", "progress")]
    sinks = [
        api.kafka_sink(f"scored_{n}_{tag}", topic, scores if n < 2 else {"id": "BIGINT", "value": "DOUBLE"})
        for n, topic in enumerate(topics)
    ]
    # By their names, in another order; and by their places, of another type.
    named = ", ".join(
        f"{one['name']} => CAST(c{n} AS DOUBLE)" for n, one in reversed(list(enumerate(told["arguments"])))
    )
    body = api.job(
        f"scores {tag}",
        [tumour_rows, flower_rows, patient_rows],
        {
            sinks[0]: f"SELECT id, {tumour['name']}({columns}), {tumour_proba['name']}({columns}) FROM tumours_{tag}",
            sinks[1]: f"SELECT id, {flower['name']}({named}), {flower_proba['name']}({numbers}) FROM flowers_{tag}",
            sinks[2]: f"SELECT id, {progress['name']}({features}) FROM patients_{tag}",
        },
    )
    job = int(api.ok("POST", "/jobs/addDO", json=body)["id"])
    api.run(job)
    found = [
        sorted(consume(topic, len(rows), timeout=90), key=lambda row: row["id"])
        for topic, rows in zip(topics, (tumours, flowers, patients), strict=True)
    ]
    api.ok("POST", f"/jobs/cancel/{job}?mode=none")

    of_tumours = trained.pipeline("tumours", tmp_path)
    # A logistic regression says nothing of a row that lacks a value.
    assert found[0].pop() == {"id": len(CANCER), "label": None, "p": None}
    assert [row["label"] for row in found[0]] == list(of_tumours.predict(CANCER))
    assert [row["p"] for row in found[0]] == pytest.approx(list(of_tumours.predict_proba(CANCER)[:, 1]), abs=1e-6)
    of_flowers = trained.pipeline("flowers", tmp_path)
    assert [row["label"] for row in found[1]] == list(of_flowers.predict(flowers))
    assert [row["p"] for row in found[1]] == pytest.approx(
        list(of_flowers.predict_proba(flowers).max(axis=1)), abs=1e-6
    )
    of_patients = trained.pipeline("progress", tmp_path)
    assert found[2].pop()["value"] is None
    assert [row["value"] for row in found[2]] == pytest.approx(list(of_patients.predict(DIABETES)), rel=1e-6)


def test_given_a_deployed_model_when_its_name_is_deployed_again_then_only_another_model_is_a_new_version(
    api: Api, trained: Trained, tag: str
) -> None:
    first = trained.deployed("flowers", "pipeline", tag)
    assert trained.deployed("flowers", "pipeline", tag) == first
    second = trained.deployed("tumours", "pipeline", tag)
    assert [(one["id"], one["version"]) for one in second["functions"]] == [
        (one["id"], 2) for one in first["functions"]
    ]
    prediction, probability = (one["id"] for one in first["functions"])
    shown = api.ok("GET", "/ds/udf/get", params={"id": prediction})
    assert (shown["udfName"], [one["version"] for one in shown["versions"]]) == (f"predict_{tag}", [2, 1])
    assert str(trained.nodes["tumours"]) in shown["udfDesc"]

    # A regression has no probabilities: those of the model before must not be left to be called.
    refusal = trained.deploy("progress", "model", tag)
    assert (refusal["status"], f"'predict_{tag}_proba'" in refusal["msg"]) == (409, True)
    api.ok("DELETE", "/ds/udf/delete", params={"id": probability})
    (third,) = trained.deployed("progress", "model", tag)["functions"]
    assert (third["id"], third["version"]) == (prediction, 3)


def test_given_a_call_with_wrong_arguments_when_a_job_is_checked_then_the_signature_is_told(
    api: Api, trained: Trained, tag: str, kafka_topic: Callable[..., str]
) -> None:
    names = [one["name"] for one in trained.deployed("flowers", "model", tag)["arguments"]]
    columns = {"k": "STRING", "v": "DOUBLE", "d": "DECIMAL(10, 2)"}
    source = api.kafka_source(f"rows_{tag}", kafka_topic("rows"), columns)
    sink = api.kafka_sink(f"out_{tag}", kafka_topic("out"), {"v": "STRING"})

    def calling(arguments: str) -> Json:
        return api.job(f"job {tag}", [source], {sink: f"SELECT predict_{tag}({arguments}) FROM rows_{tag}"})

    for wrong in ("v, v, v", "v, v, v, k"):
        refusal = api.refused("POST", "/jobs/validate", json=calling(wrong))["msg"]
        assert f"predict_{tag}({names[0]} => DOUBLE, {names[1]} => DOUBLE" in refusal
    # Flink makes a plan of this one, and no job.
    job = int(api.ok("POST", "/jobs/addDO", json=calling(", ".join(f"{name} => d" for name in names[::-1])))["id"])
    refusal = api.refused("POST", f"/jobs/run/{job}")["msg"]
    assert "takes DOUBLE and is given DECIMAL(10, 2)" in refusal
    assert "CAST(value AS DOUBLE)" in refusal


@pytest.mark.parametrize(
    ("output", "name", "status", "words"),
    [
        (("flowers", "model"), "", 400, "the function has no name"),
        (("flowers", "model"), "two words", 400, "'two words' cannot be part of a function's name"),
        (("flowers", "model"), "x_proba", 400, "is what the probabilities of 'predict_x' are called"),
        (("flowers", "model"), "x" * 100, 400, "at most 100"),
        (("iris", "data"), "x", 400, "is of type"),
        (("scale", "model"), "x", 400, "predicts nothing"),
        (("flowers", "nothing"), "x", 404, "has no output 'nothing'"),
    ],
)
def test_given_what_cannot_be_deployed_when_it_is_asked_for_then_it_is_said_why(
    trained: Trained, output: tuple[str, str], name: str, status: int, words: str
) -> None:
    answer = trained.deploy(*output, name)
    assert (answer["status"], words in answer["msg"]) == (status, True), answer


def test_given_a_function_that_somebody_uploaded_when_a_model_is_deployed_under_its_name_then_it_is_refused(
    api: Api, trained: Trained, tag: str
) -> None:
    module = (
        "from pyflink.table import DataTypes\nfrom pyflink.table.udf import udf\n\n"
        "@udf(result_type=DataTypes.STRING())\ndef guess(text):\n    return text\n"
    )
    query = {"udfName": f"Predict_{tag}", "udfClass": f"guesses_{tag}.guess", "udfType": "PYTHON"}
    api.ok("POST", "/ds/udf/upload", params=query, files={"jarfile": (f"guesses_{tag}.py", module.encode())})
    refusal = trained.deploy("flowers", "model", tag)
    assert (refusal["status"], f"'Predict_{tag}' that is no model's" in refusal["msg"]) == (409, True)


async def test_given_a_service_without_stream_jobs_when_a_model_is_deployed_then_it_says_so(serve: Serve) -> None:
    client, _ = await serve(family)
    body = {"jobId": 1, "nodeId": 1, "portName": "model", "name": "x"}
    status, said = await Experiments(client).refused("POST", "/job/deploy", json=body)
    assert (status, "Stream jobs are not served here" in said) == (503, True)


async def test_given_a_cluster_without_what_runs_models_when_a_job_calls_one_then_it_comes_with_the_job(
    service: ServiceProcess,
    api: Api,
    trained: Trained,
    tag: str,
    endpoints: Endpoints,
    tmp_path: Path,
    kafka_topic: Callable[..., str],
    produce: Callable[..., None],
    consume: Callable[..., list[Any]],
) -> None:
    # The stack has it, so another version is brought: what comes out tells which one ran. Its native library is loaded
    # a second time in the process then.
    usual = planner_config(tmp_path)
    sources = Path(models.__file__).with_name("java")
    shutil.copytree(sources, tmp_path / "java")
    probability = tmp_path / "java/hlink/models/Probability.java"
    probability.write_text(probability.read_text().replace("return found[", "return 2 + found["))
    ours = compiled_jar(
        tmp_path / "java", "other", tmp_path, java=usual.java, compiler=usual.compiler, classpath=usual.classpath
    )
    config = replace(usual, model_jars=(ours, *usual.model_jars[1:]), files=service.home / "files")
    _, deployed = trained.deployed("tumours", "pipeline", tag)["functions"]
    shown = api.ok("GET", "/ds/udf/get", params={"id": deployed["id"]})
    function = Function(shown["udfName"], FunctionKind.SCALAR, shown["udfClass"], shown["sha256"], "jar")
    names = [f"c{n}" for n in range(len(CANCER.columns))]
    topic, out_topic = kafka_topic("rows"), kafka_topic("out")
    produce(topic, [dict(zip(names, CANCER.iloc[0], strict=True))])
    tables = (
        Table(
            "rows_in",
            Role.SOURCE,
            KafkaSource(endpoints.kafka_bootstrap, topic, "g", Startup.EARLIEST),
            tuple(Column(name, "DOUBLE") for name in names),
        ),
        Table("rows_out", Role.SINK, KafkaSink(endpoints.kafka_bootstrap, out_topic), (Column("p", "DOUBLE"),)),
    )
    statement = Statement("rows_out", f"SELECT {function.name}({', '.join(names)}) FROM rows_in")
    job = Job("brings what runs models", tables, (statement,), functions=(function,))
    address = urlsplit(endpoints.flink_url)
    options = {"rest.address": str(address.hostname), "rest.port": str(address.port)}
    async with Planner(config) as planner:
        planned = await plan(planner, job, "7", with_plan=True)
        brought = await asyncio.to_thread(prepare, planned.functions, config, bring_models=True)
        started = await planner.execute(planned.compiled, {**planned.options, **options}, brought)
    (row,) = await asyncio.to_thread(consume, out_topic, 1, timeout=60)
    async with Cluster(endpoints.flink_url) as cluster:
        await cluster.cancel(started["jobId"])
    of_tumours = trained.pipeline("tumours", tmp_path)
    assert row["p"] == pytest.approx(2 + of_tumours.predict_proba(CANCER[:1])[0, 1], abs=1e-6)
