"""Components of people's own, over HTTP: taken in without being executed, listed, run, versioned, taken away."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from sklearn import datasets, metrics

from app.service import Service
from app.visual.choices import Status
from app.visual.family import family
from tests.graphs import Experiments, Json, node
from tests.services import Serve

pytestmark = pytest.mark.timeout(240)
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What differs between databases is how components are kept."""

CLIP = '''
"""Values that are not far off."""
COMPONENT = {
    "name": "ClipValues",
    "label": {"zh": "截断", "en": "Clip values"},
    "inputs": [{"name": "data", "type": "data"}],
    "outputs": [{"name": "data", "type": "data"}, {"name": "metrics", "type": "metrics"}],
    "parameters": [{"name": "limit", "type": "float", "label": "Limit", "default": 3.0, "min": 0}, "random_state"],
}


def run(inputs, parameters, seed, figures):
    frame = inputs["data"]
    numbers = [name for name in frame.select_dtypes("number") if name != frame.attrs["target"]]
    frame[numbers] = frame[numbers].clip(upper=parameters["limit"])
    figures("metrics").table({"metric": ["seed", "largest"], "value": [seed, frame[numbers].max().max()]})
    return {"data": frame}
'''
FOREST = """
from sklearn.ensemble import RandomForestClassifier

COMPONENT = {
    "name": "Forest",
    "inputs": [{"name": "data", "type": "data"}],
    "outputs": [{"name": "model", "type": "sklearn_model"}],
}


def run(inputs, parameters, seed, figures):
    frame = inputs["data"]
    target = frame.attrs["target"]
    return {"model": RandomForestClassifier(5, random_state=seed).fit(frame.drop(columns=target), frame[target])}
"""


class Lab(Experiments):
    """The API, and the service behind it."""

    service: Service

    async def upload(self, source: str, name: str = "mine.py") -> Json:
        made: Json = await self.ok("POST", "/component/own", files={"file": (name, source.encode())})
        return made

    async def not_taken(self, source: str, name: str = "mine.py", status: int = 400) -> str:
        found, said = await self.refused("POST", "/component/own", files={"file": (name, source.encode())})
        assert found == status, said
        return said


@pytest.fixture
async def lab(serve: Serve) -> Lab:
    client, service = await serve(family, tick_s=0.2, lease_s=2)
    made = Lab(client)
    made.service = service
    return made


def clipped(**parameters: object) -> list[Json]:
    return [
        node("read", "sklearn.dataset", {"dataset": 1}),
        node("clip", "own.clip_values", parameters, data="read.data"),
        node("learn", "sklearn.gaussian_nb", data="clip.data"),
    ]


def failing(number: int, line: str) -> str:
    """A component whose function has this as its second line, the file's eighth."""
    return f"""COMPONENT = {{
    "name": "Mine{number}",
    "inputs": [{{"name": "data", "type": "data"}}],
    "outputs": [{{"name": "data", "type": "data"}}],
}}
def run(inputs, parameters, seed, figures):
    frame = inputs["data"]
    {line}
"""


async def test_a_component_of_ones_own_is_offered_used_renewed_and_taken_away(lab: Lab) -> None:
    made = await lab.upload(CLIP, "clip.py")
    assert (made["uuid"], made["clazzname"], made["version"]) == ("own.clip_values", "ClipValues", 1)
    assert (await lab.upload(CLIP, "clip.py"))["version"] == 1
    stages = await lab.ok("GET", "/component/structure", params={"frameId": 1})
    (offered,) = next(stage for stage in stages if stage["name"] == "own")["children"][0]["operators"]
    assert offered == made["operator"]
    assert [(one["name"], one["ptype"], one["default"]) for one in offered["params"]] == [
        ("limit", "float", 3.0), ("random_state", "int", None),
    ]  # fmt: skip

    job, nodes = await lab.job(await lab.experiment("clipped"), clipped(limit="2.5"))
    assert (await lab.run(job, seed=7))["jobStatus"] == Status.SUCCEEDED
    page = await lab.rows(job, nodes["clip"], limit=200)
    expected = datasets.load_iris(as_frame=True).data.clip(upper=2.5)
    assert [row[:4] for row in page["data"]] == expected.to_numpy().tolist()
    (table,) = (await lab.figures(job, nodes["clip"], "metrics"))["table"]
    assert table["value"] == [7, 2.5]

    # The same file is the same node; another one is run, and so is what needs it.
    await lab.run(job, seed=7)
    graph = {one["nodeId"]: one["reused"] for one in (await lab.ok("GET", f"/job/{job}"))["graph"]}
    assert set(graph.values()) == {True}
    renewed = await lab.upload(CLIP.replace('"limit"])', '"limit"] - 1)'), "clip.py")
    assert renewed["version"] == 2
    await lab.run(job, seed=7)
    graph = {one["nodeId"]: one["reused"] for one in (await lab.ok("GET", f"/job/{job}"))["graph"]}
    assert graph == {nodes["read"]: True, nodes["clip"]: False, nodes["learn"]: False}

    listed = await lab.ok("GET", "/component/own", params={"name": "clip"})
    assert [(one["uuid"], one["version"], one["fileName"]) for one in listed["data"]] == [
        ("own.clip_values", 2, "clip.py")
    ]
    answer = await lab.client.get("/visualmodule/component/own/own.clip_values/file")
    assert answer.text == CLIP.replace('"limit"])', '"limit"] - 1)')
    status, said = await lab.refused("DELETE", "/component/own/own.clip_values")
    assert (status, said) == (409, f"own.clip_values is used by the jobs {job}: take it out of them first")
    await lab.ok("DELETE", f"/job/{job}")
    await lab.ok("DELETE", "/component/own/own.clip_values")
    assert (await lab.refused("GET", "/component/own/own.clip_values"))[0] == 404
    assert (await lab.upload(CLIP, "clip.py"))["version"] == 3


