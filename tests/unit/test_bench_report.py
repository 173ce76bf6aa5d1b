"""The benchmark's arithmetic: a wrong median would be a wrong claim."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.report import (
    TARGETS,
    Target,
    latencies,
    missed,
    p50,
    p99,
    pooled_ratio,
    ratio,
    rounded,
    show,
    write,
)


@pytest.mark.parametrize(("samples", "expected"), [([7.0], 7), ([3.0, 1.0, 2.0], 2), ([4.0, 1.0, 2.0, 3.0], 2.5)])
def test_the_median_is_the_middle_or_between_the_two_middles(samples: list[float], expected: float) -> None:
    assert p50(samples) == expected


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (30, 30), (99, 99), (100, 99), (101, 100), (200, 198)])
def test_p99_is_a_sample_that_at_most_one_in_a_hundred_exceeds(count: int, expected: int) -> None:
    assert p99([float(n) for n in range(count, 0, -1)]) == expected


def test_a_ratio_is_our_median_as_a_part_of_theirs() -> None:
    assert ratio([10.0, 20.0, 1000.0], [40.0, 40.0, 1.0]) == 0.5


def test_a_pooled_ratio_is_over_all_statements_together_and_not_the_mean_of_ratios() -> None:
    ours = {"filter": [1.0, 1.0], "lookup": [100.0, 100.0, 100.0]}
    theirs = {"filter": [2.0, 2.0], "lookup": [100.0, 100.0, 100.0]}

    assert pooled_ratio(ours, theirs) == 1.0


def test_latencies_are_told_over_all_statements_and_for_each() -> None:
    assert latencies("validate", {"filter": [10.0, 30.0], "lookup": [20.0, 40.0, 50.0]}) == {
        "validate_p50_ms": 30.0,
        "validate_p99_ms": 50.0,
        "validate_samples": 5,
        "validate_filter_p50_ms": 20.0,
        "validate_lookup_p50_ms": 40.0,
    }


def test_a_value_that_equals_its_bound_keeps_it() -> None:
    assert Target("validate_p50_ms", 60).kept(60.0)
    assert Target("throughput_vs_hand_written", 0.98, at_least=True).kept(0.98)


def test_a_target_is_missed_from_the_wrong_side_only() -> None:
    targets = (Target("latency", 60), Target("speed", 0.98, at_least=True))

    assert missed({"latency": 60.1, "speed": 0.97}, targets) == list(targets)
    assert missed({"latency": 1.0, "speed": 2.0}, targets) == []


def test_what_was_not_measured_is_not_missed() -> None:
    assert missed({"cores": 2}) == []


def test_every_target_that_was_announced_is_held() -> None:
    assert {target.key: str(target) for target in TARGETS} == {
        "validate_p50_ms": "≤ 60",
        "validate_vs_gateway": "≤ 0.5",
        "error_p50_ms": "≤ 30",
        "submit_vs_gateway": "≤ 0.7",
        "submit_vs_sql_client": "≤ 0.05",
        "throughput_vs_hand_written": "≥ 0.98",
        "staleness_5000_p99_s": "≤ 3",
        "observe_5000_cores": "≤ 0.25",
        "observe_5000_overviews": "≤ 1.05",
        "restart_vs_hand_made": "≤ 1.3",
        "rss_mib": "≤ 1228.8",
        "graph_over_script_s": "≤ 1.5",
        "branches_speedup": "≥ 1.7",
        "rerun_nodes": "≤ 2",
        "csv_page_ms": "≤ 100",
        "upload_mb_s": "≥ 100",
        "waiting_cores": "≤ 0.05",
        "search_flights_s": "≤ 66",
        "search_flights_adopted_difference": "≤ 1e-09",
    }


def test_figures_are_rounded_to_what_can_be_repeated_but_never_across_a_bound() -> None:
    assert rounded({"a": 123.456, "n": 123456, "text": "x"}) == {"a": 123.5, "n": 123456, "text": "x"}
    assert missed({"submit_vs_gateway": 0.70001}) != []


def test_the_file_is_one_flat_object(tmp_path: Path) -> None:
    file = tmp_path / "latest.json"

    write({"validate_p50_ms": 12.3456, "cores": 2, "flink": "2.3.0"}, file)

    assert json.loads(file.read_text()) == {"validate_p50_ms": 12.35, "cores": 2, "flink": "2.3.0"}
    assert list(tmp_path.iterdir()) == [file]


def test_the_table_shows_figures_with_a_target_first_with_it() -> None:
    output = io.StringIO()

    show({"cores": 2, "validate_p50_ms": 12.3456}, Console(file=output, width=80))

    lines = [line.split() for line in output.getvalue().splitlines()]
    assert lines == [["figure", "measured", "target"], ["validate_p50_ms", "12.35", "≤", "60"], ["cores", "2"]]
