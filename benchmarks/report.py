"""From samples to figures: medians, p99, ratios, and which targets were missed. Pure, but for writing the file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

Figures = Mapping[str, float | int | str]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that a figure has to keep."""

    key: str
    bound: float
    at_least: bool = False

    def kept(self, value: float) -> bool:
        """Whether the value keeps the bound; a value that equals it does."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


TARGETS = (
    Target("validate_p50_ms", 60),
    Target("validate_vs_gateway", 0.5),
    Target("error_p50_ms", 30),
    Target("submit_vs_gateway", 0.7),
    Target("submit_vs_sql_client", 0.05),
    Target("throughput_vs_hand_written", 0.98, at_least=True),
    Target("staleness_5000_p99_s", 3),
    Target("observe_5000_cores", 0.25),
    Target("observe_5000_overviews", 1.05),
    Target("restart_vs_hand_made", 1.3),
    Target("rss_mib", 1.2 * 1024),
    Target("graph_over_script_s", 1.5),
    Target("branches_speedup", 1.7, at_least=True),
    Target("rerun_nodes", 2),
    Target("csv_page_ms", 100),
    Target("upload_mb_s", 100, at_least=True),
    Target("waiting_cores", 0.05),
    Target("search_flights_s", 66),
    Target("search_flights_adopted_difference", 1e-9),
)


def p50(samples: Sequence[float]) -> float:
    """The median."""
    return median(samples)


def p99(samples: Sequence[float]) -> float:
    """The smallest sample that at least 99 % of the samples do not exceed (nearest rank; never between two).

    Of fewer than 100 samples it is the largest.
    """
    return sorted(samples)[math.ceil(0.99 * len(samples)) - 1]


def ratio(ours: Sequence[float], others: Sequence[float]) -> float:
    """Our median as a part of theirs."""
    return p50(ours) / p50(others)


def latencies(name: str, samples: Mapping[str, Sequence[float]]) -> dict[str, float | int]:
    """The figures of one measurement over its statements together, and each statement's median.

    :param samples: statement -> milliseconds.
    """
    every = [sample for of_one in samples.values() for sample in of_one]
    return {
        f"{name}_p50_ms": p50(every),
        f"{name}_p99_ms": p99(every),
        f"{name}_samples": len(every),
        **{f"{name}_{statement}_p50_ms": p50(of_one) for statement, of_one in samples.items() if len(samples) > 1},
    }


def pooled_ratio(ours: Mapping[str, Sequence[float]], others: Mapping[str, Sequence[float]]) -> float:
    """Our median over all statements as a part of theirs; both have each statement as often."""
    return ratio([s for one in ours.values() for s in one], [s for one in others.values() for s in one])


def missed(figures: Figures, targets: Sequence[Target] = TARGETS) -> list[Target]:
    """The targets that were not kept, those that were not measured not among them."""
    return [
        target
        for target in targets
        if isinstance(value := figures.get(target.key), int | float) and not target.kept(value)
    ]


def rounded(figures: Figures) -> dict[str, float | int | str]:
    """The figures with four significant digits: more would be noise."""
    return {
        key: float(f"{value:.4g}") if isinstance(value, float) and math.isfinite(value) else value
        for key, value in figures.items()
    }


def write(figures: Figures, file: Path) -> None:
    """Write the figures as one flat JSON object."""
    unfinished = file.with_suffix(".new")
    unfinished.write_text(json.dumps(rounded(figures), indent=2) + "\n")
    unfinished.replace(file)


def show(figures: Figures, console: Console, targets: Sequence[Target] = TARGETS) -> None:
    """Print the figures, those with a target first."""
    by_key = {target.key: target for target in targets}
    shown = rounded(figures)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("figure")
    table.add_column("measured", justify="right", overflow="fold")
    table.add_column("target", justify="right")
    for key in [*(k for k in by_key if k in shown), *(k for k in shown if k not in by_key)]:
        value, target = shown[key], by_key.get(key)
        text = f"{value:g}" if isinstance(value, float) else str(value)
        if target is not None:
            text = f"[{'bold red' if missed(figures, [target]) else 'green'}]{text}[/]"
        table.add_row(key, text, "" if target is None else str(target))
    console.print(table)
