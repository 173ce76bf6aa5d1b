"""Experiments of deep learning where no framework of it is installed: they are drawn, and refused with the remedy."""

from __future__ import annotations

import pytest

from app.visual.family import family
from tests.graphs import Experiments, node
from tests.services import Serve


@pytest.fixture
async def lab(serve: Serve) -> Experiments:
    client, _ = await serve(family)
    return Experiments(client)


@pytest.mark.parametrize(
    ("framework", "said"),
    [
        (4, "hlink frameworks install pytorch"),
        (2, "hlink frameworks install tensorflow"),
        (3, "MXNet was retired by its makers in 2023"),
    ],
)
async def test_a_run_is_refused_with_what_has_to_be_done(lab: Experiments, framework: int, said: str) -> None:
    experiment = await lab.experiment("deep", learnType=2, frameId=framework)
    job, _ = await lab.job(experiment, [node("read", "sklearn.dataset", {"dataset": 4})])
    status, message = await lab.refused("POST", "/job/run", json={"jobId": job})

    assert (status, said in message) == (503, True), message
    rows = {one["frameId"]: one for one in (await lab.ok("GET", "/framework/list", params={"learnType": 2}))["data"]}
    assert set(rows) == {2, 3, 4}
    assert (rows[framework]["available"], said in rows[framework]["remedy"]) == (False, True)


async def test_layers_are_components_of_the_framework(lab: Experiments) -> None:
    stages = await lab.ok("GET", "/component/structure", params={"frameId": 4})
    network = next(stage for stage in stages if stage["name"] == "network")
    layers = {one["uuid"]: one for group in network["children"] for one in group["operators"]}
    convolution = layers["pytorch.conv2d"]
    assert convolution["ports"] == {
        "in": [{"name": "network", "dtype": "network", "optional": False}],
        "out": [{"name": "network", "dtype": "network"}],
    }
    assert {"pytorch.linear", "pytorch.residual_block", "pytorch.dropout", "pytorch.gelu"} <= set(layers)
    retired = await lab.ok("GET", "/component/structure", params={"frameId": 3})
    assert [one for stage in retired for group in stage["children"] for one in group["operators"]] == []
