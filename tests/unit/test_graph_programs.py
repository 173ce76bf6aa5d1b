"""Graphs as programs: every component can be written, and what is written comes to the same as the engine."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.visual.catalogue import Component, PortType
from app.visual.datasets.csv_format import written_here
from app.visual.engine import export, presets
from app.visual.engine.figures import Figures
from app.visual.engine.plan import OWN_FILE, OWN_NAME, OWN_OUTPUTS
from app.visual.engine.script import written
from app.visual.engine.scripts import writer
from app.visual.engine.scripts.program import Program
from app.visual.engine.steps import Task, step
from app.visual.engine.values import NodeFailure, Table
from tests.steps import COMPONENTS, ON_MIXED, SEED, Run, component_of, defaults, kept, mixed_table, node, preset

Drawn = tuple[str, Mapping[str, tuple[int, str]], Mapping[str, Any]]
"""A component, its inputs by the numbers of nodes (from 1), and what is set."""

FEW = {"n_estimators": 5, "max_iter": 50}
WITHIN = 1e-9


class Both:
    """A graph that was run by the engine's steps, and as a program, in this process."""

    def __init__(self, tmp_path: Path, drawn: Sequence[Drawn], **source: Any) -> None:
        self.outputs = by_steps(tmp_path, drawn, **source)
        self.program = program_of(drawn, **source)
        self.text = self.program.script()
        self.names, self.printed = executed(self.text)

    def tables_are_the_same(self) -> int:
        """Holds every table against that of the program; how many there are."""
        count = 0
        for place, outputs in enumerate(self.outputs, 1):
            for port, value in outputs.items():
                symbol = self.program.outputs.get((place, port))
                if isinstance(value, Table) and symbol is not None:
                    pd.testing.assert_frame_equal(
                        self.names[symbol.name],
                        value.frame,
                        check_like=True,
                        check_dtype=False,
                        rtol=WITHIN,
                        atol=WITHIN,
                    )
                    assert symbol.target == value.target
                    count += 1
        return count

    def figures_are_the_same(self, place: int) -> None:
        """Holds the numbers of a node's tables and lines against what the program printed of it."""
        rows: list[Sequence[Any]] = []
        for figure in self.outputs[place - 1].figures["metrics"].all:
            match figure["front"], figure["data"]:
                case "table", data:
                    rows += zip(*data.values(), strict=True)
                case "multi_curve", {"title": "learning curve", "x": x, "y": lines}:
                    rows += zip(x, *lines.values(), strict=True)
        assert rows
        for row in rows:
            assert any(_is_row(line, row) for line in self.printed.splitlines()), (row, self.printed)


def executed(*texts: str) -> tuple[dict[str, Any], str]:
    """The names that programs define one after another, run without arguments, and what they print."""
    names: dict[str, Any] = {"__name__": "program"}
    printed = io.StringIO()
    before, sys.argv = sys.argv, ["program.py"]
    try:
        with contextlib.redirect_stdout(printed):
            for text in texts:
                exec(compile(text, "program.py", "exec"), names)
    finally:
        sys.argv = before
    return names, printed.getvalue()


def _is_row(line: str, row: Sequence[Any]) -> bool:
    words = [str(one) for one in row if isinstance(one, str)]
    numbers = [float(one) for one in row if isinstance(one, int | float)]
    rest = line
    for word in words:
        if word not in rest:
            return False
        rest = rest.replace(word, " ", 1)
    found = [float(one) for one in re.findall(r"-?\d+\.?\d*(?:e[-+]?\d+)?", rest)]
    return len(found) == len(numbers) and bool(np.allclose(found, numbers, rtol=WITHIN, atol=WITHIN))


def by_steps(tmp_path: Path, drawn: Sequence[Drawn], **source: Any) -> list[Run]:
    done: list[Run] = []
    for uuid, inputs, parameters in drawn:
        given = {port: done[place - 1][out] for port, (place, out) in inputs.items()}
        if "file" in source and uuid == "dataset":
            parameters = {**parameters, "path": source["file"]}
        elif "preset" in source and uuid == "dataset":
            parameters = {**parameters, **preset(tmp_path, source["preset"])}
        elif uuid == "dataset":
            parameters = {**parameters, **source}
        done.append(node(tmp_path, uuid, given, **parameters))
    return done


