"""Graphs are checked before anything runs: every problem is named with its node, and what can be done about it."""

from __future__ import annotations

from typing import Any

import pytest

from app.visual.catalogue import Framework, catalogue
from app.visual.jobs.graph import Edge, Node, Ready, after, check, needed_for, read_parameters, unknown_columns

SKLEARN = catalogue(Framework.SKLEARN)


def nodes(**components: str | tuple[str, dict[str, Any]]) -> list[Node]:
    """Nodes with the ids 1, 2, 3, ... in the order in which they are given."""
    found = []
    for number, component in enumerate(components.values(), 1):
        uuid, parameters = component if isinstance(component, tuple) else (component, {})
        found.append(Node(number, f"sklearn.{uuid}", parameters))
    return found


READ = ("dataset", {"dataset": 1})
CHAIN = [Edge(1, "data", 2, "data"), Edge(2, "data", 3, "data")]


def problems(drawn: list[Node], edges: list[Edge]) -> list[str]:
    return [str(one) for one in check(drawn, edges, SKLEARN)[1]]


def ordered(drawn: list[Node], edges: list[Edge]) -> list[Ready]:
    order, wrong = check(drawn, edges, SKLEARN)
    assert not wrong, wrong
    return list(order)


def test_a_graph_without_problems_comes_in_an_order_in_which_it_can_be_run() -> None:
    drawn = nodes(learn="logistic_regression", scale="standard_scaler", read=READ)
    edges = [Edge(3, "data", 2, "data"), Edge(2, "data", 1, "data")]
    order = ordered(drawn, edges)

    assert [node.id for node in order] == [3, 2, 1]
    assert order[2].inputs == {"data": (2, "data")}


def test_an_edge_that_stands_at_both_its_nodes_is_one() -> None:
    drawn = nodes(read=READ, scale="standard_scaler")
    ordered(drawn, [Edge(1, "data", 2, "data"), Edge(1, "data", 2, "data")])


@pytest.mark.parametrize(
    ("edges", "said"),
    [
        ([Edge(1, "data", 2, "data")], "nothing is tied to its input 'data'"),
        ([*CHAIN, Edge(1, "data", 3, "data")], "two edges end at the input 'data'"),
        ([*CHAIN, Edge(1, "rows", 3, "data")], "has no output 'rows'; it has data"),
        ([*CHAIN, Edge(1, "data", 2, "rows")], "has no input 'rows'; it has data, test"),
        ([*CHAIN, Edge(1, "data", 9, "data")], "names the node 9, which is not in the graph"),
        ([CHAIN[0], Edge(2, "model", 3, "data")], "is of type pipeline_model, the input 'data'"),
        ([Edge(2, "data", 3, "data"), Edge(3, "data", 2, "data")], "the graph goes round in a circle"),
    ],
)
def test_edges_that_cannot_be_are_named(edges: list[Edge], said: str) -> None:
    drawn = nodes(read=READ, scale="standard_scaler", more="min_max_scaler")

    assert any(said in one for one in problems(drawn, edges)), problems(drawn, edges)


def test_a_graph_without_nodes_is_told_so() -> None:
    assert problems([], []) == ["graph: the graph has no nodes (draw one that reads data, and go on)"]


def test_a_component_that_does_not_exist_is_named() -> None:
    assert "sklearn.crystal_ball" in problems(nodes(one="crystal_ball"), [])[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"C": "-1"}, "its parameter 'C' is -1"),
        ({"C": "much"}, "its parameter 'C' is 'much', which is not of type float"),
        ({"max_iter": 1.5}, "its parameter 'max_iter' is 1.5, which is not of type int"),
        ({"max_iterations": 5}, "it has no parameter 'max_iterations'; is 'max_iter' meant?"),
        ({"solver": "guess"}, "is 'guess', which is not one of"),
    ],
)
def test_parameters_that_cannot_be_are_named(given: dict[str, Any], said: str) -> None:
    component = SKLEARN.find("sklearn.logistic_regression")
    assert component is not None
    _, wrong = read_parameters(component, given)

    assert [said in one for one in wrong] == [True], wrong


def test_text_stands_for_numbers_and_empty_text_for_the_default() -> None:
    component = SKLEARN.find("sklearn.logistic_regression")
    assert component is not None
    values, wrong = read_parameters(component, {"C": "0.5", "max_iter": "200", "solver": ""})

    assert not wrong
    assert (values["C"], values["max_iter"], values["solver"]) == (0.5, 200, "lbfgs")


def test_a_required_parameter_that_is_missing_is_named() -> None:
    assert "its parameter 'dataset' is required" in problems(nodes(read="dataset"), [])[0]


def test_columns_that_do_not_exist_are_named_as_far_down_as_they_are_known() -> None:
    drawn = nodes(
        read=READ,
        scale=("standard_scaler", {"columns": ["heigth"]}),
        encode=("one_hot_encoder", {"columns": ["color"]}),
        more=("min_max_scaler", {"columns": ["whatever"]}),
    )
    order = ordered(drawn, [*CHAIN, Edge(3, "data", 4, "data")])
    found = [str(one) for one in unknown_columns(order, {1: ["height", "color"]})]

    assert len(found) == 1
    assert "'heigth', a column that is not there" in found[0]
    assert "is 'height' meant?" in found[0]


def test_parts_of_a_graph() -> None:
    drawn = nodes(read=READ, scale="standard_scaler", learn="k_means", other="min_max_scaler")
    order = ordered(drawn, [Edge(1, "data", 2, "data"), Edge(2, "data", 3, "data"), Edge(1, "data", 4, "data")])

    assert needed_for(order, [3]) == {1, 2, 3}
    assert after(order, 2) == {2, 3}
