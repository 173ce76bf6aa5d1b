"""What can be taken away of an experiment, over HTTP: models as ONNX, graphs as scripts and notebooks."""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import skops.io

from app.visual.choices import Status
from app.visual.family import family
from tests.graphs import Experiments, Json, node
from tests.services import Serve
from tests.steps import mixed_table

pytestmark = [
    pytest.mark.timeout(240),
    # What differs between databases is not used here.
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]


@pytest.fixture
async def lab(serve: Serve) -> Experiments:
    client, _ = await serve(family, tick_s=0.2, lease_s=2)
    return Experiments(client)


def mixed_graph(data_id: int) -> list[Json]:
    """Read, split, fill in, encode, scale, classify, evaluate; and clusters that only know their own rows."""
    parts = {"columns": "at", "parts": "month,dayofweek"}
    return [
        node("read", "sklearn.dataset", {"dataset": data_id, "target": "y"}),
        node("split", "sklearn.train_test_split", {"test_size": "0.3", "stratify": "true"}, data="read.data"),
        node("fill", "sklearn.simple_imputer", {"columns": "size"}, data="split.train", test="split.test"),
        node("times", "sklearn.date_parts", parts, data="fill.data", test="fill.test"),
        node("encode", "sklearn.one_hot_encoder", data="times.data", test="times.test"),
        node("scale", "sklearn.standard_scaler", data="encode.data", test="encode.test"),
        node("learn", "sklearn.logistic_regression", {"C": 0.5}, data="scale.data"),
        node("judge", "sklearn.evaluate_classification", model="learn.model", data="scale.test"),
        node("group", "sklearn.dbscan", data="scale.data"),
    ]


async def trained(lab: Experiments, seed: int = 7) -> tuple[int, dict[str, int], bytes]:
    """A job that has run, its nodes, and the file that it read."""
    content = mixed_table().frame.to_csv(index=False).encode()
    job, nodes = await lab.job(
        await lab.experiment('all "kinds"'), mixed_graph(await lab.data_set(content, "rows.csv"))
    )
    ended = await lab.run(job, seed=seed)
    assert ended["jobStatus"] == Status.SUCCEEDED, ended
    return job, nodes, content


async def test_a_pipeline_as_onnx_takes_columns_by_name_and_says_what_the_library_says(
    lab: Experiments, tmp_path: Path
) -> None:
    job, nodes, _ = await trained(lab)
    asked = {"jobId": job, "nodeId": nodes["learn"], "portName": "pipeline"}
    file = tmp_path / "pipeline.skops"
    file.write_bytes(await lab.file("/job/download/pipeline", **asked))
    pipeline = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    session = onnxruntime.InferenceSession(await lab.file("/job/download/pipeline", **asked, format="onnx"))

    rows = mixed_table().features
    label, probabilities = session.run(["label", "probabilities"], fed(rows))
    assert label.tolist() == pipeline.predict(rows).tolist()
    np.testing.assert_allclose(probabilities, pipeline.predict_proba(rows), atol=1e-9)
    about = session.get_modelmeta().custom_metadata_map
    told = [about[f"hlink.{name}"] for name in ("job", "node", "port", "seed", "target")]
    assert told == [str(job), str(nodes["learn"]), "pipeline", "7", "y"]
    assert json.loads(about["hlink.classes"]) == ["large", "small"]
    verified = json.loads(about["hlink.verified"])
    assert (verified["of"], verified["rows"]) == ("seen", 42)  # those that it was fitted on


def fed(rows: pd.DataFrame) -> dict[str, np.ndarray[Any, Any]]:
    times = rows["at"].to_numpy(dtype="datetime64[ms]").astype(np.int64).astype(float)
    texts = rows["colour"].fillna("").to_numpy(dtype=object)
    columns = {**{name: rows[name].to_numpy() for name in ("size", "weight", "new")}, "at": times, "colour": texts}
    return {name: values.reshape(-1, 1) for name, values in columns.items()}


async def test_a_model_and_a_preparation_can_be_had_as_onnx_and_what_cannot_is_told(lab: Experiments) -> None:
    job, nodes, _ = await trained(lab)
    asked = {"jobId": job, "nodeId": nodes["learn"], "portName": "model", "format": "onnx"}
    model = onnxruntime.InferenceSession(await lab.file("/job/download/model", **asked))
    inputs = [one.name for one in model.get_inputs()]
    assert {"size", "weight", "at_month", "colour_red", "colour_nan"} <= set(inputs)
    assert json.loads(model.get_modelmeta().custom_metadata_map["hlink.verified"])["of"] == "seen"

    asked = {"jobId": job, "nodeId": nodes["scale"], "portName": "model", "format": "onnx"}
    preparation = onnxruntime.InferenceSession(await lab.file("/job/download/pipeline", **asked))
    (features,) = preparation.run(["features"], fed(mixed_table().features))
    assert features.shape == (60, len(inputs))

    asked = {"jobId": job, "nodeId": nodes["group"], "portName": "model", "format": "onnx"}
    status, said = await lab.refused("GET", "/job/download/model", params=asked)
    assert status == 400
    assert "DBSCAN: it only finds clusters among the rows that it is fitted on" in said
    assert "as skops instead" in said
    assert (await lab.refused("GET", "/job/download/model", params={**asked, "format": "pmml"}))[0] == 400


