"""Graphs of PyTorch over HTTP, held against the same training written by hand."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.visual.catalogue import Framework
from app.visual.choices import Status
from tests.frameworks.conftest import ByHand
from tests.graphs import Experiments, Json, node

pytestmark = pytest.mark.timeout(300)

SEED = 7
CONVOLUTIONS = [
    ("conv", "pytorch.conv2d", {"out_channels": 8}),
    ("relu", "pytorch.relu", {}),
    ("pool", "pytorch.max_pool2d", {"kernel_size": "2"}),
    ("flat", "pytorch.flatten", {}),
    ("out", "pytorch.linear", {"out_features": 10}),
]


def chain(begin: str, layers: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[Json]:
    """Layers, each tied to the one before."""
    before = [begin, *(name for name, _, _ in layers)]
    return [
        node(name, component, parameters, network=f"{last}.network")
        for (name, component, parameters), last in zip(layers, before, strict=False)
    ]


def digits(layers: Sequence[tuple[str, str, Mapping[str, Any]]] = CONVOLUTIONS, **training: Any) -> list[Json]:
    """Read, split, a network, train, evaluate."""
    return [
        node("read", "sklearn.dataset", {"dataset": 4}),
        node("split", "sklearn.train_test_split", data="read.data"),
        node("begin", "pytorch.input", {"height": 8, "width": 8}, data="split.train"),
        *chain("begin", layers),
        node(
            "learn",
            "pytorch.train_classifier",
            {"learning_rate": 0.01, "patience": 0, **training},
            network=f"{layers[-1][0]}.network",
            data="split.train",
        ),
        node("judge", "sklearn.evaluate_classification", model="learn.model", data="split.test"),
    ]


async def deep(lab: Experiments, graph: Sequence[Json]) -> tuple[int, dict[str, int]]:
    experiment = await lab.experiment("deep", learnType=2, frameId=4)
    return await lab.job(experiment, graph)


def scores(figures: Mapping[str, list[Json]]) -> dict[str, float]:
    (table, *_) = figures["table"]
    return dict(zip(table["metric"], table["value"], strict=True))


def lines(figures: Mapping[str, list[Json]], title: str = "loss") -> Json:
    found: Json = next(one for one in figures["multi_curve"] if one["title"] == title)
    return found


async def test_a_convolutional_network_is_that_of_the_same_lines_of_pytorch(
    lab: Experiments, by_hand: ByHand, tmp_path: Path
) -> None:
    job, nodes = await deep(lab, digits(epochs=3))
    ended = await lab.run(job, seed=SEED)
    assert ended["jobStatus"] == Status.SUCCEEDED, ended

    same = by_hand(Framework.PYTORCH, "digits", 3)
    learnt = await lab.figures(job, nodes["learn"], "model")
    assert lines(learnt)["x"] == [1, 2, 3]
    for name in ("loss", "validation loss"):
        assert lines(learnt)["y"][name] == pytest.approx(same[name], abs=1e-5)
    judged = scores(await lab.figures(job, nodes["judge"], "metrics"))
    assert judged["log loss"] == pytest.approx(same["log loss"], abs=1e-5)
    assert judged["accuracy"] == pytest.approx(same["accuracy"], abs=1e-5)
    assert judged["accuracy"] > 0.9

    # What was trained is kept, and can be taken away.
    await lab.run(job, seed=SEED)
    assert all(one["reused"] for one in (await lab.ok("GET", f"/job/{job}"))["graph"])
    asked = {"jobId": job, "nodeId": nodes["learn"], "portName": "model"}
    answer = await lab.client.get("/visualmodule/job/download/model", params=asked, timeout=120)
    file = tmp_path / "model.zip"
    file.write_bytes(answer.content)
    with zipfile.ZipFile(file) as archive:
        assert sorted(archive.namelist()) == ["model.onnx", "network.json", "weights.safetensors"]
    assert by_hand(Framework.PYTORCH, "exported", file)["accuracy"] > 0.9


async def test_a_network_of_rows_is_that_of_the_same_lines_of_pytorch(lab: Experiments, by_hand: ByHand) -> None:
    graph = [
        node("read", "sklearn.dataset", {"dataset": 5}),
        node("split", "sklearn.train_test_split", data="read.data"),
        node("scale", "sklearn.standard_scaler", data="split.train", test="split.test"),
        node("begin", "pytorch.input", data="scale.data"),
        *chain(
            "begin",
            [
                ("first", "pytorch.linear", {"out_features": 32}),
                ("norm", "pytorch.batch_norm1d", {}),
                ("active", "pytorch.leaky_relu", {"negative_slope": 0.1}),
                ("drop", "pytorch.dropout", {"p": 0.2}),
                ("last", "pytorch.linear", {"out_features": 1}),
            ],
        ),
        node(
            "learn",
            "pytorch.train_regressor",
            {"loss": "huber", "optimizer": "adamw", "learning_rate": 0.005, "weight_decay": 0.01, "epochs": 8,
             "batch_size": 16, "patience": 0},
            network="last.network",
            data="scale.data",
        ),
        node("judge", "sklearn.evaluate_regression", model="learn.model", data="scale.test"),
        node("predict", "sklearn.predict", model="learn.model", data="scale.test"),
        node("weigh", "sklearn.permutation_importance", {"n_repeats": 2}, model="learn.model", data="scale.test"),
        node("fold", "sklearn.cross_validation", {"cv": 2}, pipeline="learn.pipeline", data="read.data"),
    ]  # fmt: skip
    job, nodes = await deep(lab, graph)
    ended = await lab.run(job, seed=SEED)
    assert ended["jobStatus"] == Status.SUCCEEDED, ended

    same = by_hand(Framework.PYTORCH, "diabetes", 8)
    learnt = await lab.figures(job, nodes["learn"], "model")
    for name in ("loss", "validation loss"):
        assert lines(learnt)["y"][name] == pytest.approx(same[name], abs=1e-5)
    judged = await lab.figures(job, nodes["judge"], "metrics")
    assert scores(judged)["MAE"] == pytest.approx(same["MAE"], abs=1e-3)  # of numbers about 150
    assert {"scatter", "histogram"} <= set(judged)
    columns = await lab.ok(
        "GET", "/job/statistic", params={"jobId": job, "nodeId": nodes["predict"], "portName": "data"}
    )
    assert next(one for one in columns if one["name"] == "prediction")["missing"] == 0
    asked = {"jobId": job, "nodeId": nodes["learn"], "portName": "pipeline"}
    answer = await lab.client.get("/visualmodule/job/download/pipeline", params=asked, timeout=120)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert "preparation.skops" in archive.namelist()


async def test_a_network_predicts_in_jobs_of_its_own_framework(lab: Experiments) -> None:
    simple = digits([("flat", "pytorch.flatten", {}), ("out", "pytorch.linear", {"out_features": 10})], epochs=2)
    job, nodes = await deep(lab, simple)
    assert (await lab.run(job))["jobStatus"] == Status.SUCCEEDED
    asked = {"jobId": job, "nodeId": nodes["learn"], "portName": "model", "format": "skops"}
    status, said = await lab.refused("GET", "/job/download/model", params=asked)
    assert (status, "take it as zip or onnx" in said) == (400, True), said

    predictions = {}
    for framework, learning in ((4, 2), (1, 1)):
        experiment = await lab.experiment(f"new rows {framework}", learnType=learning, frameId=framework)
        wanted = {"expId": experiment, "jobPattern": 0, "model": {"jobId": job}, "dataId": 4}
        predictions[framework] = await lab.ok("POST", "/job", json=wanted)
    ended = await lab.run(predictions[4]["jobId"])
    assert ended["jobStatus"] == Status.SUCCEEDED, ended
    page = {"jobId": predictions[4]["jobId"], "nodeId": predictions[4]["nodeIds"]["predict"], "portName": "data"}
    rows = await lab.ok("GET", "/job/rows", params=page)
    names = [column["name"] for column in rows["columns"]]
    right = [row[names.index("prediction")] == row[names.index("target")] for row in rows["data"]]
    assert rows["total"] == 1797
    assert sum(right) > 0.8 * len(right)
    ended = await lab.run(predictions[1]["jobId"])
    assert "a network that computes with torch, which this experiment has not" in ended["reason"]


async def test_training_ends_when_it_gets_no_better_and_the_best_epoch_stays(lab: Experiments) -> None:
    graph = digits([("flat", "pytorch.flatten", {}), ("out", "pytorch.linear", {"out_features": 10})],
                   epochs=200, patience=3, learning_rate=0.05)  # fmt: skip
    job, nodes = await deep(lab, graph)
    ended = await lab.run(job, seed=SEED)
    assert ended["jobStatus"] == Status.SUCCEEDED, ended

    learnt = await lab.figures(job, nodes["learn"], "model")
    told, validation = scores(learnt), lines(learnt)["y"]["validation loss"]
    best = min(range(len(validation)), key=validation.__getitem__) + 1
    assert told["epochs"] == len(validation) == best + 3 < 200
    assert told["best epoch"] == best
    assert told["validation loss"] == min(validation)


async def test_curves_grow_while_it_runs_and_a_stop_ends_it(lab: Experiments) -> None:
    job, nodes = await deep(lab, digits(epochs=5000))
    await lab.ok("POST", "/job/run", json={"jobId": job})
    seen: list[int] = []
    while len(seen) < 3:
        status = await lab.until(
            job, lambda status: {one["nodeId"]: one for one in status["graph"]}[nodes["learn"]]["nodeStatus"] >= 2
        )
        assert status["jobStatus"] == Status.RUNNING, status
        figures = await lab.figures(job, nodes["learn"], "model")
        if figures and (count := len(lines(figures)["x"])) not in seen:
            assert len(lines(figures)["y"]["loss"]) == count
            assert len(lines(figures, "accuracy")["y"]["validation accuracy"]) == count
            seen.append(count)
    assert seen == sorted(seen)
    await lab.ok("POST", "/job/stop", json={"jobId": job})
    await lab.until(job, lambda status: status["jobStatus"] == Status.STOPPED)


@pytest.mark.parametrize(
    ("layers", "failing", "said"),
    [
        (
            [("conv", "pytorch.conv2d", {"out_channels": 8}), ("out", "pytorch.linear", {"out_features": 10})],
            "out",
            "Linear takes rows of numbers, and 'Conv2d' before it brings out 8 x 6 x 6: put Flatten between them",
        ),
        (
            [("conv", "pytorch.conv2d", {"out_channels": 8, "kernel_size": 9})],
            "conv",
            "Conv2d does not fit: 'Input' before it brings out 1 x 8 x 8",
        ),
        (
            [("flat", "pytorch.flatten", {}), ("conv", "pytorch.residual_block", {"out_channels": 8})],
            "conv",
            "ResidualBlock takes images (channels x height x width), and 'Flatten' before it brings out 64",
        ),
        (
            [("flat", "pytorch.flatten", {}), ("out", "pytorch.linear", {"out_features": 9})],
            "learn",
            "ends in 'Linear', which brings out 9, and 'target' has 10 classes: let it end in Linear with 10 outputs",
        ),
        (
            [*CONVOLUTIONS, ("soft", "pytorch.softmax", {})],
            "learn",
            "The loss makes probabilities by itself: take the softmax at the end of the network out",
        ),
    ],
)
async def test_a_layer_that_does_not_fit_is_named(
    lab: Experiments, layers: list[tuple[str, str, Mapping[str, Any]]], failing: str, said: str
) -> None:
    job, nodes = await deep(lab, digits(layers))
    ended = await lab.run(job)

    failed = {one["nodeId"]: one["reason"] for one in ended["graph"] if one["nodeStatus"] == Status.FAILED}
    assert list(failed) == [nodes[failing]], ended
    assert said in failed[nodes[failing]]


async def test_images_of_folders_are_learnt_by_blocks(lab: Experiments) -> None:
    made = await lab.ok("POST", "/dataset", json={"dataType": 1, "dataSource": 1, "dataName": "stripes"})
    await upload(lab, int(made["dataId"]), stripes())
    graph = [
        node("read", "deep.images", {"dataset": made["dataId"], "height": 12, "width": 12, "mode": "grey"}),
        node("split", "sklearn.train_test_split", {"stratify": True}, data="read.data"),
        node("begin", "pytorch.input", data="split.train"),
        *chain(
            "begin",
            [
                ("block", "pytorch.conv_block", {"out_channels": 4, "pool": 2}),
                ("residual", "pytorch.residual_block", {"out_channels": 8, "stride": 2}),
                ("mean", "pytorch.adaptive_avg_pool2d", {}),
                ("flat", "pytorch.flatten", {}),
                ("out", "pytorch.linear", {"out_features": 2}),
            ],
        ),
        node(
            "learn",
            "pytorch.train_classifier",
            {"epochs": 15, "batch_size": 8, "learning_rate": 0.01, "patience": 0},
            network="out.network",
            data="split.train",
            validation="split.test",
        ),
        node("judge", "sklearn.evaluate_classification", model="learn.model", data="split.test"),
        node("predict", "sklearn.predict", model="learn.model", data="split.test"),
    ]
    job, nodes = await deep(lab, graph)
    ended = await lab.run(job, seed=SEED)
    assert ended["jobStatus"] == Status.SUCCEEDED, ended
    assert scores(await lab.figures(job, nodes["judge"], "metrics"))["accuracy"] > 0.9
    columns = await lab.ok("GET", "/job/statistic", params={"jobId": job, "nodeId": nodes["read"], "portName": "data"})
    page = {"jobId": job, "nodeId": nodes["predict"], "portName": "data", "limit": 1}
    (row,) = (await lab.ok("GET", "/job/rows", params=page))["data"]
    assert row[0].startswith("data:image/png;base64,iVBORw0KGgo")
    assert [(one["name"], one["type"], one["missing"]) for one in columns] == [
        ("image", "image", 0),
        ("label", "object", 0),
    ]


def test_what_can_be_set_is_what_pytorch_knows(by_hand: ByHand) -> None:
    assert by_hand(Framework.PYTORCH, "unknown_parameters") == []


def stripes() -> bytes:
    """An archive of 80 images of 16 x 16 pixels, with noise: upright stripes and lying ones."""
    chance = random.Random(SEED)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number in range(40):
            for name, along in (("upright", 1), ("lying", 0)):
                rows = [
                    bytes(128 * ((row, column)[along] // 2 % 2) + chance.randrange(100) for column in range(16))
                    for row in range(16)
                ]
                archive.writestr(f"stripes/{name}/{number}.png", png(rows))
    return content.getvalue()


def png(rows: Sequence[bytes]) -> bytes:
    """Grey pixels as a file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


async def upload(lab: Experiments, data_id: int, content: bytes) -> None:
    """A data set's file, in one fragment, until it can be read."""
    digest = hashlib.md5(content).hexdigest()
    fields = {
        "dataId": data_id, "fileMd5": digest, "fileName": "t.zip", "fragmentName": "t.zip.0", "fragmentMd5": digest,
        "fragmentIndex": 0, "fragmentCount": 1,
    }  # fmt: skip
    sent = {name: str(value) for name, value in fields.items()}
    await lab.ok("POST", "/dataset/file", data=sent, files={"file": ("t.zip.0", content)})
    for _ in range(400):
        if (await lab.ok("GET", f"/dataset/{data_id}"))["dataStatus"] == 3:
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"data set {data_id} is not whole")