def program_of(drawn: Sequence[Drawn], **source: Any) -> Program:
    return written({"title": 'A "graph" of \\ours', "seed": SEED, "nodes": as_sent(drawn, **source)})


def as_sent(drawn: Sequence[Drawn], **source: Any) -> list[dict[str, Any]]:
    """Nodes as the service sends them to the process that writes programs."""
    nodes = []
    for place, (uuid, inputs, parameters) in enumerate(drawn, 1):
        component = component_of(uuid)
        nodes.append(
            {
                "id": place,
                "label": component.label.en,
                "step": component.step,
                "of": component.of,
                "outputs": [port.name for port in component.outputs],
                "parameters": defaults(component) | parameters,
                "inputs": inputs,
                "source": source if uuid == "dataset" else {},
            }
        )
    return nodes


@pytest.fixture
def mixed_file(tmp_path: Path) -> str:
    """The mixed table as a file; texts are missing where nothing stands."""
    file = tmp_path / "mixed rows.csv"
    mixed_table().frame.to_csv(file, index=False)
    return str(file)


def _uuid(component: Component) -> str:
    return component.uuid


APART = {"reading.trained", "searching.automatic"}
"""Steps that have tests of their own: what a job before has trained, and what no program repeats."""
READ: Drawn = ("dataset", {}, {"target": "y"})
SPLIT: Drawn = ("train_test_split", {"data": (1, "data")}, {})


@pytest.mark.parametrize("component", COMPONENTS.components, ids=_uuid)
def test_given_a_component_when_its_step_is_looked_up_then_somebody_has_said_how_it_is_written(
    component: Component,
) -> None:
    assert writer(component.step).__doc__


def of_one(component: Component) -> list[Drawn]:
    """A graph that has the component, with what it needs before it, on the mixed table."""
    uuid = component.uuid.removeprefix("sklearn.")
    known = {one.name for one in component.parameters}
    few = {name: value for name, value in FEW.items() if name in known and uuid != "iterative_imputer"}
    if uuid == "quadratic_discriminant_analysis":
        few = {"reg_param": 0.1}
    own = {**few, **ON_MIXED.get(uuid, {}), **({"columns": ["size"]} if uuid == "drop_missing" else {})}
    drawn: list[Drawn] = [READ]
    if component.group in ("imputing", "cleaning", "sampling") or uuid in ("date_parts", "dataset", "label_encoder"):
        prepared = (1, "data")
    else:
        drawn += [
            ("simple_imputer", {"data": (1, "data")}, {"strategy": "most_frequent"}),
            ("date_parts", {"data": (2, "data")}, {"parts": ["month", "dayofweek"]}),
        ]
        if component.group != "encoding":
            drawn.append(("one_hot_encoder", {"data": (3, "data")}, {}))
        if component.group == "regression":
            drawn[0] = ("dataset", {}, {"target": "weight"})
            drawn.append(("drop_columns", {"data": (4, "data")}, {"columns": ["y_large", "y_small"]}))
        prepared = (len(drawn), "data")
    if uuid == "dataset":
        return drawn
    before = len(drawn)
    wants = {port.type for port in component.inputs}
    inputs = {port.name: prepared for port in component.inputs if port.type is PortType.TABLE}
    if wants - {PortType.TABLE}:
        model = {"regression": "ridge", "cluster": "k_means"}.get(component.group, "gaussian_nb")
        drawn.append((model, {"data": prepared}, {}))
        port = {PortType.MODEL: "model", PortType.PIPELINE: "pipeline"}
        inputs |= {one.name: (before + 1, port[one.type]) for one in component.inputs if one.type in port}
        if PortType.PIPELINE in wants:
            inputs["data"] = (1, "data")
    if uuid == "multinomial_nb":
        drawn.append(("min_max_scaler", {"data": prepared}, {}))
        inputs["data"] = (len(drawn), "data")
    return [*drawn, (uuid, inputs, own)]