@ON_SQLITE
async def test_a_model_of_ones_own_component_is_judged_as_any_other(lab: Lab) -> None:
    await lab.upload(FOREST)
    graph = [
        node("read", "sklearn.dataset", {"dataset": 3}),
        node("learn", "own.forest", data="read.data"),
        node("judge", "sklearn.evaluate_classification", model="learn.model", data="read.data"),
    ]
    job, nodes = await lab.job(await lab.experiment("own forest"), graph)
    assert (await lab.run(job, seed=1))["jobStatus"] == Status.SUCCEEDED
    features, labels = datasets.load_breast_cancer(return_X_y=True, as_frame=True)
    by_hand: Any = {}
    exec(dedent(FOREST), by_hand)
    frame = features.assign(target=labels)
    frame.attrs["target"] = "target"
    model = by_hand["run"]({"data": frame}, {}, 1, None)["model"]
    (table, *_) = (await lab.figures(job, nodes["judge"], "metrics"))["table"]
    assert dict(zip(table["metric"], table["value"], strict=True))["accuracy"] == pytest.approx(
        metrics.accuracy_score(labels, model.predict(features))
    )


@ON_SQLITE
async def test_what_goes_wrong_in_the_file_is_told_with_node_and_line(lab: Lab) -> None:
    wrong = (
        ("return {'data': frame['length']}", "1.py, line 8, in run: KeyError: 'length' [return {'data': "),
        ("raise SystemExit(0)", "2.py, line 8, in run: It ended its process (SystemExit: 0), which"),
        ("import os; os._exit(0)", "Its process ended before it was done"),
        ("return frame", "4.py: run has to return a dictionary, output -> value; it returned a DataFrame"),
        ("return {'dat': frame}", "5.py: run returned 'dat', which COMPONENT does not declare as an output"),
        ("return {}", "6.py: run returned nothing for its output 'data'"),
        ("return {'data': 5}", "7.py: the output 'data' has to be a DataFrame of pandas; it is a int"),
        ("return {'data': frame.assign(x=[{1}] * 150)}", "The column 'x' has values of a type that cannot be kept"),
        ("figures('nowhere')", "9.py, line 8, in run: ValueError: there is no output 'nowhere': there are data"),
    )  # fmt: skip
    graph = [node("read", "sklearn.dataset", {"dataset": 1})]
    for number, (line, _) in enumerate(wrong, 1):
        await lab.upload(failing(number, line), f"{number}.py")
        graph.append(node(f"own{number}", f"own.mine{number}", data="read.data"))
    job, nodes = await lab.job(await lab.experiment("wrong"), graph)
    ended = await lab.run(job)

    assert ended["jobStatus"] == Status.FAILED
    reasons = {one["nodeId"]: one["reason"] for one in ended["graph"]}
    for number, (_, said) in enumerate(wrong, 1):
        assert said in reasons[nodes[f"own{number}"]]
        assert f"'Mine{number}': {reasons[nodes[f'own{number}']]}" in ended["reason"]
    log = (await lab.ok("GET", "/job/log", params={"jobId": job, "offset": 0}))["content"]
    assert "File \"9.py\", line 8, in run\n    figures('nowhere')\nValueError" in log


@ON_SQLITE
async def test_a_file_that_declares_no_component_is_refused_and_nothing_of_it_is_executed(
    lab: Lab, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    run = "def run(inputs, parameters, seed, figures): pass\n"
    outputs = '"outputs": [{"name": "data", "type": "data"}]'
    wrong_default = '"parameters": [{"name": "b", "type": "int", "default": "c"}]'
    for source, said in (
        (f"open({str(trace)!r}, 'w')\n{run}", "it assigns COMPONENT 0 times"),
        (f"COMPONENT = {{\n'name': open({str(trace)!r}, 'w')}}\n{run}", "line 2: mine.py: COMPONENT has to"),
        (f"COMPONENT = [1]\n{run}", "COMPONENT is no dictionary"),
        ("COMPONENT = {}\n", "it has no function 'run': write def run(inputs, parameters, seed, figures)"),
        ("COMPONENT = {}\ndef run(frame): pass\n", "its function 'run' takes other arguments"),
        ("COMPONENT = {\n", "it is not Python"),
        (f'COMPONENT = {{"name": "my part", {outputs}}}\n{run}', "COMPONENT.name: 'my part' is no name"),
        (f'COMPONENT = {{"name": "A", "step": "x.y", {outputs}}}\n{run}', "step cannot be declared"),
        (f'COMPONENT = {{"name": "A", {outputs}, {wrong_default}}}\n{run}',
         "the default of b is 'c', which is not of type int"),
        (f'COMPONENT = {{"name": "A", {outputs}, "inputs": [{{"name": "b", "type": "rabbit"}}]}}\n{run}',
         "COMPONENT.inputs.0.type: 'rabbit' is not one of"),
        (f"x = {'(' * 50_000}1\n{run}", "mine.py"),
        ("#" * 600_000, "524288 are the most"),
    ):  # fmt: skip
        assert said in await lab.not_taken(source), source[:200]
    assert "is not called .py" in await lab.not_taken(CLIP, "clip.txt")
    assert (await lab.ok("GET", "/component/own"))["total"] == 0
    assert not trace.exists()


@ON_SQLITE
async def test_uploads_can_be_switched_off(serve: Serve) -> None:
    client, _ = await serve(family, visual_own_components=False)
    assert "HLINK_VISUAL_OWN_COMPONENTS is off" in await Lab(client).not_taken(CLIP, status=403)
