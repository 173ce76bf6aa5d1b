"""Experiments and the graphs of their jobs, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from app.visual.family import family
from tests.graphs import Experiments, Json, node
from tests.services import Serve


@pytest.fixture
async def lab(serve: Serve) -> Experiments:
    client, _ = await serve(family)
    return Experiments(client)


async def test_an_experiment_is_kept_as_it_was_made_and_changed(lab: Experiments) -> None:
    made = await lab.experiment("flights", description="late or not")
    await lab.ok("PUT", "/experiment", json={"expId": made, "expName": "delays"})
    found = await lab.ok("GET", f"/experiment/{made}")

    assert (found["expName"], found["description"]) == ("delays", "late or not")
    assert (found["expPattern"], found["expStatus"], found["learnType"], found["frameId"]) == (1, 0, 1, 1)
    assert found["createTime"] <= found["updateTime"]


async def test_a_name_is_used_once_until_it_is_given_free(lab: Experiments) -> None:
    first = await lab.experiment("flights")
    status, said = await lab.refused(
        "POST", "/experiment", json={"expName": "flights", "expPattern": 1, "learnType": 1, "frameId": 1}
    )
    assert (status, said) == (409, "There is an experiment 'flights' already: choose another expName")
    await lab.ok("DELETE", f"/experiment/{first}")
    await lab.experiment("flights")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frameId": 4}, "pytorch is for learnType 2"),
        ({"expPattern": 7}, "expPattern"),
        ({"expName": "  "}, "expName"),
        ({"expName": "x" * 201}, "expName"),
        ({"frameId": "many"}, "frameId"),
    ],
)
async def test_an_experiment_that_cannot_be_is_refused(lab: Experiments, change: Json, said: str) -> None:
    body: dict[str, Any] = {"expName": "flights", "expPattern": 1, "learnType": 1, "frameId": 1, **change}
    status, message = await lab.refused("POST", "/experiment", json=body)

    assert status == 400
    assert said in message


async def test_the_list_is_searched_and_paged(lab: Experiments) -> None:
    for number in range(12):
        await lab.experiment(f"flights {number}", expPattern=9 if number == 3 else 1)

    first = await lab.ok("GET", "/experiment/list")
    second = await lab.ok("GET", "/experiment/list", params={"page": 2, "limit": 5})
    assert [one["expName"] for one in first["data"]] == [f"flights {number}" for number in range(11, 1, -1)]
    assert second["data"][0]["expName"] == "flights 6"
    assert (second["page"], second["limit"], second["total"]) == (2, 5, 12)
    for query, names in (
        ({"expName": "FLIGHTS 1"}, {"flights 1", "flights 10", "flights 11"}),
        ({"expPattern": 9}, {"flights 3"}),
        ({"expStatus": 4}, set()),
        ({"expStatus": 0, "expName": "7"}, {"flights 7"}),
    ):
        found = await lab.ok("GET", "/experiment/list", params=query)
        assert {one["expName"] for one in found["data"]} == names


async def test_a_graph_is_kept_as_it_was_drawn(lab: Experiments) -> None:
    drawn = [
        node("a", "sklearn.dataset", {"dataset": 1}),
        node("b", "sklearn.standard_scaler", {"with_mean": True}, data="a.data"),
    ]
    drawn[1]["cpntInfo"] |= {"desc": "标准化", "ports": {"in": [{"name": "data", "dtype": "data"}], "out": []}}
    job, ids = await lab.job(await lab.experiment("drawn"), drawn)
    found = await lab.ok("GET", f"/job/{job}")

    second = found["graph"][1]
    assert (found["jobStatus"], found["jobPattern"], second["topPx"], second["leftPx"]) == (0, 1, 10, 20)
    assert second["nodeId"] == ids["b"]
    assert second["nodeEdge"] == [
        {"from_id": str(ids["a"]), "from_port": "data", "to_id": str(ids["b"]), "to_port": "data"}
    ]
    assert second["nodeAttr"] == [{"key": "with_mean", "value": True}]
    assert (second["cpntInfo"]["desc"], second["cpntInfo"]["ports"]["in"]) == (
        "标准化",
        [{"name": "data", "dtype": "data"}],
    )


async def test_nodes_without_a_name_are_called_what_their_edges_call_them(lab: Experiments) -> None:
    drawn = [node("x1", "sklearn.dataset"), node("x2", "sklearn.standard_scaler", data="x1.data")]
    for one in drawn:
        del one["nodeId"]
    drawn[0]["nodeEdge"] = [{**drawn[1]["nodeEdge"][0]}, {**drawn[1]["nodeEdge"][0], "to_id": "x3", "to_port": "test"}]
    drawn[0]["nodeEdge"].pop()
    drawn[0]["nodeId"] = "x1"
    _, ids = await lab.job(await lab.experiment("unnamed"), drawn)

    assert set(ids) == {"x1", "x2"}


async def test_nodes_are_added_changed_and_deleted_and_edges_go_with_them(lab: Experiments) -> None:
    drawn = [
        node("a", "sklearn.dataset"),
        node("b", "sklearn.standard_scaler", data="a.data"),
        node("c", "sklearn.k_means", data="b.data"),
    ]
    job, ids = await lab.job(await lab.experiment("changed"), drawn)
    added = node("d", "sklearn.min_max_scaler", data=f"{ids['a']}.data")
    moved = {**node("", "sklearn.k_means", {"n_clusters": 3}), "nodeId": str(ids["c"]), "topPx": 99}
    gone = {"nodeId": ids["b"], "isDelete": True}
    answer = await lab.ok("PUT", "/job", json={"jobId": job, "graph": [added, moved, gone]})
    graph = {one["nodeId"]: one for one in (await lab.ok("GET", f"/job/{job}"))["graph"]}

    assert set(graph) == {ids["a"], ids["c"], answer["nodeIds"]["d"]}
    assert (graph[ids["c"]]["topPx"], graph[ids["c"]]["nodeEdge"]) == (99, [])


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        ([node("a", "")], "it is not said which component it is"),
        ([node("a", "sklearn.pca", data="b.data")], "names the node 'b', which is not in the graph"),
        ([node("a", "sklearn.pca"), node("a", "sklearn.pca")], "two new nodes are called 'a'"),
        ([{"nodeId": "a", "cpntInfo": {"uuid": "x\x00"}}], "NUL"),
    ],
)
async def test_a_graph_that_cannot_be_kept_is_refused(lab: Experiments, graph: list[Json], said: str) -> None:
    experiment = await lab.experiment("refused")
    status, message = await lab.refused("POST", "/job", json={"expId": experiment, "graph": graph})

    assert status == 400
    assert said in message
    assert (await lab.ok("GET", "/job/list", params={"expId": experiment}))["total"] == "0"


async def test_a_graph_that_cannot_be_run_is_refused_with_every_problem(lab: Experiments) -> None:
    drawn = [node("a", "sklearn.dataset"), node("b", "sklearn.k_means", {"n_clusters": 0})]
    job, _ = await lab.job(await lab.experiment("unfinished"), drawn)
    status, message = await lab.refused("POST", "/job/run", json={"jobId": job})

    assert status == 400
    for said in ("its parameter 'dataset' is required", "nothing is tied to its input 'data'", "'n_clusters' is 0"):
        assert said in message
    assert (await lab.ok("GET", f"/job/status/{job}"))["jobStatus"] == 0


async def test_what_is_not_there_is_told(lab: Experiments) -> None:
    for method, path, body in (
        ("GET", "/experiment/5", None),
        ("DELETE", "/experiment/5", None),
        ("PUT", "/experiment", {"expId": 5, "expName": "x"}),
        ("GET", "/job/5", None),
        ("GET", "/job/status/5", None),
        ("POST", "/job/run", {"jobId": 5}),
        ("POST", "/job/stop", {"jobId": 5}),
        ("PUT", "/job", {"jobId": 5, "graph": []}),
        ("POST", "/job", {"expId": 5, "graph": []}),
        ("GET", "/job/list?expId=5", None),
        ("GET", "/job/log?jobId=5&offset=0", None),
        ("GET", "/job/index?jobId=5&nodeId=6&portName=data", None),
    ):
        status, message = await lab.refused(method, path, **({"json": body} if body else {}))
        assert (status, "There is no" in message) == (404, True), (method, path, message)


async def test_a_job_is_deleted_from_its_own_experiment(lab: Experiments) -> None:
    experiment = await lab.experiment("mine")
    job, _ = await lab.job(experiment, [])
    status, _ = await lab.refused("DELETE", f"/job/{job}", json={"expId": experiment + 1})
    assert status == 400
    await lab.ok("DELETE", f"/job/{job}", json={"expId": experiment})
    assert (await lab.refused("GET", f"/job/{job}"))[0] == 404


async def test_the_choices_have_their_published_codes(lab: Experiments) -> None:
    assert (await lab.ok("GET", "/experiment/pattern/list"))["data"] == [
        {"expPattern": 1, "patternName": "拖拽式"},
        {"expPattern": 9, "patternName": "全自动"},
    ]
    assert [one["expStatus"] for one in (await lab.ok("GET", "/experiment/status/list"))["data"]] == [0, 1, 2, 3, 4, 5]
    assert [one["learnType"] for one in (await lab.ok("GET", "/experiment/learnType/list"))["data"]] == [1, 2]
    deep = (await lab.ok("GET", "/framework/list", params={"learnType": 2}))["data"]
    assert [one["frameName"] for one in deep] == ["tensorflow", "mxnet", "pytorch"]


async def test_components_are_answered_by_stage_and_group(lab: Experiments) -> None:
    stages = await lab.ok("GET", "/component/structure", params={"frameId": 1})
    assert [stage["name"] for stage in stages][:3] == ["dataio", "preprocess", "algorithm"]
    algorithms = next(stage for stage in stages if stage["name"] == "algorithm")
    classifiers = next(group for group in algorithms["children"] if group["name"] == "classification")["operators"]
    forest = next(one for one in classifiers if one["uuid"] == "sklearn.random_forest_classifier")
    assert forest["clazzname"] == "RandomForestClassifier"
    assert {port["dtype"] for port in forest["ports"]["out"]} == {"sklearn_model", "pipeline_model"}
    assert {"name", "hint", "desc", "ptype", "default", "is_required", "front", "choice", "item_type"} <= set(
        forest["params"][0]
    )


async def test_attributes_of_port_types(lab: Experiments) -> None:
    found = await lab.ok(
        "GET", "/component/attribute", params={"frameId": 1, "portTypes": "sklearn_model,pipeline_model"}
    )
    assert [one["portType"] for one in found] == ["sklearn_model", "pipeline_model"]
    assert found[0]["attribute"][0]["name"] == "downloadModel"
    status, _ = await lab.refused("GET", "/component/attribute", params={"frameId": 1, "portTypes": "rabbit"})
    assert status == 400