@pytest.mark.parametrize("component", [one for one in COMPONENTS.components if one.step not in APART], ids=_uuid)
def test_given_a_graph_with_a_component_when_run_as_a_program_then_it_comes_to_the_same(
    tmp_path: Path, mixed_file: str, component: Component
) -> None:
    drawn = of_one(component)
    both = Both(tmp_path, drawn, file=mixed_file)
    assert both.tables_are_the_same() >= 1
    if "metrics" in both.outputs[-1].figures:
        both.figures_are_the_same(len(drawn))
    elif component.step.startswith("learning."):
        ours, theirs = both.outputs[-1]["model"].estimator, both.names[both.program.outputs[len(drawn), "model"].name]
        features = drawn_features(both, drawn)
        for how in ("predict", "predict_proba", "decision_function"):
            if hasattr(ours, how):
                expected, found = getattr(ours, how)(features), getattr(theirs, how)(features)
                if expected.dtype.kind == "f":
                    np.testing.assert_allclose(found, expected, rtol=WITHIN, atol=WITHIN)
                else:
                    assert found.tolist() == expected.tolist()


def drawn_features(both: Both, drawn: Sequence[Drawn]) -> pd.DataFrame:
    place, port = drawn[-1][1]["data"]
    table = both.outputs[place - 1][port]
    assert isinstance(table, Table)
    return table.features


VARIANTS: Mapping[str, Sequence[Drawn]] = {
    "own seeds, strata and tests": [
        READ,
        ("train_test_split", {"data": (1, "data")}, {"stratify": True, "random_state": 3, "test_size": 0.4}),
        ("simple_imputer", {"data": (2, "train"), "test": (2, "test")}, {"strategy": "median", "columns": ["size"]}),
        ("standard_scaler", {"data": (3, "data"), "test": (3, "test")}, {"columns": ["size", "weight"]}),
        ("target_encoder", {"data": (4, "data"), "test": (4, "test")}, {"cv": 3}),
        ("drop_columns", {"data": (5, "data"), "test": (5, "test")}, {"columns": ["at"]}),
        ("random_forest_classifier", {"data": (6, "data")}, {"n_estimators": 7, "max_features": "none"}),
        ("evaluate_classification", {"model": (7, "model"), "data": (6, "test")}, {}),
        ("permutation_importance", {"model": (7, "model"), "data": (6, "test")}, {"n_repeats": 2}),
        ("cross_validation", {"pipeline": (7, "pipeline"), "data": (2, "train")}, {"cv": 3}),
        ("predict", {"model": (7, "model"), "data": (6, "test")}, {}),
        ("apply_pipeline", {"model": (7, "pipeline"), "data": (2, "test")}, {}),
    ],
    "rows": [
        READ,
        ("filter_outliers", {"data": (1, "data")}, {"method": "zscore", "factor": 1.2, "columns": ["weight"]}),
        ("sample", {"data": (2, "data")}, {"n": 30, "replace": True}),
        ("drop_duplicates", {"data": (3, "data")}, {"columns": ["colour", "y"], "keep": "last"}),
        ("drop_missing", {"data": (1, "data")}, {"columns": ["size", "colour"], "how": "all"}),
        ("stratified_sample", {"data": (1, "data")}, {"by": "colour", "frac": 0.3}),
        ("over_sample", {"data": (1, "data")}, {"random_state": 5}),
        ("train_test_split", {"data": (1, "data")}, {"shuffle": False}),
        ("label_encoder", {"data": (8, "train"), "test": (8, "test")}, {}),
    ],
    "a regression that chooses its columns": [
        ("dataset", {}, {"target": "weight", "columns": ["size", "weight", "new"]}),
        ("iterative_imputer", {"data": (1, "data")}, {"add_indicator": True}),
        ("select_from_model", {"data": (2, "data")}, {"estimator": "linear", "threshold": "0.5*mean"}),
        ("rfe", {"data": (2, "data")}, {"estimator": "extra_trees", "task": "regression", "n_features_to_select": 2}),
        ("select_k_best", {"data": (2, "data")}, {"score_func": "mutual_info_regression", "k": 1}),
        ("elastic_net", {"data": (4, "data")}, {"alpha": 0.1}),
        ("evaluate_regression", {"model": (6, "model"), "data": (4, "data")}, {}),
        ("cross_validation", {"pipeline": (6, "pipeline"), "data": (1, "data")}, {"cv": 3}),
    ],
    "clusters": [
        ("dataset", {}, {"columns": ["weight", "size"]}),
        ("simple_imputer", {"data": (1, "data")}, {}),
        ("pca", {"data": (2, "data")}, {"n_components": 2, "whiten": True}),
        ("gaussian_mixture", {"data": (3, "data")}, {"n_components": 3}),
        ("evaluate_clustering", {"data": (4, "data")}, {}),
        ("evaluate_clustering", {"data": (3, "data"), "model": (4, "model")}, {}),
        ("predict", {"model": (4, "model"), "data": (3, "data")}, {}),
        ("apply_pipeline", {"model": (3, "model"), "data": (1, "data")}, {}),
        ("dbscan", {"data": (3, "data")}, {"eps": 0.8}),
        ("evaluate_clustering", {"data": (9, "data")}, {}),
    ],
}


