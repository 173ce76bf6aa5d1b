"""What SQL calls a model's features, and the class that its probabilities are about."""

from __future__ import annotations

import re

import pytest

from stream_jobs.definitions import Feature, Model


def model(*names: str, classes: tuple[str, ...] = ()) -> Model:
    features = tuple(Feature(name, name, "DOUBLE") for name in names)
    return Model(features, "label", "STRING", "probabilities", classes)


@pytest.mark.parametrize(
    ("names", "arguments"),
    [
        (("mean radius", "petal length (cm)"), ("mean_radius", "petal_length_cm")),
        (("a b", "a_b", "A-B"), ("a_b", "a_b_2", "A_B_3")),
        (("1st", "年龄", "收入", "_"), ("feature_1st", "feature_2", "feature_3", "feature_4")),
        (("feature_2", "年龄"), ("feature_2", "feature_2_2")),
    ],
)
def test_arguments_are_identifiers_and_each_is_there_once(names: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    found = model(*names).arguments
    assert found == arguments
    assert all(re.fullmatch("[a-zA-Z_$][a-zA-Z_$0-9]*", one) for one in found)  # as Flink has it


@pytest.mark.parametrize(("classes", "positive"), [(("no", "yes"), "yes"), (("a", "b", "c"), None), ((), None)])
def test_the_positive_class_is_the_second_of_two(classes: tuple[str, ...], positive: str | None) -> None:
    assert model("x", classes=classes).positive == positive
