"""The components of graphs: data that must fit the engine, and the library as it is installed."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.utils._param_validation import make_constraint

from app.visual.catalogue import FOLDER, Component, Framework, ParameterType, attributes, catalogue
from app.visual.engine.steps import NONE, library_class, parameters_of, step

COMPONENTS = catalogue(Framework.SKLEARN).components
DEEP = [
    component
    for framework in (Framework.PYTORCH, Framework.TENSORFLOW)
    for component in catalogue(framework).components
    if component not in COMPONENTS
]
FILES = sorted(FOLDER.glob("*/*.json"))

STEPS_OWN = {
    "preparing.numbers": {"columns"},
    "preparing.texts": {"columns"},
    "preparing.encode_by_target": {"columns", "random_state", "task"},
    "preparing.impute": {"columns"},
    "preparing.select_by_score": {"columns", "random_state"},
    "preparing.select_by_model": {"columns", "random_state", "task"},
    "preparing.date_parts": {"columns"},
    "preparing.change_type": {"columns"},
}
"""Step -> its parameters that are not the library's."""

OTHER_DEFAULTS = {
    ("sklearn.one_hot_encoder", "handle_unknown"),
    ("sklearn.ordinal_encoder", "handle_unknown"),
    ("sklearn.ordinal_encoder", "unknown_value"),
    ("sklearn.k_bins_discretizer", "encode"),
    ("sklearn.polynomial_features", "include_bias"),
    ("sklearn.gaussian_mixture", "n_components"),
    ("sklearn.select_k_best", "score_func"),
    ("sklearn.select_percentile", "score_func"),
    ("sklearn.select_from_model", "estimator"),
    ("sklearn.rfe", "estimator"),
}
"""Where ours are meant to differ: what is to be used on new rows, and what tables have no room for."""


def of_library() -> list[Component]:
    return [component for component in COMPONENTS if component.of is not None]


def ids(component: Any) -> str:
    return str(getattr(component, "uuid", component))