@pytest.mark.parametrize("name", VARIANTS)
def test_given_a_larger_graph_when_run_as_a_program_then_tables_and_figures_are_the_same(
    tmp_path: Path, mixed_file: str, name: str
) -> None:
    both = Both(tmp_path, VARIANTS[name], file=mixed_file)
    assert both.tables_are_the_same() >= 4
    for place, outputs in enumerate(both.outputs, 1):
        if "metrics" in outputs.figures:
            both.figures_are_the_same(place)


@pytest.mark.parametrize("name", [name for name in presets.TARGETS if name != "flights"])
def test_given_a_preset_when_read_by_a_program_then_it_is_the_same(tmp_path: Path, name: str) -> None:
    assert Both(tmp_path, [("dataset", {}, {})], preset=name).tables_are_the_same() == 1


def test_given_the_flights_when_read_by_a_program_then_they_are_the_same() -> None:
    names, _ = executed(program_of([("dataset", {}, {})], preset="flights").script())
    pd.testing.assert_frame_equal(names["data_set"], presets.frame_of("flights"))


@pytest.mark.parametrize("port", ["pipeline", "model"])
def test_given_a_model_of_another_job_when_used_by_a_program_then_it_comes_out_of_its_file(
    tmp_path: Path, mixed_file: str, port: str
) -> None:
    before: list[Drawn] = [
        ("dataset", {}, {"target": "y", "columns": ["size", "weight", "colour"]}),
        ("simple_imputer", {"data": (1, "data")}, {"strategy": "most_frequent"}),
        ("one_hot_encoder", {"data": (2, "data")}, {}),
        ("gaussian_nb", {"data": (3, "data")}, {}),
    ]
    trained = by_steps(tmp_path, before, file=mixed_file)[3][port]
    folder, model_file = tmp_path / "model", tmp_path / "job-1.skops"
    kept(trained, folder)
    assert export.main([str(folder), str(model_file)]) == 0

    rows = (1, "data") if port == "pipeline" else (3, "data")
    uuid, user = ("trained_pipeline", "apply_pipeline") if port == "pipeline" else ("trained_model", "predict")
    drawn: list[Drawn] = [*before[:3], (uuid, {}, {}), (user, {"model": (4, "model"), "data": rows}, {})]
    nodes = as_sent(drawn, file=mixed_file)
    nodes[3]["source"] = {"file": str(model_file), "task": trained.task, "target": trained.target}
    if port == "model":
        drawn.append(("evaluate_classification", {"model": (4, "model"), "data": rows}, {}))
        nodes = [*nodes, as_sent(drawn)[-1]]
    names, printed = executed(written({"title": "", "seed": SEED, "nodes": nodes}).script())
    drawn[3] = (uuid, {}, {"path": str(folder), "job": 1})
    made = by_steps(tmp_path, drawn, file=mixed_file)
    found = names["apply_a_pipeline" if port == "pipeline" else "predict"]
    pd.testing.assert_frame_equal(found, made[4]["data"].frame, check_like=True, check_dtype=False)
    if port == "model":
        assert f"accuracy: {made[5].scores()['accuracy']}" in printed


