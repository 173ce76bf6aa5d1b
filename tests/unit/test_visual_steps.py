"""What the steps of graphs come to, held against scikit-learn written by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets, metrics
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.visual.datasets.presets import BY_NAME
from app.visual.engine import values
from app.visual.engine.plan import FIGURES, Plan, Progress, Step
from app.visual.engine.values import Model, NodeFailure, Table
from tests.steps import (
    COLOURS,
    ON_MIXED,
    SEED,
    algorithms,
    component_of,
    defaults,
    kept,
    mixed_table,
    node,
    preset,
    table,
    transformers,
)


@pytest.fixture
def iris(tmp_path: Path) -> Table:
    found: Table = node(tmp_path, "dataset", **preset(tmp_path, "iris"))["data"]
    return found


@pytest.fixture
def diabetes(tmp_path: Path) -> Table:
    found: Table = node(tmp_path, "dataset", **preset(tmp_path, "diabetes"))["data"]
    return found


@pytest.fixture
def mixed() -> Table:
    return mixed_table()


# Figures as scikit-learn has them


def holes(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.mask(np.random.default_rng(SEED).random(frame.shape) < 0.05)


def test_given_a_graph_over_breast_cancer_when_the_engine_runs_it_then_figures_and_pipeline_are_as_by_hand(
    tmp_path: Path,
) -> None:
    features, labels = load_breast_cancer(as_frame=True, return_X_y=True)
    features = holes(features)
    file = tmp_path / "cancer.csv"
    features.assign(benign=labels).to_csv(file, index=False)
    plan = [
        ("dataset", {}, {"path": str(file), "encoding": "utf-8", "delimiter": ",", "header": True, "target": "benign"}),
        ("simple_imputer", {"data": (1, "data")}, {"strategy": "median"}),
        ("standard_scaler", {"data": (2, "data")}, {}),
        ("train_test_split", {"data": (3, "data")}, {"stratify": True}),
        ("select_k_best", {"data": (4, "train"), "test": (4, "test")}, {"k": 12}),
        ("logistic_regression", {"data": (5, "data")}, {}),
        ("evaluate_classification", {"model": (6, "model"), "data": (5, "test")}, {}),
    ]
    folder = engine_run(tmp_path, plan)

    prepared = StandardScaler().fit_transform(SimpleImputer(strategy="median").fit_transform(features))
    train, test, train_labels, test_labels = train_test_split(
        prepared, labels, test_size=0.25, stratify=labels, random_state=SEED
    )
    select = SelectKBest(k=12).fit(train, train_labels)
    model = LogisticRegression(random_state=SEED).fit(select.transform(train), train_labels)
    told = model.predict_proba(select.transform(test))
    predicted = told[:, 1] > 0.5
    expected = {
        "accuracy": metrics.accuracy_score(test_labels, predicted),
        "balanced accuracy": metrics.balanced_accuracy_score(test_labels, predicted),
        "precision": metrics.precision_score(test_labels, predicted),
        "recall": metrics.recall_score(test_labels, predicted),
        "f1": metrics.f1_score(test_labels, predicted),
        "ROC AUC": metrics.roc_auc_score(test_labels, told[:, 1]),
        "log loss": metrics.log_loss(test_labels, told),
    }
    figures = json.loads((outputs_of(folder, 7) / "metrics" / FIGURES).read_text())
    found = dict(zip(figures[0]["data"]["metric"], figures[0]["data"]["value"], strict=True))
    assert found == pytest.approx(expected, abs=1e-9)

    pipeline = values.load(outputs_of(folder, 6) / "pipeline")
    assert isinstance(pipeline, Model)
    everything = model.predict_proba(select.transform(prepared))
    np.testing.assert_allclose(pipeline.pipeline.predict_proba(features), everything, atol=1e-9)


def engine_run(tmp_path: Path, plan: list[tuple[str, Mapping[str, tuple[int, str]], dict[str, Any]]]) -> Path:
    steps = []
    for number, (uuid, inputs, parameters) in enumerate(plan, 1):
        one = component_of(uuid)
        ports = [port.name for port in one.outputs]
        steps.append(Step(number, uuid, one.uuid, 1, one.step, one.of, defaults(one) | parameters, inputs, ports))
    folder = tmp_path / "run"
    folder.mkdir()
    Plan(steps, str(tmp_path / "outputs"), SEED, 1).write(folder)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "app.visual.engine", str(folder)],
        env=os.environ | {"PYTHONPATH": str(root)},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def outputs_of(folder: Path, number: int) -> Path:
    return folder.parent / "outputs" / str(Progress.read(folder, number).key)


def test_given_a_forest_on_diabetes_when_evaluated_then_scores_are_as_by_hand(tmp_path: Path, diabetes: Table) -> None:
    parts = node(tmp_path, "train_test_split", {"data": diabetes}, test_size=0.3)
    scaled = node(tmp_path, "standard_scaler", {"data": parts["train"], "test": parts["test"]})
    model = node(tmp_path, "random_forest_regressor", {"data": scaled["data"]}, n_estimators=20)
    evaluated = node(tmp_path, "evaluate_regression", {"model": model["model"], "data": scaled["test"]})

    features, labels = load_diabetes(return_X_y=True, as_frame=True)
    train, test, train_labels, test_labels = train_test_split(features, labels, test_size=0.3, random_state=SEED)
    by_hand = make_pipeline(StandardScaler(), RandomForestRegressor(20, random_state=SEED)).fit(train, train_labels)
    predicted = by_hand.predict(test)
    assert evaluated.scores() == pytest.approx(
        {
            "MAE": metrics.mean_absolute_error(test_labels, predicted),
            "MSE": metrics.mean_squared_error(test_labels, predicted),
            "RMSE": metrics.root_mean_squared_error(test_labels, predicted),
            "median absolute error": metrics.median_absolute_error(test_labels, predicted),
            "R2": metrics.r2_score(test_labels, predicted),
            "MAPE": metrics.mean_absolute_percentage_error(test_labels, predicted),
        },
        abs=1e-9,
    )
    assert evaluated.fronts() == ["table", "scatter", "histogram"]


def test_given_k_means_on_iris_when_evaluated_then_scores_and_clusters_are_as_by_hand(
    tmp_path: Path, iris: Table
) -> None:
    found = node(tmp_path, "k_means", {"data": iris}, n_clusters=3)
    evaluated = node(tmp_path, "evaluate_clustering", {"model": found["model"], "data": iris})
    again = node(tmp_path, "evaluate_clustering", {"data": found["data"]})

    features = load_iris(as_frame=True).data
    clusters = KMeans(3, random_state=SEED).fit_predict(features)
    assert found["data"].frame["cluster"].tolist() == clusters.tolist()
    assert (
        evaluated.scores()
        == again.scores()
        == pytest.approx(
            {
                "clusters": 3,
                "rows of no cluster": 0,
                "silhouette": metrics.silhouette_score(features, clusters),
                "Calinski-Harabasz": metrics.calinski_harabasz_score(features, clusters),
                "Davies-Bouldin": metrics.davies_bouldin_score(features, clusters),
            },
            abs=1e-9,
        )
    )
    assert evaluated.fronts() == ["table", "bar", "scatter"]


def test_given_three_classes_when_evaluated_then_scores_are_one_class_against_the_rest(
    tmp_path: Path, iris: Table
) -> None:
    model = node(tmp_path, "logistic_regression", {"data": iris}, max_iter=1000)["model"]
    evaluated = node(tmp_path, "evaluate_classification", {"model": model, "data": iris})
    told = model.estimator.predict_proba(iris.features)
    assert evaluated.scores()["ROC AUC"] == pytest.approx(
        metrics.roc_auc_score(iris.labels, told, multi_class="ovr"), abs=1e-9
    )
    assert evaluated.fronts() == ["table", "table", "confusion_matrix", "multi_curve", "multi_curve"]
    curves = evaluated.figures["metrics"].all[3]["data"]
    assert sorted(curves["y"]) == ["setosa", "versicolor", "virginica"]
    assert all(len(line) == len(curves["x"]) for line in curves["y"].values())


def test_given_a_classifier_without_probabilities_when_evaluated_then_curves_come_of_its_decisions(
    tmp_path: Path, iris: Table
) -> None:
    two = iris.with_rows(iris.frame[iris.frame["target"] != "setosa"])
    model = node(tmp_path, "linear_svc", {"data": two})["model"]
    evaluated = node(tmp_path, "evaluate_classification", {"model": model, "data": two})
    assert evaluated.scores()["log loss"] is None
    assert evaluated.scores()["ROC AUC"] == pytest.approx(
        metrics.roc_auc_score(two.labels, model.estimator.decision_function(two.features)), abs=1e-9
    )
    assert evaluated.fronts()[-2:] == ["curve", "curve"]


def test_given_a_pipeline_when_cross_validated_then_its_preparation_is_fitted_in_every_fold(
    tmp_path: Path, diabetes: Table
) -> None:
    scaled = node(tmp_path, "standard_scaler", {"data": diabetes})["data"]
    pipeline = node(tmp_path, "k_neighbors_regressor", {"data": scaled})["pipeline"]
    found = node(tmp_path, "cross_validation", {"pipeline": pipeline, "data": diabetes}, cv=4)
    folds = KFold(4, shuffle=True, random_state=SEED)
    by_hand = make_pipeline(StandardScaler(), clone(pipeline.estimator))
    expected = cross_val_score(by_hand, diabetes.features, diabetes.labels, cv=folds)
    assert found.figures["metrics"].all[0]["data"]["r2"] == pytest.approx(expected.tolist(), abs=1e-9)


def test_given_a_pipeline_when_its_learning_curve_is_drawn_then_lines_are_over_the_numbers_of_rows(
    tmp_path: Path, iris: Table
) -> None:
    pipeline = node(tmp_path, "gaussian_nb", {"data": iris})["pipeline"]
    drawn = node(tmp_path, "learning_curve", {"pipeline": pipeline, "data": iris}, points=3)
    data = drawn.figures["metrics"].all[0]["data"]
    assert data["x"] == [12, 66, 120]
    assert {name: len(line) for name, line in data["y"].items()} == {"train": 3, "validation": 3}


def test_given_a_column_that_tells_everything_when_importance_is_told_then_it_comes_first(tmp_path: Path) -> None:
    chance = np.random.default_rng(SEED)
    rows = table(noise=chance.random(80), sign=np.tile([0.0, 1.0], 40), y=np.tile([0, 1], 40))
    model = node(tmp_path, "decision_tree_classifier", {"data": rows})["model"]
    drawn = node(tmp_path, "permutation_importance", {"model": model, "data": rows})
    assert drawn.figures["metrics"].all[0]["data"]["x"] == ["sign", "noise"]


# Every component


@pytest.mark.parametrize("uuid", algorithms("classification"))
def test_given_a_classifier_when_fitted_on_iris_then_it_survives_the_disk_and_predicts(
    tmp_path: Path, iris: Table, uuid: str
) -> None:
    fitted = node(tmp_path, uuid, {"data": iris})
    model = kept(fitted["model"], tmp_path / "model")
    predicted = node(tmp_path, "predict", {"model": model, "data": iris})["data"].frame
    assert (predicted["prediction"] == predicted["target"]).mean() > (0.3 if uuid == "bernoulli_nb" else 0.6)
    told = predicted.filter(regex="^probability_").sum(axis=1)
    assert told.to_numpy() == pytest.approx(1.0 if hasattr(model.estimator, "predict_proba") else 0.0)


@pytest.mark.parametrize("uuid", algorithms("regression"))
def test_given_a_regression_when_fitted_on_diabetes_then_it_survives_the_disk_and_predicts(
    tmp_path: Path, diabetes: Table, uuid: str
) -> None:
    fitted = node(tmp_path, uuid, {"data": diabetes})
    pipeline = kept(fitted["pipeline"], tmp_path / "pipeline")
    predicted = node(tmp_path, "apply_pipeline", {"model": pipeline, "data": diabetes})["data"].frame
    np.testing.assert_allclose(predicted["prediction"], fitted["model"].estimator.predict(diabetes.features), atol=1e-9)


@pytest.mark.parametrize("uuid", algorithms("cluster"))
def test_given_a_clustering_when_fitted_on_iris_then_every_row_has_a_cluster_and_it_survives_the_disk(
    tmp_path: Path, iris: Table, uuid: str
) -> None:
    fitted = node(tmp_path, uuid, {"data": iris})
    kept(fitted["model"], tmp_path / "model")
    clustered = kept(fitted["data"], tmp_path / "data")
    assert clustered.frame["cluster"].notna().all()
    assert clustered.frame["target"].tolist() == iris.frame["target"].tolist()
    assert node(tmp_path, "evaluate_clustering", {"data": clustered}).scores()["clusters"] >= 1


@pytest.mark.parametrize("uuid", transformers())
def test_given_a_transformer_when_fitted_then_other_rows_and_kept_pipelines_come_to_the_same(
    tmp_path: Path, mixed: Table, uuid: str
) -> None:
    data = mixed
    if component_of(uuid).group not in ("imputing", "encoding", "cleaning") and uuid != "date_parts":
        data = node(tmp_path, "simple_imputer", {"data": mixed})["data"]
    made = node(tmp_path, uuid, {"data": data, "test": data}, **ON_MIXED.get(uuid, {}))
    assert made["data"].frame["y"].tolist() == mixed.frame["y"].tolist()
    if uuid not in ("target_encoder", "nmf"):  # which treat the rows that they learn from otherwise
        pd.testing.assert_frame_equal(made["test"].features, made["data"].features)

    loaded = kept(made["data"], tmp_path / "data")
    assert list(loaded.frame.columns) == list(made["data"].frame.columns)
    again = node(tmp_path, "apply_pipeline", {"model": kept(made["model"], tmp_path / "model"), "data": mixed})
    pd.testing.assert_frame_equal(again["data"].features, made["test"].features)


def test_given_encoded_scaled_and_selected_columns_when_learnt_from_then_the_pipeline_takes_them_as_they_were_read(
    tmp_path: Path, mixed: Table
) -> None:
    rows = mixed
    for uuid, parameters in (
        ("simple_imputer", {"strategy": "most_frequent"}),
        ("date_parts", {"parts": ["month", "dayofweek"]}),
        ("one_hot_encoder", {}),
        ("drop_columns", {"columns": ["new"]}),
        ("min_max_scaler", {}),
        ("select_k_best", {"k": 4}),
    ):
        rows = kept(node(tmp_path, uuid, {"data": rows}, **parameters)["data"], tmp_path / uuid)
    fitted = node(tmp_path, "svc", {"data": rows})
    pipeline = kept(fitted["pipeline"], tmp_path / "pipeline").pipeline
    assert pipeline.predict(mixed.features).tolist() == fitted["model"].estimator.predict(rows.features).tolist()


def test_given_a_text_to_fill_in_when_columns_of_texts_are_chosen_then_only_they_are_filled(
    tmp_path: Path, mixed: Table
) -> None:
    chosen = {"strategy": "constant", "fill_value": "unknown", "columns": ["colour"]}
    filled = node(tmp_path, "simple_imputer", {"data": mixed}, **chosen)["data"].frame
    assert set(filled["colour"]) == {*COLOURS, "unknown"}
    assert filled["size"].isna().any()
    with pytest.raises(NodeFailure, match="Columns of numbers cannot be filled with 'unknown'"):
        node(tmp_path, "simple_imputer", {"data": mixed}, strategy="constant", fill_value="unknown")


def test_given_dates_when_parted_then_parts_are_numbers(tmp_path: Path, mixed: Table) -> None:
    parted = node(tmp_path, "date_parts", {"data": mixed})["data"].frame
    first = parted[[name for name in parted.columns if name.startswith("at")]].iloc[1].to_dict()
    assert first == {"at_year": 2024, "at_month": 2, "at_day": 29, "at_dayofweek": 3, "at_hour": 12}


def test_given_a_division_by_zero_when_computed_then_the_value_is_missing(tmp_path: Path) -> None:
    rows = table(None, a=[1.0, 2.0], b=[0, 4])
    made = node(tmp_path, "arithmetic", {"data": rows}, left="a", right="b", operation="divide", name="c")
    np.testing.assert_equal(made["data"].frame["c"].tolist(), [np.nan, 0.5])


# Rows


def test_given_a_split_when_stratified_then_it_is_as_by_hand(tmp_path: Path, iris: Table) -> None:
    parts = node(tmp_path, "train_test_split", {"data": iris}, stratify=True, test_size=0.2)
    train, _ = train_test_split(iris.frame, test_size=0.2, stratify=iris.labels, random_state=SEED)
    pd.testing.assert_frame_equal(parts["train"].frame, train.reset_index(drop=True))
    assert parts["test"].labels.value_counts().tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("uuid", "parameters", "sizes"),
    [
        ("under_sample", {}, {"a": 2, "b": 2}),
        ("over_sample", {}, {"a": 8, "b": 8}),
        ("stratified_sample", {"frac": 0.5}, {"a": 1, "b": 4}),
    ],
)
def test_given_uneven_classes_when_sampled_then_every_class_has_its_share(
    tmp_path: Path, uuid: str, parameters: dict[str, Any], sizes: dict[str, int]
) -> None:
    rows = table(x=range(10), y=["a"] * 2 + ["b"] * 8)
    sampled = node(tmp_path, uuid, {"data": rows}, **parameters)["data"]
    again = node(tmp_path, uuid, {"data": rows}, **parameters)["data"]
    assert sampled.labels.value_counts().to_dict() == sizes
    pd.testing.assert_frame_equal(sampled.frame, again.frame)


def test_given_more_rows_of_a_class_when_over_sampled_then_none_is_lost(tmp_path: Path) -> None:
    rows = table(x=range(10), y=["a"] * 4 + ["b"] * 6)
    assert set(node(tmp_path, "over_sample", {"data": rows})["data"].frame["x"]) == set(range(10))


def test_given_a_share_or_a_number_when_sampled_then_so_many_rows_are_left(tmp_path: Path, iris: Table) -> None:
    assert len(node(tmp_path, "sample", {"data": iris}, frac=0.1)["data"].frame) == 15
    assert len(node(tmp_path, "sample", {"data": iris}, n=7)["data"].frame) == 7


@pytest.mark.parametrize("method", ["iqr", "zscore"])
def test_given_a_value_far_off_when_filtered_then_only_its_row_goes(tmp_path: Path, method: str) -> None:
    rows = table(x=[*range(20), 1000.0, np.nan], y=[0, 1] * 11)
    left = node(tmp_path, "filter_outliers", {"data": rows}, method=method)["data"].frame
    assert left["x"].tolist()[:20] == list(range(20))
    assert len(left) == 21


def test_given_missing_and_duplicate_rows_when_dropped_then_the_others_stay(tmp_path: Path) -> None:
    rows = table(x=[1.0, 1.0, np.nan, 2.0], y=["a", "a", "b", "b"])
    there = node(tmp_path, "drop_missing", {"data": rows})["data"]
    assert node(tmp_path, "drop_duplicates", {"data": there})["data"].frame["x"].tolist() == [1.0, 2.0]


def test_given_classes_when_encoded_then_the_figure_tells_their_numbers(tmp_path: Path, iris: Table) -> None:
    encoded = node(tmp_path, "label_encoder", {"data": iris, "test": iris})
    assert encoded["test"].labels.tolist() == load_iris().target.tolist()
    assert encoded.figures["metrics"].all[0]["data"]["class"] == ["setosa", "versicolor", "virginica"]


# Reading


def test_given_a_file_of_another_encoding_and_delimiter_when_read_then_types_are_right(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_bytes("名;数;at;ok\n张;1.5;2024-01-01;true\n李;;2024-01-02;false\n".encode("gb18030"))
    read = node(tmp_path, "dataset", path=str(file), encoding="gb18030", delimiter=";", target="ok")["data"]
    assert read.columns == {"名": "object", "数": "float64", "at": "datetime64[ms]"}
    assert read.labels.tolist() == [True, False]


def test_given_chosen_columns_when_read_then_the_others_and_rows_without_target_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("a,b,c,ok\n1,2,3,true\n4,5,6,\n7,8,9,false\n")
    read = node(tmp_path, "dataset", path=str(file), target="ok", columns=["a", "c"])["data"]
    assert read.frame.to_dict("list") == {"a": [1, 7], "c": [3, 9], "ok": [True, False]}
    assert read.frame["ok"].dtype == bool


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits", "diabetes"])
def test_given_a_preset_when_read_then_it_is_the_librarys_to_the_last_digit(tmp_path: Path, name: str) -> None:
    read = node(tmp_path, "dataset", **preset(tmp_path, name))["data"]
    library = getattr(datasets, f"load_{name}")(as_frame=True)
    assert read.target == "target"
    told = BY_NAME[name]
    assert (told.rows, told.size) == (len(library.data), (tmp_path / f"{name}.csv").stat().st_size)
    pd.testing.assert_frame_equal(read.features, library.data, check_exact=True)
    classes = library.get("target_names")
    named = library.target if classes is None or name == "digits" else [classes[one] for one in library.target]
    assert read.labels.tolist() == list(named)


def test_given_names_when_read_then_the_columns_have_them(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("1,2\n3,4\n")
    read = node(tmp_path, "dataset", path=str(file), header=False, names=["column1", "column2"], target="column2")
    assert read["data"].frame.to_dict("list") == {"column1": [1, 3], "column2": [2, 4]}


def test_given_the_flights_when_read_then_nothing_tells_how_they_arrived(tmp_path: Path) -> None:
    read = node(tmp_path, "dataset", **preset(tmp_path, "flights"))["data"]
    assert read.target == "delayed"
    assert len(read.frame) == BY_NAME["flights"].rows == 327_346
    assert (tmp_path / "flights.csv").stat().st_size == BY_NAME["flights"].size
    assert not {"arr_delay", "arr_time", "dep_delay", "dep_time", "air_time"} & set(read.frame.columns)
    assert 0.2 < read.labels.mean() < 0.3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n\n3\n", "Line 4 has 1 values where there are 2 columns"),
        ('a,b\n"1\n1",2\n3,4,5\n', "Line 4 has 3 values where there are 2 columns: '3,4,5'"),
        ("a,a\n1,2\n", "the column 'a' more than once"),
        ("", "not even a header"),
        ("a,b\n", "no rows"),
        ("a,b\n1,é\n".encode("latin-1"), "Line 2 is not in utf-8"),
        ("é,b\n1,2\n".encode("latin-1"), "Line 1 is not in utf-8"),
    ],
)
def test_given_a_broken_file_when_read_then_the_line_is_told(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    file = tmp_path / "data.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(NodeFailure, match=message):
        node(tmp_path, "dataset", path=str(file))


# What cannot be done


def test_given_a_wrong_column_when_chosen_then_near_ones_are_told(tmp_path: Path, iris: Table) -> None:
    with pytest.raises(NodeFailure, match=r"no column 'petal width': did you mean 'petal width \(cm\)'"):
        node(tmp_path, "standard_scaler", {"data": iris}, columns=["petal width"])


def test_given_the_target_among_columns_when_prepared_then_it_is_refused(tmp_path: Path, iris: Table) -> None:
    with pytest.raises(NodeFailure, match="'target' is the target"):
        node(tmp_path, "ordinal_encoder", {"data": iris}, columns=["target"])


def test_given_no_target_when_a_model_is_to_learn_then_the_remedy_is_told(tmp_path: Path) -> None:
    with pytest.raises(NodeFailure, match="no target column: set one"):
        node(tmp_path, "svc", {"data": table(None, a=[1, 2])})


@pytest.mark.parametrize(
    ("columns", "uuid", "message"),
    [
        ({"x": [1, 2], "y": ["a", "a"]}, "svc", "All 2 rows have the class 'a' in the target 'y'"),
        ({"x": [1.0, np.nan], "y": ["a", "b"]}, "svc", "SVC cannot work with missing values, which 1 rows have in 'x'"),
        ({"x": ["p", "q"], "y": ["a", "b"]}, "svc", r"'x' \(such as 'p'\) are none: encode"),
        ({"x": [np.inf, 1], "y": ["a", "b"]}, "svc", "infinite values in 'x'"),
        ({"x": [-1, 1], "y": ["a", "b"]}, "multinomial_nb", "negative values, which are in 'x'"),
        ({"x": pd.to_datetime(["2024-01-01", "2024-01-02"]), "y": ["a", "b"]}, "svc", "'x' are times: take parts"),
        ({"x": [1, 2], "y": [0.5, 1.25]}, "svc", "'y' has numbers such as 0.5, which are no classes"),
        ({"x": [1, 2], "y": ["a", None]}, "svc", "1 rows have no value in the target 'y'"),
        ({"x": [1, 2], "y": ["a", "b"]}, "ridge", "'y' has 'a', which is no number: take a classification"),
        ({"y": ["a", "b"]}, "svc", "no column beside the target"),
        ({"x": [1, 2], "y": ["a", "b"]}, "k_means", "2 rows are too few for 8 clusters"),
        ({"x": [1, 2], "y": ["a", "b"]}, "one_hot_encoder", "no column of text for this node"),
    ],
)
def test_given_rows_that_an_algorithm_cannot_take_when_run_then_place_and_remedy_are_told(
    tmp_path: Path, columns: dict[str, Any], uuid: str, message: str
) -> None:
    with pytest.raises(NodeFailure, match=message):
        node(tmp_path, uuid, {"data": table(**columns)})


def test_given_a_column_of_too_many_categories_when_one_hot_encoded_then_it_is_refused(tmp_path: Path) -> None:
    rows = table(None, few=["a", "b"] * 1_500, many=[f"{n}" for n in range(3_000)])
    with pytest.raises(NodeFailure, match="'many' has 3000 categories"):
        node(tmp_path, "one_hot_encoder", {"data": rows})
    frequent = node(tmp_path, "one_hot_encoder", {"data": rows}, columns=["many"], max_categories=3)
    assert len(frequent["data"].frame.columns) == 4


def test_given_a_class_of_fewer_rows_than_folds_when_cross_validated_then_the_class_is_told(tmp_path: Path) -> None:
    rows = table(x=range(12), y=["rare"] * 3 + ["usual"] * 9)
    pipeline = node(tmp_path, "gaussian_nb", {"data": rows})["pipeline"]
    with pytest.raises(NodeFailure, match=r"5 folds need 5 rows of every class of 'y'.*rare \(3\)"):
        node(tmp_path, "cross_validation", {"pipeline": pipeline, "data": rows})


def test_given_rows_that_were_not_prepared_when_predicted_then_the_columns_that_lack_are_told(
    tmp_path: Path, mixed: Table
) -> None:
    encoded = node(tmp_path, "one_hot_encoder", {"data": mixed})["data"]
    chosen = node(tmp_path, "drop_columns", {"data": encoded}, columns=["at", "size"])["data"]
    model = node(tmp_path, "svc", {"data": chosen})["model"]
    with pytest.raises(NodeFailure, match=r"fitted with .*, which the table has not: .* or tie the pipeline"):
        node(tmp_path, "predict", {"model": model, "data": mixed})


def test_given_a_clustering_that_knows_its_own_rows_only_when_applied_then_the_remedy_is_told(
    tmp_path: Path, iris: Table
) -> None:
    model = node(tmp_path, "dbscan", {"data": iris})["model"]
    with pytest.raises(NodeFailure, match="use its port 'data'"):
        node(tmp_path, "predict", {"model": model, "data": iris})


def test_given_a_regression_when_evaluated_as_a_classification_then_it_is_refused(
    tmp_path: Path, diabetes: Table
) -> None:
    model = node(tmp_path, "ridge", {"data": diabetes})["model"]
    with pytest.raises(NodeFailure, match="of classification; the model is of regression"):
        node(tmp_path, "evaluate_classification", {"model": model, "data": diabetes})


def test_given_texts_when_changed_to_numbers_then_the_first_that_is_none_is_told(tmp_path: Path) -> None:
    rows = table(None, a=["1", "x"])
    with pytest.raises(NodeFailure, match="row 2 of column 'a' has 'x'"):
        node(tmp_path, "change_type", {"data": rows}, columns=["a"])
    changed = node(tmp_path, "change_type", {"data": rows}, columns=["a"], errors="coerce")["data"].frame
    np.testing.assert_equal(changed["a"].tolist(), [1.0, np.nan])


def test_given_nothing_at_a_port_when_loaded_then_the_input_to_tie_is_told(tmp_path: Path) -> None:
    with pytest.raises(NodeFailure, match="tie the input 'test' of the node before"):
        values.load(tmp_path / "test")
