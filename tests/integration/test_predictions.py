"""Jobs that predict with what other jobs have trained, over HTTP: rows, pins, what is kept, and users' mistakes."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
from sklearn import datasets, linear_model, preprocessing

from app.service import Service
from app.visual.choices import Status
from app.visual.family import family
from app.visual.jobs.folders import OUTPUTS
from app.visual.keeping import clean
from tests.graphs import Experiments, Json, node
from tests.services import Serve

pytestmark = [
    pytest.mark.timeout(240),
    # What differs between databases is not used here; the comparison of runs is tried on both.
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

COLOURS = "size,colour,label\n1,red,a\n2,red,a\n3,blue,b\n4,blue,b\n1,red,a\n4,blue,b\n"


class Lab(Experiments):
    """The API, and the service behind it."""

    service: Service

    async def trained(self, graph: Sequence[Json], name: str = "trained", **fields: Any) -> tuple[int, dict[str, int]]:
        """A job that has been run to its end."""
        job, nodes = await self.job(await self.experiment(name), graph)
        ended = await self.run(job, **fields)
        assert ended["jobStatus"] == Status.SUCCEEDED, ended
        return job, nodes

    async def prediction(self, model: Json, data_id: int, name: str = "predicted") -> tuple[int, dict[str, int]]:
        """A job of which only the model and the data set were said."""
        body = {"expId": await self.experiment(name), "jobPattern": 0, "model": model, "dataId": data_id}
        added = await self.ok("POST", "/job", json=body)
        return int(added["jobId"]), added["nodeIds"]

    async def model_of(self, job: int) -> Json:
        """What the newest run of a job has brought in."""
        (used,) = (await self.ok("GET", f"/job/{job}"))["models"]
        found: Json = used
        return found


@pytest.fixture
async def lab(serve: Serve) -> Lab:
    client, service = await serve(family, tick_s=0.2, lease_s=2, visual_outputs_mib=0)
    made = Lab(client)
    made.service = service
    return made


def irises(**classifier: object) -> list[Json]:
    return [
        node("read", "sklearn.dataset", {"dataset": 1}),
        node("scale", "sklearn.standard_scaler", data="read.data"),
        node("learn", "sklearn.logistic_regression", classifier, data="scale.data"),
        node("judge", "sklearn.evaluate_classification", model="learn.model", data="scale.data"),
    ]


async def test_a_model_and_a_data_set_are_enough_to_predict_and_the_model_is_pinned(lab: Lab) -> None:
    features, labels = datasets.load_iris(return_X_y=True, as_frame=True)
    job, nodes = await lab.trained(irises(C=0.5), seed=3)
    data_id = await lab.data_set(features.iloc[::7].to_csv(index=False))
    predicting, drawn = await lab.prediction({"jobId": job}, data_id)
    ended = await lab.run(predicting)

    assert ended["jobStatus"] == Status.SUCCEEDED, ended
    scaler = preprocessing.StandardScaler().fit(features)
    by_hand = linear_model.LogisticRegression(C=0.5).fit(scaler.transform(features), labels)
    expected = datasets.load_iris().target_names[by_hand.predict(scaler.transform(features.iloc[::7]))]
    page = await lab.rows(predicting, drawn["predict"], page=2, limit=10)
    names = [column["name"] for column in page["columns"]]
    assert names == [
        *features.columns,
        "prediction",
        *(f"probability_{name}" for name in datasets.load_iris().target_names),
    ]
    assert (page["page"], page["limit"], page["total"]) == (2, 10, len(expected))
    assert [row[names.index("prediction")] for row in page["data"]] == list(expected[10:20])

    found = await lab.ok("GET", f"/job/{predicting}")
    used = await lab.model_of(predicting)
    assert (found["jobPattern"], used["fromJobId"], used["fromNodeId"]) == (0, job, nodes["learn"])
    for form, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        asked = {"jobId": predicting, "nodeId": drawn["predict"], "portName": "data", "format": form}
        answer = await lab.client.get("/visualmodule/job/download/table", params=asked)
        frame: pd.DataFrame = read(io.BytesIO(answer.content))
        assert answer.headers["content-disposition"].endswith(f'.{form}"')
        assert frame["prediction"].tolist() == list(expected)

    # It is the model that there was when the run began.
    first = used
    change = {**node("", "sklearn.logistic_regression", {"C": 9}), "nodeId": nodes["learn"]}
    change["nodeEdge"] = [{"from_id": nodes["scale"], "from_port": "data", "to_id": nodes["learn"], "to_port": "data"}]
    await lab.ok("PUT", "/job", json={"jobId": job, "graph": [change]})
    await lab.run(job)
    await lab.run(predicting)
    second = await lab.model_of(predicting)
    assert second["key"] != first["key"]

    # An earlier run is named: it is the model of then, and what was predicted with it need not be predicted again.
    reference = {"jobId": job, "nodeId": nodes["learn"], "runId": first["fromRunId"]}
    bringing = {**node("", "sklearn.trained_pipeline", {"model": reference}), "nodeId": drawn["model"]}
    bringing["nodeEdge"] = [
        {"from_id": drawn["model"], "from_port": "model", "to_id": drawn["predict"], "to_port": "model"}
    ]
    await lab.ok("PUT", "/job", json={"jobId": predicting, "graph": [bringing]})
    await lab.run(predicting)
    assert (await lab.model_of(predicting))["key"] == first["key"]
    graph = (await lab.ok("GET", f"/job/{predicting}"))["graph"]
    assert all(one["reused"] for one in graph)


async def test_a_model_is_kept_while_jobs_predict_with_it_and_figures_of_runs_always(lab: Lab) -> None:
    job, nodes = await lab.trained(irises())
    predicting, _ = await lab.prediction({"jobId": job}, 1)
    await clean(lab.service)

    outputs = lab.service.settings.home / OUTPUTS
    assert len(list(outputs.iterdir())) == 1
    assert (await lab.run(predicting))["jobStatus"] == Status.SUCCEEDED
    assert (await lab.figures(job, nodes["judge"], "metrics"))["table"][0]["metric"][0] == "accuracy"
    asked = {"jobId": job, "nodeId": nodes["scale"], "portName": "data"}
    assert await lab.refused("GET", "/job/rows", params=asked) == (
        404,
        f"What 'Mean 0, deviation 1' ({nodes['scale']}) brought out is not kept any more: run the job again",
    )

    shutil.rmtree(outputs)  # as if somebody had cleared the disk
    status, said = await lab.refused("POST", "/job/run", json={"jobId": predicting})
    assert (status, f"of job {job} is not kept any more: run that job again" in said) == (400, True)
    await lab.run(job)
    await lab.ok("DELETE", f"/job/{predicting}")
    await clean(lab.service)
    assert list(outputs.iterdir()) == []


async def test_rows_that_a_model_does_not_know_are_told_or_let_through(lab: Lab) -> None:
    data_id = await lab.data_set(COLOURS)
    graph = [node("read", "sklearn.dataset", {"dataset": data_id, "target": "label"})]
    for name in ("error", "ignore"):
        graph.append(node(f"encode_{name}", "sklearn.one_hot_encoder", {"handle_unknown": name}, data="read.data"))
        graph.append(node(name, "sklearn.decision_tree_classifier", data=f"encode_{name}.data"))
    job, nodes = await lab.trained(graph)
    green = "size,colour\n1,green\n2,red\n3,green\n4,\n"
    wrong = (
        ("size,color\n1,red\n", "fitted with 'colour', which the table has not: bring rows in that have all columns"),
        ("size,color\n1,red\n", "Or is 'color' meant?"),
        (
            "size,colour\n1,red\nx,red\n",
            "'size' had numbers when the model was fitted and has texts here, 'x' in row 2",
        ),
        ("size,colour\n1,7\n", "'colour' had texts when the model was fitted and has numbers here, '7' in row 1"),
        (green, "'colour' has categories that the model was not fitted with, 'green', 'no value' in 3 rows"),
    )
    drawn = [
        node("strict", "sklearn.trained_pipeline", {"model": {"jobId": job, "nodeId": nodes["error"]}}),
        node("lenient", "sklearn.trained_pipeline", {"model": f'{{"jobId": {job}, "nodeId": {nodes["ignore"]}}}'}),
        node("read", "sklearn.dataset", {"dataset": await lab.data_set(green)}),
        node("let through", "sklearn.apply_pipeline", model="lenient.model", data="read.data"),
    ]
    for number, (rows, _) in enumerate(wrong):
        drawn.append(node(f"read{number}", "sklearn.dataset", {"dataset": await lab.data_set(rows)}))
        drawn.append(node(f"apply{number}", "sklearn.apply_pipeline", model="strict.model", data=f"read{number}.data"))
    predicting, at = await lab.job(await lab.experiment("unknown"), drawn, jobPattern=0)
    ended = await lab.run(predicting)

    reasons = {one["nodeId"]: one["reason"] for one in ended["graph"]}
    for number, (_, said) in enumerate(wrong):
        assert said in reasons[at[f"apply{number}"]]
    (table,) = (await lab.figures(predicting, at["let through"], "data"))["table"]
    assert table == {"column": ["colour", "colour"], "unknown category": ["green", None], "rows": [2, 1]}
    assert (await lab.rows(predicting, at["let through"]))["total"] == 4


async def test_a_job_whose_model_is_not_there_cannot_be_predicted_with(lab: Lab) -> None:
    experiment = await lab.experiment("mistakes")
    job, nodes = await lab.job(experiment, irises())
    predicting, _ = await lab.prediction({"jobId": job}, 1)

    async def refused(status: int) -> str:
        found, said = await lab.refused("POST", "/job/run", json={"jobId": predicting})
        assert found == status, said
        assert said.startswith("'Trained pipeline': ") or "'Trained pipeline': " in said
        return said

    assert "has not been run" in await refused(409)
    await lab.run(job, nodeId=nodes["scale"], scope="to")
    assert "was not run to its end: run that job again" in await refused(409)
    change = {**node("", "sklearn.multinomial_nb"), "nodeId": nodes["learn"]}
    change["nodeEdge"] = [{"from_id": nodes["scale"], "from_port": "data", "to_id": nodes["learn"], "to_port": "data"}]
    await lab.ok("PUT", "/job", json={"jobId": job, "graph": [change]})
    await lab.run(job)
    assert "which failed (" in await refused(409)
    await lab.ok("DELETE", f"/job/{job}")
    assert f"There is no job {job}" in await refused(400)


async def test_a_prediction_that_is_not_clear_is_refused_when_it_is_drawn(lab: Lab) -> None:
    experiment = await lab.experiment("unclear")
    two = [*irises(), node("other", "sklearn.svc", data="scale.data")]
    job, nodes = await lab.job(experiment, two)
    bare, _ = await lab.job(experiment, irises()[:1])
    for body, status, said in (
        ({"model": {"jobId": job}, "dataId": 1}, 400, "several nodes of job"),
        (
            {"model": {"jobId": bare}, "dataId": 1},
            400,
            f"of job {bare}, no algorithm brings out a pipeline_model",
        ),
        (
            {"model": {"jobId": job, "nodeId": nodes["read"]}, "dataId": 1},
            400,
            "is none that brings out a pipeline_model",
        ),
        ({"model": {"jobId": job, "nodeId": 5}, "dataId": 1}, 404, f"Job {job} has no node 5"),
        ({"model": {"jobId": 5}, "dataId": 1}, 404, "There is no job 5"),
        ({"model": {"jobId": job, "runId": 5}, "dataId": 1}, 404, f"Job {job} has no run 5"),
        ({"model": {"jobId": job}}, 400, "dataId: it is not said which rows"),
        ({"dataId": 1}, 400, "model: it is not said which model"),
        ({"model": {"jobId": job}, "dataId": 1, "jobPattern": 1}, 400, "jobPattern: a job with a model predicts"),
        ({"model": {"jobId": job}, "dataId": 1, "graph": irises()}, 400, "graph: the graph is drawn from model"),
    ):
        found, message = await lab.refused("POST", "/job", json={"expId": experiment, **body})
        assert (found, said in message) == (status, True), message
    named = {"expId": experiment, "model": {"jobId": job, "nodeId": nodes["other"]}, "dataId": 1}
    assert (await lab.ok("GET", f"/job/{(await lab.ok('POST', '/job', json=named))['jobId']}"))["jobPattern"] == 0

    without, _ = await lab.job(experiment, irises(), jobPattern=0)
    status, message = await lab.refused("POST", "/job/run", json={"jobId": without})
    assert (status, "its graph brings in none" in message) == (400, True)