def test_given_what_no_program_repeats_when_written_then_it_is_said_what_to_do_instead() -> None:
    with pytest.raises(NodeFailure, match=r"'Automatic search': .* make a job of the graph that it found"):
        program_of([READ, ("auto_ml", {"data": (1, "data")}, {})], file="data.csv")
    clusters: list[Drawn] = [
        ("dataset", {}, {"columns": ["weight"]}),
        ("k_means", {"data": (1, "data")}, {}),
        ("cross_validation", {"pipeline": (2, "pipeline"), "data": (1, "data")}, {}),
    ]
    with pytest.raises(NodeFailure, match="'Cross-validation': a classification or a regression is needed"):
        program_of(clusters, file="data.csv")


OWN = """
from random import random

from sklearn.ensemble import RandomForestClassifier


def run(inputs, parameters, seed, figures):
    frame = inputs["data"]
    frame["weight"] = frame["weight"].clip(upper=parameters["limit"]) + random()
    figures("metrics").table({"what": ["limit"], "value": [parameters["limit"]]})
    figures("metrics").curve("nothing", [1], [1], "x", "y")
    features = frame[["weight"]]
    model = RandomForestClassifier(5, random_state=seed).fit(features, frame[frame.attrs["target"]])
    return {"data": frame, "model": model}
"""


def test_given_a_component_of_ones_own_when_written_then_its_file_is_brought_in(
    tmp_path: Path, mixed_file: str
) -> None:
    file = tmp_path / "clip.py"
    file.write_text(OWN, "utf-8")
    kinds = {"data": "data", "model": "sklearn_model", "metrics": "metrics"}
    own = {**as_sent([READ])[0], "id": 2, "label": "Clip", "step": "own.run", "outputs": list(kinds), "source": {}}
    own |= {"parameters": {"limit": 4.0}, "inputs": {"data": (1, "data")}}
    with pytest.raises(NodeFailure, match="'Clip': there is no file of this component"):
        written({"title": "", "seed": SEED, "nodes": [as_sent([READ], file=mixed_file)[0], own]})
    own["source"] = {"file": str(file), "id": "1", "kinds": kinds}
    judge: Drawn = ("evaluate_classification", {"model": (2, "model"), "data": (2, "data")}, {})
    nodes = [as_sent([READ], file=mixed_file)[0], own, {**as_sent([judge])[0], "id": 3}]
    names, printed = executed(written({"title": "", "seed": SEED, "nodes": nodes}).script())

    (table,) = (one["data"] for one in by_steps(tmp_path, [READ], file=mixed_file))
    figures: dict[str, Figures] = {}
    told = {OWN_FILE: str(file), OWN_NAME: "clip.py", OWN_OUTPUTS: kinds, "limit": 4.0}
    task = Task("", None, told, {"data": table}, SEED, lambda port: figures.setdefault(port, Figures(None)))
    made = step("own.run")(task)
    pd.testing.assert_frame_equal(names["clip_data"], made["data"].frame, check_like=True)
    scores = node(tmp_path, "evaluate_classification", {"model": made["model"], "data": made["data"]}).scores()
    assert f"accuracy: {scores['accuracy']}" in printed
    assert re.search(r"limit\s+4\.0", printed)


