"""Models as ONNX: every component is converted and says the same in onnxruntime, or is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from app.visual.engine import values
from app.visual.engine.portable import NotConvertible
from app.visual.engine.portable.model import Origin, to_onnx
from app.visual.engine.values import Model, Table
from tests.steps import ON_MIXED, SEED, algorithms, component_of, kept, mixed_table, node, table, transformers

ORIGIN = Origin(12, 34, "pipeline", SEED)
OF_OWN_ROWS = {"dbscan", "agglomerative_clustering", "spectral_clustering", "optics", "hdbscan"}
"""Clusterings that only find clusters among the rows that they are fitted on."""
LACKING = {"nmf": "NMF: .* iterations", "spline_transformer": "SplineTransformer: ONNX has no splines"}
FEW = {"n_estimators": 5, "max_iter": 60}
"""Where a component has them: tests wait for nothing."""


class Scored:
    """A file of ONNX, as another program uses it: by its metadata only."""

    def __init__(self, contents: bytes) -> None:
        self.session = onnxruntime.InferenceSession(contents, providers=["CPUExecutionProvider"])
        told = self.session.get_modelmeta().custom_metadata_map
        self.about = {name.removeprefix("hlink."): text for name, text in told.items()}
        self.inputs: list[dict[str, str]] = json.loads(self.about["inputs"])

    def of(self, rows: pd.DataFrame) -> dict[str, Any]:
        names = [one.name for one in self.session.get_outputs()]
        given = {one["name"]: _tensor(rows[one["column"]], one["type"]) for one in self.inputs}
        return dict(zip(names, self.session.run(names, given), strict=True))


def _tensor(column: pd.Series, kind: str) -> np.ndarray[Any, Any]:
    if kind == "string":
        return column.fillna("").to_numpy(dtype=object).reshape(-1, 1)
    if kind == "time":
        moments = column.to_numpy(dtype="datetime64[ms]")
        return np.where(np.isnat(moments), np.nan, moments.astype(np.int64).astype(float)).reshape(-1, 1)
    return column.to_numpy(dtype={"double": float, "int64": np.int64, "bool": bool}[kind]).reshape(-1, 1)


def numbers(kind: str) -> Table:
    """Columns of several types, called as outputs are and with blanks; a target of the kind of task."""
    chance = np.random.default_rng(SEED)
    rows = pd.DataFrame({"a b": chance.normal(size=80), "label": chance.normal(size=80)})
    rows["value"], rows["new"] = chance.integers(0, 5, 80), chance.random(80) < 0.5
    sums = rows["a b"] + 0.2 * rows["value"] + 0.3 * chance.normal(size=80)
    named = np.asarray(["low", "mid", "high"], dtype=object)[np.digitize(sums, [0.0, 0.8])]
    targets: Mapping[str, Any] = {"classification": named, "regression": sums, "truth": sums > 0.3}
    if kind in targets:
        return table("y", **rows.to_dict("series"), y=targets[kind])
    return table(None, **rows.to_dict("series"))


def fitted(tmp_path: Path, uuid: str, rows: Table, **parameters: Any) -> Model:
    known = {one.name for one in component_of(uuid).parameters}
    few = {name: value for name, value in FEW.items() if name in known and uuid not in ("iterative_imputer",)}
    model = node(tmp_path, uuid, {"data": rows}, **few | parameters)["model"]
    found: Model = kept(model, tmp_path / "model")
    return found


def same(model: Model, rows: pd.DataFrame, contents: bytes, within: float) -> Scored:
    """Holds what onnxruntime says against what the library says, value by value."""
    scored = Scored(contents)
    found = scored.of(rows)
    features = rows
    for _, step in model.preparation:
        features = step.transform(features)
    features = features[list(model.features)]
    expected = model.estimator.predict(features)
    if model.task == "regression":
        np.testing.assert_allclose(found["value"], expected, rtol=within, atol=within)
    else:
        assert found["label"].tolist() == expected.tolist()
    if hasattr(model.estimator, "predict_proba"):
        np.testing.assert_allclose(found["probabilities"], model.estimator.predict_proba(features), atol=within)
    else:
        assert "probabilities" not in found
    return scored


@pytest.mark.parametrize("uuid", [*algorithms("classification"), *algorithms("regression"), *algorithms("cluster")])
def test_given_an_algorithm_when_converted_then_it_says_the_same_or_is_refused_by_name(
    tmp_path: Path, uuid: str
) -> None:
    kind = component_of(uuid).group
    rows = numbers(kind)
    if uuid == "multinomial_nb":
        rows = replace(rows, frame=rows.frame.assign(**{"a b": rows.frame["a b"].abs(), "label": 1.0}))
    model = fitted(tmp_path, uuid, rows)
    if uuid in OF_OWN_ROWS:
        with pytest.raises(NotConvertible, match=f"{type(model.estimator).__name__}: it only finds clusters"):
            to_onnx(model, ORIGIN, rows.features)
        return
    linear = hasattr(model.estimator, "coef_")
    scored = same(model, rows.features, to_onnx(model, ORIGIN, rows.features), 1e-9 if linear else 1e-7)
    assert json.loads(scored.about["verified"])["of"] == "seen"
    unseen = json.loads(Scored(to_onnx(model, ORIGIN, None)).about["verified"])
    assert (unseen["of"], unseen["rows"]) == ("synthetic", 256)


@pytest.mark.parametrize("uuid", algorithms("classification"))
def test_given_classes_that_are_truths_when_converted_then_labels_are_truths(tmp_path: Path, uuid: str) -> None:
    rows = numbers("truth")
    if uuid == "multinomial_nb":
        rows = replace(rows, frame=rows.frame.assign(**{"a b": rows.frame["a b"].abs(), "label": 1.0}))
    model = fitted(tmp_path, uuid, rows)
    scored = same(model, rows.features, to_onnx(model, ORIGIN, rows.features), 1e-7)
    assert json.loads(scored.about["classes"]) == [False, True]
    assert json.loads(scored.about["outputs"])[0] == {"name": "label", "type": "bool"}


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("sgd_classifier", {"loss": "log_loss"}),
    ("sgd_classifier", {"loss": "modified_huber"}),
    ("svc", {"kernel": "poly"}),
    ("svc", {"kernel": "sigmoid"}),
    ("k_neighbors_classifier", {"weights": "distance"}),
    ("k_neighbors_classifier", {"p": 1.0}),
    ("decision_tree_classifier", {"min_samples_leaf": 60}),
    ("gradient_boosting_classifier", {"subsample": 0.5}),
    ("bagging_classifier", {"bootstrap_features": True, "max_features": 0.5}),
    ("mlp_classifier", {"activation": "tanh", "hidden_layer_sizes": [8, 4]}),
    ("linear_discriminant_analysis", {"solver": "lsqr"}),
    ("svr", {"kernel": "linear"}),
    ("svr", {"kernel": "poly"}),
    ("svr", {"kernel": "sigmoid"}),
    ("gradient_boosting_regressor", {"loss": "huber"}),
    ("k_neighbors_regressor", {"weights": "distance"}),
    ("gaussian_mixture", {"n_components": 3, "covariance_type": "tied"}),
    ("gaussian_mixture", {"n_components": 3, "covariance_type": "spherical"}),
    ("bisecting_k_means", {"n_clusters": 1}),
    ("bisecting_k_means", {"n_clusters": 5, "bisecting_strategy": "largest_cluster"}),
]


@pytest.mark.parametrize(("uuid", "parameters"), VARIANTS, ids=lambda one: str(one))
def test_given_other_parameters_when_converted_then_it_says_the_same(
    tmp_path: Path, uuid: str, parameters: dict[str, Any]
) -> None:
    rows = numbers(component_of(uuid).group)
    model = fitted(tmp_path, uuid, rows, **parameters)
    same(model, rows.features, to_onnx(model, ORIGIN, rows.features), 1e-5)


@pytest.mark.parametrize("loss", ["poisson", "gamma", "absolute_error"])
def test_given_other_losses_when_converted_then_values_are_linked_back(tmp_path: Path, loss: str) -> None:
    rows = numbers("regression")
    rows = replace(rows, frame=rows.frame.assign(y=rows.frame["y"].abs() + 0.1))
    model = fitted(tmp_path, "hist_gradient_boosting_regressor", rows, loss=loss, min_samples_leaf=3)
    same(model, rows.features, to_onnx(model, ORIGIN, rows.features), 1e-9)


PREPARED: list[tuple[str, dict[str, Any]]] = [
    *((uuid, {}) for uuid in transformers() if uuid != "knn_imputer"),
    ("one_hot_encoder", {"handle_unknown": "error", "columns": ["colour", "new"]}),
    ("one_hot_encoder", {"drop": "first"}),
    ("one_hot_encoder", {"max_categories": 2}),
    ("ordinal_encoder", {"columns": ["colour", "new"]}),
    ("simple_imputer", {"strategy": "most_frequent"}),
    ("simple_imputer", {"add_indicator": True}),
    ("iterative_imputer", {"add_indicator": True}),
    ("normalizer", {"norm": "max"}),
    ("power_transformer", {"method": "box-cox", "columns": ["weight"]}),
    ("k_bins_discretizer", {"encode": "onehot-dense"}),
    (
        "date_parts",
        {"parts": ["year", "quarter", "month", "day", "dayofweek", "dayofyear", "hour", "minute", "second"]},
    ),
    ("arithmetic", {"operation": "subtract"}),
]


@pytest.mark.parametrize(("uuid", "parameters"), PREPARED, ids=lambda one: str(one))
def test_given_a_preparation_when_converted_then_rows_as_they_were_read_are_predicted_the_same(
    tmp_path: Path, uuid: str, parameters: dict[str, Any]
) -> None:
    mixed = mixed_table()
    rows = mixed
    if component_of(uuid).group not in ("imputing", "encoding", "cleaning") and uuid != "date_parts":
        rows = node(tmp_path, "simple_imputer", {"data": rows})["data"]
    made = node(tmp_path, uuid, {"data": rows}, **{**ON_MIXED.get(uuid, {}), **parameters})
    model = kept(
        node(tmp_path, "random_forest_classifier", {"data": computable(tmp_path, made["data"])}, **FEW_TREES)[
            "pipeline"
        ],
        tmp_path / "model",
    )
    if uuid in LACKING:
        with pytest.raises(NotConvertible, match=LACKING[uuid]):
            to_onnx(model, ORIGIN, mixed.features)
        return
    scored = same(model, mixed.features, to_onnx(model, ORIGIN, mixed.features), 1e-7)
    assert {one["column"]: one["type"] for one in scored.inputs} == {
        "size": "double",
        "weight": "double",
        "colour": "string",
        "new": "bool",
        "at": "time",
    }
    assert json.loads(Scored(to_onnx(model, ORIGIN, None)).about["verified"])["of"] == "synthetic"


@pytest.mark.parametrize(
    ("uuid", "parameters", "message"),
    [
        ("quantile_transformer", {"output_distribution": "normal", "n_quantiles": 10}, "QuantileTransformer: skl2onnx"),
        ("knn_imputer", {"weights": "distance"}, "KNNImputer: onnxruntime"),
        ("simple_imputer", {"strategy": "most_frequent", "add_indicator": True}, "SimpleImputer: columns that tell"),
    ],
)
def test_given_a_preparation_that_onnx_has_no_way_to_say_when_converted_then_it_is_named(
    tmp_path: Path, uuid: str, parameters: dict[str, Any], message: str
) -> None:
    rows = mixed_table()
    made = node(tmp_path, uuid, {"data": rows}, **parameters)
    with pytest.raises(NotConvertible, match=message):
        to_onnx(made["model"], ORIGIN, rows.features)


FEW_TREES = {"n_estimators": 5}


def computable(tmp_path: Path, rows: Table) -> Table:
    """What is left to do before a model can learn from them."""
    if (rows.features.dtypes == "object").any():
        rows = node(tmp_path, "one_hot_encoder", {"data": rows})["data"]
    if "at" in rows.frame:
        rows = node(tmp_path, "date_parts", {"data": rows}, columns=["at"])["data"]
    if rows.features.isna().any().any():
        rows = node(tmp_path, "simple_imputer", {"data": rows})["data"]
    return rows


def test_given_a_fitted_preparation_when_converted_then_its_features_are_one_matrix(tmp_path: Path) -> None:
    mixed = mixed_table()
    encoded = node(tmp_path, "one_hot_encoder", {"data": mixed})["data"]
    parted = node(tmp_path, "date_parts", {"data": encoded})
    model = parted["model"]
    scored = Scored(to_onnx(model, ORIGIN, mixed.features))
    names = json.loads(scored.about["features"])
    assert names == list(parted["data"].features.columns)
    np.testing.assert_allclose(scored.of(mixed.features)["features"], parted["data"].features.to_numpy(dtype=float))
    with pytest.raises(NotConvertible, match="'colour' is none: encode or drop it"):
        to_onnx(node(tmp_path, "standard_scaler", {"data": mixed})["model"], ORIGIN, mixed.features)


def test_given_times_of_centuries_when_parted_then_leap_years_are_right(tmp_path: Path) -> None:
    moments = ["1599-12-31 23:59:59", "1600-02-29", "1900-02-28", "1900-03-01", "1969-12-31 23:59:58.999", "2000-02-29"]
    moments += ["2000-12-31", "2100-03-01", "2024-02-29 00:00:01", "2262-01-01", "1970-01-01"]
    frame = pd.DataFrame({"at": np.asarray(moments, dtype="datetime64[ms]")})
    rows = Table(frame, None, columns=values.types_of(frame))
    parts = ["year", "quarter", "month", "day", "dayofweek", "dayofyear", "hour", "minute", "second"]
    made = node(tmp_path, "date_parts", {"data": rows}, parts=parts)
    found = Scored(to_onnx(made["model"], ORIGIN, frame)).of(frame)["features"]
    np.testing.assert_array_equal(found, made["data"].frame.to_numpy(dtype=float))


def test_given_texts_of_numbers_when_their_type_is_changed_then_they_are_read_within_the_graph(tmp_path: Path) -> None:
    rows = table("y", a=["1", "2.5", np.nan, "-3e2"] * 5, y=[0, 1, 0, 1] * 5)
    changed = node(tmp_path, "change_type", {"data": rows}, columns=["a"])
    found = Scored(to_onnx(changed["model"], ORIGIN, rows.features)).of(rows.features)["features"]
    np.testing.assert_array_equal(found[:4, 0], [1.0, 2.5, np.nan, -300.0])
    coerced = node(tmp_path, "change_type", {"data": rows}, columns=["a"], errors="coerce")["model"]
    with pytest.raises(NotConvertible, match="ChangeType: a column of the type string cannot be read as number"):
        to_onnx(coerced, ORIGIN, rows.features)


def test_given_a_model_when_converted_then_its_metadata_say_what_a_caller_needs(tmp_path: Path) -> None:
    rows = numbers("classification")
    model = fitted(tmp_path, "logistic_regression", rows)
    about = Scored(to_onnx(model, ORIGIN, rows.features)).about
    assert {name: about[name] for name in ("version", "task", "target", "job", "node", "port", "seed")} == {
        "version": "1",
        "task": "classification",
        "target": "y",
        "job": "12",
        "node": "34",
        "port": "pipeline",
        "seed": str(SEED),
    }
    assert json.loads(about["inputs"]) == [
        {"name": "a b", "column": "a b", "type": "double", "dtype": "float64"},
        {"name": "label_in", "column": "label", "type": "double", "dtype": "float64"},
        {"name": "value_in", "column": "value", "type": "int64", "dtype": "int64"},
        {"name": "new", "column": "new", "type": "bool", "dtype": "bool"},
    ]
    assert json.loads(about["outputs"]) == [
        {"name": "label", "type": "string"},
        {"name": "probabilities", "type": "double"},
    ]
    assert json.loads(about["classes"]) == ["high", "low", "mid"]
    assert {"scikit-learn", "skl2onnx", "onnxruntime"} <= set(json.loads(about["libraries"]))
    assert about["estimator"].endswith("LogisticRegression")


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_given_any_number_of_rows_when_scored_then_each_has_its_prediction(tmp_path: Path, rows: int) -> None:
    data = numbers("classification")
    model = fitted(tmp_path, "random_forest_classifier", data)
    scored = Scored(to_onnx(model, ORIGIN, data.features))
    many = data.features.sample(rows, replace=True, random_state=0)
    assert scored.of(many)["label"].shape == (rows,)
    assert scored.of(many)["probabilities"].shape == (rows, 3)


def test_given_votes_that_are_even_when_scored_then_the_class_is_the_librarys() -> None:
    chance = np.random.default_rng(0)
    rows = pd.DataFrame(chance.normal(size=(400, 3)), columns=list("abc"))
    forest = RandomForestClassifier(10, random_state=0).fit(rows[:100], chance.integers(0, 4, 100))
    votes = forest.predict_proba(rows)
    assert (np.sort(votes, axis=1)[:, -1] == np.sort(votes, axis=1)[:, -2]).any()
    model = Model(forest, "classification", list(rows.columns), "y", columns=values.types_of(rows))
    same(model, rows, to_onnx(model, ORIGIN, rows), 1e-12)


class Wrong:
    """Says something else than its graph."""

    def predict(self, features: pd.DataFrame) -> np.ndarray[Any, Any]:
        return super().predict(features) + 1e-4  # type: ignore[misc,no-any-return]


def test_given_a_model_that_comes_to_something_else_when_converted_then_it_is_refused() -> None:
    rows = numbers("regression")
    tree = type("DecisionTreeRegressor", (Wrong, DecisionTreeRegressor), {})().fit(rows.features, rows.labels)
    model = Model(tree, "regression", list(rows.features.columns), "y", columns=rows.columns)
    with pytest.raises(NotConvertible, match=r"DecisionTreeRegressor: onnxruntime's value differ .* 1e-05 is allowed"):
        to_onnx(model, ORIGIN, rows.features)


def test_given_a_column_of_no_known_type_when_converted_then_it_is_named() -> None:
    rows = pd.DataFrame({"x": [1.0, 2.0]})
    model = Model(LinearRegression().fit(rows, [1.0, 2.0]), "regression", ["x"], "y", columns={"x": "category"})
    with pytest.raises(NotConvertible, match="Column 'x' is of the type category"):
        to_onnx(model, ORIGIN, None)


def test_given_a_converted_model_when_checked_then_it_is_valid_onnx(tmp_path: Path) -> None:
    rows = numbers("classification")
    model = fitted(tmp_path, "hist_gradient_boosting_classifier", rows, min_samples_leaf=3)
    onnx.checker.check_model(onnx.load_from_string(to_onnx(model, ORIGIN, rows.features)), full_check=True)


def test_given_pipelines_and_ensembles_of_other_parts_when_converted_then_they_say_the_same() -> None:
    mixed = mixed_table()
    rows = mixed.features.drop(columns="at")
    encoded = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(sparse_output=False))
    parts = [
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["weight", "size"]),
        ("texts", encoded, ["colour"]),
    ]
    for estimator in (LogisticRegression(), BaggingClassifier(LogisticRegression(), 3, random_state=0)):
        whole = make_pipeline(ColumnTransformer(parts, remainder="passthrough"), PCA(3), estimator)
        whole.fit(rows, mixed.labels)
        model = Model(whole, "classification", list(rows.columns), "y", columns=values.types_of(rows))
        same(model, rows, to_onnx(model, ORIGIN, rows), 1e-5)


def test_given_terms_that_cancel_each_other_when_converted_then_rounding_is_no_reason_to_refuse() -> None:
    chance = np.random.default_rng(SEED)
    frame = pd.DataFrame({"x": chance.normal(size=50) * 1e6, "z": chance.normal(size=50)})
    rows = frame.assign(y=frame["x"])
    linear = LinearRegression().fit(rows, frame["z"])
    linear.coef_ = np.asarray([1e6, 1.0, -1e6])
    model = Model(linear, "regression", list(rows.columns), "t", columns=values.types_of(rows))
    assert len(to_onnx(model, ORIGIN, rows)) > 0
