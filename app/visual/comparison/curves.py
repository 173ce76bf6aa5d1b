"""Curves of several runs in one figure: all are read at the same places."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

MOST_POINTS = 500

Figure = Mapping[str, Any]
Line = tuple[Sequence[float], Sequence[float]]


def overlaid(figures: Mapping[str, Sequence[Figure]]) -> list[dict[str, Any]]:
    """One ``multi_curve`` for all curves of one title and axes; ``figures`` are those of a port, by the run's name.

    A line is called by its run, and by its own name where it has one.
    """
    together: dict[tuple[str, str, str], dict[str, Line]] = {}
    for run, some in figures.items():
        for one in some:
            data = one["data"]
            for name, y in _lines(one).items():
                if line := _sorted(data["x"], y):
                    kind = (data["title"], data["x_label"], data["y_label"])
                    together.setdefault(kind, {})[f"{run} {name}".rstrip()] = line
    return [
        {"front": "multi_curve", "data": {**_common(lines), "x_label": x_label, "y_label": y_label, "title": title}}
        for (title, x_label, y_label), lines in together.items()
    ]


def _lines(figure: Figure) -> Mapping[str, Sequence[Any]]:
    match figure["front"]:
        case "curve":
            return {"": figure["data"]["y"]}
        case "multi_curve":
            lines: Mapping[str, Sequence[Any]] = figure["data"]["y"]
            return lines
    return {}


def _sorted(x: Sequence[Any], y: Sequence[Any]) -> Line | None:
    """The points that have both numbers, from left to right; None without any."""
    points = [(a, b) for a, b in zip(x, y, strict=False) if isinstance(a, int | float) and isinstance(b, int | float)]
    points.sort(key=lambda point: point[0])  # those of one place stay in their order
    return ([a for a, _ in points], [b for _, b in points]) if points else None


def _common(lines: Mapping[str, Line]) -> dict[str, Any]:
    places = sorted({x for xs, _ in lines.values() for x in xs})
    if (count := len(places)) > MOST_POINTS:
        places = [places[i * (count - 1) // (MOST_POINTS - 1)] for i in range(MOST_POINTS)]
    return {"x": places, "y": {name: [_at(line, x) for x in places] for name, line in lines.items()}}


def _at(line: Line, x: float) -> float | None:
    """The line's value there: the last one where it has several, between two neighbours on the way from one to the
    other, none beyond its ends.
    """
    xs, ys = line
    after = bisect_right(xs, x)
    if after == 0:
        return None
    if xs[after - 1] == x:
        return ys[after - 1]
    if after == len(xs):
        return None
    share = (x - xs[after - 1]) / (xs[after] - xs[after - 1])
    return ys[after - 1] + share * (ys[after] - ys[after - 1])