def test_given_a_file_of_another_kind_when_read_by_a_program_then_types_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_bytes("张;1.5;2024-01-01;true;;12:30:00\n李;;2024-01-02;false;;01:00:00\n".encode("gb18030"))
    told = {"encoding": "gb18030", "delimiter": ";", "header": False}
    drawn: list[Drawn] = [("dataset", {}, {"target": "column4"})]
    read = {**told, "names": [f"column{place}" for place in range(1, 7)]}  # as the service calls them
    made = by_steps(tmp_path, [("dataset", {}, {"target": "column4", **read})], file=str(file))[0]["data"].frame
    names, _ = executed(program_of(drawn, file=str(file), **told).script())
    pd.testing.assert_frame_equal(names["data_set"], made)


def test_given_a_header_that_repeats_names_when_read_by_a_program_then_they_are_those_of_the_service(
    tmp_path: Path,
) -> None:
    file = tmp_path / "data.csv"
    file.write_text(",a,a,a.1,b\n1,2,3,4,5\n6,7,8,9,10\n", "utf-8")
    names, _ = executed(program_of([("dataset", {}, {})], file=str(file)).script())
    assert list(names["data_set"].columns) == written_here(file).names == ["Unnamed: 0", "a", "a.1", "a.1.1", "b"]


def test_given_a_notebook_when_its_cells_are_run_then_they_come_to_the_same(tmp_path: Path, mixed_file: str) -> None:
    drawn = VARIANTS["clusters"]
    notebook = json.loads(program_of(drawn, file=mixed_file).notebook())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert ids == ["title", "imports", "functions", *(f"node-{place}" for place in range(1, len(drawn) + 1))]
    names, _ = executed(*("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"))
    made = by_steps(tmp_path, drawn, file=mixed_file)[3]["data"].frame
    assert names["gaussian_mixture_data"]["cluster"].tolist() == made["cluster"].tolist()


def test_given_files_of_one_name_when_written_then_each_data_set_has_its_own() -> None:
    nodes = as_sent([READ, READ, READ], file="data.csv")
    for one, data_set in zip(nodes, (7, 8, 7), strict=True):
        one["source"] = {"file": "data.csv", "id": data_set}
    text = written({"title": "", "seed": SEED, "nodes": nodes}).script()
    assert re.findall(r"^data_set.* = read_table\((.*)\)$", text, re.MULTILINE) == [
        "data_set_file",
        "data_set_2_file",
        "data_set_file",
    ]
    assert "data_set_2_file = sys.argv[2]" in text


def test_given_names_that_are_code_when_written_then_they_stay_names(tmp_path: Path) -> None:
    names = ['a"b', "it's", "back\\slash", "x\ny", "class", "名"]
    chance = np.random.default_rng(0)
    frame = pd.DataFrame(chance.random((20, len(names))), columns=names)
    file = tmp_path / 'odd """ name.csv'
    frame.to_csv(file, index=False)
    drawn: list[Drawn] = [
        ("dataset", {}, {"target": "class"}),
        ("standard_scaler", {"data": (1, "data")}, {"columns": names[:4]}),
        ("arithmetic", {"data": (2, "data")}, {"left": 'a"b', "right": "x\ny", "name": "a'\"b"}),
        ("ridge", {"data": (3, "data")}, {}),
        ("evaluate_regression", {"model": (4, "model"), "data": (3, "data")}, {}),
    ]
    both = Both(tmp_path, drawn, file=str(file))
    assert both.tables_are_the_same() == 3
    both.figures_are_the_same(5)


def test_given_a_port_that_nothing_comes_out_of_when_written_then_the_input_to_tie_is_told() -> None:
    drawn: list[Drawn] = [READ, ("standard_scaler", {"data": (1, "data")}, {}), ("svc", {"data": (2, "test")}, {})]
    with pytest.raises(NodeFailure, match=r"'Support vectors': nothing comes out of the port 'test'.*tie the input"):
        program_of(drawn, file="data.csv")


def test_given_a_step_that_nobody_has_written_when_asked_for_then_it_is_named() -> None:
    with pytest.raises(LookupError, match=r"how 'rows\.unheard_of' is written"):
        writer("rows.unheard_of")