def schema(name: str = "component") -> Any:
    return json.loads((FOLDER / f"{name}.schema.json").read_text("utf-8"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_given_a_file_of_components_when_held_against_the_schema_then_it_fits(file: Path) -> None:
    jsonschema.validate(json.loads(file.read_text("utf-8")), schema())


def test_given_the_shared_parameters_when_held_against_the_schema_then_they_fit() -> None:
    of_parameters = {"$ref": "#/$defs/parameter", "$defs": schema()["$defs"]}
    for key, one in json.loads((FOLDER / "parameters.json").read_text("utf-8"))["parameters"].items():
        jsonschema.validate(one, of_parameters)
        assert one["name"] == key


def test_given_the_shared_parameters_when_searched_then_each_is_some_components() -> None:
    written = "".join(file.read_text("utf-8") for file in FILES)
    shared = json.loads((FOLDER / "parameters.json").read_text("utf-8"))["parameters"]
    assert [name for name in shared if f'"{name}"' not in written] == []


def test_given_the_stages_when_listed_then_the_published_ones_come_first_in_their_order() -> None:
    stages = {stage.name: [group.name for group in stage.groups] for stage in catalogue(Framework.SKLEARN).stages}
    assert list(stages) == ["dataio", "preprocess", "algorithm", "evaluation", "own", "automatic"]
    assert stages["preprocess"][:3] == ["default", "normalization", "featureprocess"]
    assert stages["algorithm"] == stages["evaluation"] == ["default", "classification", "regression", "cluster"]


@pytest.mark.parametrize("framework", [Framework.PYTORCH, Framework.TENSORFLOW])
def test_given_a_framework_of_deep_learning_when_listed_then_layers_are_added_to_what_prepares_and_evaluates(
    framework: Framework,
) -> None:
    known = catalogue(framework)
    assert [stage.name for stage in known.stages] == ["dataio", "preprocess", "network", "algorithm", "evaluation"]
    filled = {component.group for component in known.components if component.stage == "network"}
    assert {"default", "layers", "normalization", "activation"} <= filled
    for shared in ("sklearn.dataset", "sklearn.standard_scaler", "sklearn.predict", "sklearn.evaluate_classification"):
        assert known.find(shared) is not None, shared
    learners = [
        component.uuid for component in known.components if "network" in {port.name for port in component.inputs}
    ]
    assert f"{framework.name.lower()}.train_classifier" in learners
    assert known.find("sklearn.random_forest_classifier") is None


def test_given_mxnet_when_listed_then_it_has_no_components() -> None:
    assert catalogue(Framework.MXNET).components == []


def test_given_the_attributes_when_listed_then_the_published_ones_are_there() -> None:
    named = {kind: [(one.name, one.label.zh) for one in some] for kind, some in attributes().items()}
    assert named == {
        "data": [("viewTable", "查看数据"), ("downloadTable", "下载数据")],
        "sklearn_model": [("downloadModel", "下载训练模型")],
        "pipeline_model": [("downloadPipeline", "下载工作流")],
        "graph": [("adoptGraph", "转为普通实验")],
    }


@pytest.mark.parametrize(("group", "least"), [("classification", 12), ("regression", 10), ("cluster", 6)])
def test_given_the_algorithms_when_counted_then_there_is_a_choice(group: str, least: int) -> None:
    assert sum(one.stage == "algorithm" and one.group == group for one in COMPONENTS) >= least


def test_given_every_group_when_looked_into_then_only_default_ones_may_be_empty() -> None:
    filled = {(component.stage, component.group) for component in COMPONENTS}
    groups = [(stage.name, group.name) for stage in catalogue(Framework.SKLEARN).stages for group in stage.groups]
    assert [group for group in groups if group not in filled and group[1] != "default"] == []


@pytest.mark.parametrize("component", [*COMPONENTS, *DEEP], ids=ids)
def test_given_a_component_when_its_step_is_looked_up_then_the_engine_has_it(component: Component) -> None:
    assert inspect.getdoc(step(component.step))


@pytest.mark.parametrize("component", of_library(), ids=ids)
def test_given_a_component_of_the_library_when_compared_then_the_class_knows_every_parameter(
    component: Component,
) -> None:
    known = parameters_of(library_class(component.of or ""))
    own = STEPS_OWN.get(component.step, set())
    assert [one.name for one in component.parameters if one.name not in known | own] == []


@pytest.mark.parametrize("component", of_library(), ids=ids)
def test_given_a_component_of_the_library_when_compared_then_the_defaults_are_the_librarys(
    component: Component,
) -> None:
    defaults = {
        name: one.default for name, one in inspect.signature(library_class(component.of or "")).parameters.items()
    }
    for one in component.parameters:
        if one.default is None or one.name not in defaults or (component.uuid, one.name) in OTHER_DEFAULTS:
            continue
        ours = tuple(one.default) if isinstance(one.default, list) else one.default
        assert ours == defaults[one.name], one.name


@pytest.mark.parametrize("component", of_library(), ids=ids)
def test_given_each_choice_of_a_parameter_when_checked_by_the_library_then_it_is_one(component: Component) -> None:
    made = library_class(component.of or "")
    constraints = getattr(made, "_parameter_constraints", {})
    for parameter in component.parameters:
        if (
            parameter.choices is None
            or parameter.name in ("score_func", "estimator")
            or parameter.name not in constraints
        ):
            continue
        for choice in parameter.choices:
            assert _allowed(made, parameter.name, None if choice == NONE else choice), (parameter.name, choice)


def _allowed(made: Any, name: str, value: Any) -> bool:
    return any(make_constraint(one).is_satisfied_by(value) for one in made._parameter_constraints[name])


@pytest.mark.parametrize("component", [*COMPONENTS, *DEEP], ids=ids)
def test_given_a_component_when_shown_then_everything_has_both_names(component: Component) -> None:
    labels = [component.label, *(parameter.label for parameter in component.parameters)]
    # DBSCAN is DBSCAN everywhere.
    assert [
        label for label in labels if label.zh != label.en and not any("一" <= one <= "鿿" for one in label.zh)
    ] == []
    assert all(label.en.isascii() for label in labels)


def test_given_lists_when_checked_then_what_their_items_are_is_known() -> None:
    lists = [one for component in COMPONENTS for one in component.parameters if one.type is ParameterType.LIST]
    assert lists
    assert all(one.item_type is not None for one in lists)