def printed_by(script: Path, *files: Path) -> str:
    """What a script prints that knows nothing of this tree."""
    command = [sys.executable, "-P", str(script), *map(str, files)]
    done = subprocess.run(command, cwd=script.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_script_comes_to_the_figures_of_the_run(lab: Experiments, tmp_path: Path) -> None:
    job, nodes, content = await trained(lab)
    script, data = tmp_path / "graph.py", tmp_path / "elsewhere.csv"
    data.write_bytes(content)
    script.write_bytes(await lab.file("/job/download/script", jobId=job))
    said = await asyncio.to_thread(printed_by, script, data)
    assert not re.search(r"\bapp\.", script.read_text("utf-8"))

    scores, report = (await lab.figures(job, nodes["judge"], "metrics"))["table"]
    section = said.split("Evaluate a classification\n")[1].split("\n\n")[0]
    printed = dict(line.strip().split(": ") for line in section.splitlines())
    expected = dict(zip(scores["metric"], scores["value"], strict=True))
    assert {name: float(value) for name, value in printed.items()} == pytest.approx(expected, abs=1e-9)
    (row,) = (line.split() for line in said.splitlines() if line.split()[:1] == ["large"])
    assert [float(one) for one in row[1:]] == pytest.approx(
        [report[name][report["class"].index("large")] for name in ("precision", "recall", "f1", "rows")], abs=1e-9
    )


SHIFT = b"""
COMPONENT = {
    "name": "ShiftWeights",
    "inputs": [{"name": "data", "type": "data"}],
    "outputs": [{"name": "data", "type": "data"}],
    "parameters": [{"name": "by", "type": "float", "label": "By", "default": 1.0}],
}


def run(inputs, parameters, seed, figures):
    return {"data": inputs["data"].assign(weight=inputs["data"]["weight"] + parameters["by"])}
"""


async def test_a_script_brings_in_components_of_ones_own_and_models_of_other_jobs(
    lab: Experiments, tmp_path: Path
) -> None:
    before, nodes, content = await trained(lab)
    await lab.ok("POST", "/component/own", files={"file": ("shift.py", SHIFT)})
    graph = [
        node("read", "sklearn.dataset", {"dataset": await lab.data_set(content, "rows.csv"), "target": "y"}),
        node("shift", "own.shift_weights", {"by": 2.5}, data="read.data"),
        node("model", "sklearn.trained_pipeline", {"model": {"jobId": before, "nodeId": nodes["learn"]}}),
        node("use", "sklearn.apply_pipeline", model="model.model", data="shift.data"),
    ]
    job, drawn = await lab.job(await lab.experiment("used again"), graph)
    ended = await lab.run(job)
    assert ended["jobStatus"] == Status.SUCCEEDED, ended
    table = await lab.file("/job/download/table", jobId=job, nodeId=drawn["use"], portName="data")

    script = tmp_path / "graph.py"
    text = await lab.file("/job/download/script", jobId=job)
    script.write_bytes(text + b'apply_a_pipeline.to_csv("predicted.csv", index=False)\n')
    asked = {"jobId": before, "nodeId": nodes["learn"], "portName": "pipeline"}
    (tmp_path / f"job-{before}.skops").write_bytes(await lab.file("/job/download/pipeline", **asked))
    (tmp_path / "rows.csv").write_bytes(content)
    (tmp_path / "shift.py").write_bytes(SHIFT)
    await asyncio.to_thread(printed_by, script)
    made, expected = pd.read_csv(tmp_path / "predicted.csv"), pd.read_csv(io.BytesIO(table))
    pd.testing.assert_frame_equal(made, expected, check_like=True, rtol=1e-9)


async def test_a_graph_that_was_not_run_can_be_taken_away_and_one_that_cannot_be_run_cannot(lab: Experiments) -> None:
    experiment = await lab.experiment("drawn only")
    graph = [
        node("read", "sklearn.dataset", {"dataset": 1}),
        node("learn", "sklearn.random_forest_classifier", data="read.data"),
    ]
    job, nodes = await lab.job(experiment, graph)
    notebook = json.loads(await lab.file("/job/download/script", jobId=job, format="ipynb", seed=11))
    cells = {cell["id"]: "".join(cell["source"]) for cell in notebook["cells"]}
    assert "SEED = 11" in cells["imports"]
    assert "RandomForestClassifier(random_state=SEED)" in cells[f"node-{nodes['learn']}"]

    unfinished, _ = await lab.job(experiment, [node("learn", "sklearn.svc")])
    status, said = await lab.refused("GET", "/job/download/script", params={"jobId": unfinished})
    assert (status, "nothing is tied to its input 'data'" in said) == (400, True)
    assert (await lab.refused("GET", "/job/download/script", params={"jobId": 1}))[0] == 404
