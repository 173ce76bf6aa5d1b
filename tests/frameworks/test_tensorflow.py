"""Graphs of TensorFlow over HTTP, held against the same training written by hand."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from app.visual.catalogue import Framework
from app.visual.choices import Status
from tests.frameworks.conftest import ByHand
from tests.frameworks.test_pytorch import SEED, chain, lines, scores
from tests.graphs import Experiments, Json, node

pytestmark = pytest.mark.timeout(300)

CONVOLUTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("conv", "tensorflow.conv2d", {"filters": 8}),
    ("relu", "tensorflow.activation", {"activation": "relu"}),
    ("pool", "tensorflow.max_pooling2d", {}),
    ("flat", "tensorflow.flatten", {}),
    ("out", "tensorflow.dense", {"units": 10}),
]


def digits(layers: list[tuple[str, str, dict[str, Any]]]) -> list[Json]:
    return [
        node("read", "sklearn.dataset", {"dataset": 4}),
        node("split", "sklearn.train_test_split", data="read.data"),
        node("begin", "tensorflow.input", {"height": 8, "width": 8}, data="split.train"),
        *chain("begin", layers),
        node(
            "learn",
            "tensorflow.train_classifier",
            {"learning_rate": 0.01, "patience": 0, "epochs": 2},
            network=f"{layers[-1][0]}.network",
            data="split.train",
        ),
        node("judge", "sklearn.evaluate_classification", model="learn.model", data="split.test"),
    ]


async def test_a_convolutional_network_is_that_of_the_same_lines_of_tensorflow(
    lab: Experiments, by_hand: ByHand
) -> None:
    job, nodes = await lab.job(await lab.experiment("deep", learnType=2, frameId=2), digits(CONVOLUTIONS))
    ended = await lab.run(job, seed=SEED)
    assert ended["jobStatus"] == Status.SUCCEEDED, ended

    same = by_hand(Framework.TENSORFLOW, "digits", 2)
    learnt = await lab.figures(job, nodes["learn"], "model")
    for name in ("loss", "validation loss"):
        assert lines(learnt)["y"][name] == pytest.approx(same[name], abs=1e-5)
    judged = scores(await lab.figures(job, nodes["judge"], "metrics"))
    assert judged["log loss"] == pytest.approx(same["log loss"], abs=1e-5)
    assert judged["accuracy"] == pytest.approx(same["accuracy"], abs=1e-5)
    asked = {"jobId": job, "nodeId": nodes["learn"], "portName": "model"}
    answer = await lab.client.get("/visualmodule/job/download/model", params=asked, timeout=120)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert sorted(archive.namelist()) == ["model.keras", "network.json", "weights.safetensors"]


async def test_a_layer_that_does_not_fit_is_named(lab: Experiments) -> None:
    graph = digits([("out", "tensorflow.dense", {"units": 10})])
    job, nodes = await lab.job(await lab.experiment("deep", learnType=2, frameId=2), graph)
    ended = await lab.run(job)

    failed = {one["nodeId"]: one["reason"] for one in ended["graph"] if one["nodeStatus"] == Status.FAILED}
    assert list(failed) == [nodes["out"]], ended
    assert "Dense takes rows of numbers, and 'Input' before it brings out 8 x 8 x 1" in failed[nodes["out"]]


async def test_a_network_of_rows_learns_numbers(lab: Experiments) -> None:
    graph = [
        node("read", "sklearn.dataset", {"dataset": 5}),
        node("scale", "sklearn.standard_scaler", data="read.data"),
        node("begin", "tensorflow.input", data="scale.data"),
        *chain(
            "begin",
            [
                ("first", "tensorflow.dense", {"units": 16}),
                ("norm", "tensorflow.batch_normalization", {}),
                ("active", "tensorflow.activation", {}),
                ("drop", "tensorflow.dropout", {"rate": 0.1}),
                ("last", "tensorflow.dense", {"units": 1}),
            ],
        ),
        node("learn", "tensorflow.train_regressor", {"epochs": 30, "learning_rate": 0.01},
             network="last.network", data="scale.data"),
        node("judge", "sklearn.evaluate_regression", model="learn.model", data="scale.data"),
    ]  # fmt: skip
    job, nodes = await lab.job(await lab.experiment("rows", learnType=2, frameId=2), graph)
    ended = await lab.run(job, seed=SEED)
    assert ended["jobStatus"] == Status.SUCCEEDED, ended
    assert scores(await lab.figures(job, nodes["judge"], "metrics"))["R2"] > 0.4
