"""What is drawn of a node's output: figures in the forms of the published API, and ours.

``front`` says how: curve, multi_curve and table are published; confusion_matrix, bar, histogram, scatter and images are
ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.visual.engine.plan import write_json

Values = Any
"""Numbers or words in an order: a list, a range, an array or a column."""


class Figures:
    """The figures of one output port, in the order in which they were made; kept on disk as they come.

    :param path: the file; None for figures that nobody is to see.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._replacing = False
        self.all: list[dict[str, Any]] = []

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """What is drawn within takes the place of all that was drawn before, at once."""
        before, self.all, self._replacing = self.all, [], True
        try:
            yield
        except BaseException:
            self.all = before
            raise
        finally:
            self._replacing = False
        self._write()

    def curve(self, title: str, x: Values, y: Values, x_label: str, y_label: str) -> None:
        """One line."""
        self._add("curve", {"x": _plain(x), "y": _plain(y), "x_label": x_label, "y_label": y_label, "title": title})

    def curves(self, title: str, x: Values, y: Mapping[str, Values], x_label: str, y_label: str) -> None:
        """Several lines over the same ``x``."""
        lines = {name: _plain(values) for name, values in y.items()}
        self._add("multi_curve", {"x": _plain(x), "y": lines, "x_label": x_label, "y_label": y_label, "title": title})

    def table(self, columns: Mapping[str, Values]) -> None:
        """Columns by their names."""
        self._add("table", {name: _plain(values) for name, values in columns.items()})

    def confusion(self, labels: Values, counts: Values) -> None:
        """Rows are what is true, columns what was predicted."""
        rows = [_plain(row) for row in counts]
        self._add("confusion_matrix", {"labels": _plain(labels), "matrix": rows, "title": "confusion matrix"})

    def bars(self, title: str, names: Values, values: Values, errors: Values = ()) -> None:
        """One bar a name, with its deviation where that is known."""
        data = {"x": _plain(names), "y": _plain(values), "title": title}
        self._add("bar", data | ({"error": _plain(errors)} if len(errors) else {}))

    def histogram(self, title: str, edges: Values, counts: Values, x_label: str) -> None:
        """``counts`` between neighbouring ``edges``."""
        self._add("histogram", {"edges": _plain(edges), "counts": _plain(counts), "x_label": x_label, "title": title})

    def scatter(
        self,
        title: str,
        x: Values,
        y: Values,
        x_label: str,
        y_label: str,
        groups: Values | None = None,
    ) -> None:
        """Points, and which group each is of where there are groups."""
        data = {"x": _plain(x), "y": _plain(y), "x_label": x_label, "y_label": y_label, "title": title}
        self._add("scatter", data | ({} if groups is None else {"groups": _plain(groups)}))

    def _add(self, front: str, data: dict[str, Any]) -> None:
        self.all.append({"data": data, "front": front})
        if not self._replacing:
            self._write()

    def _write(self) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, self.all)


def scores(figures: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Metric -> value, out of tables with the columns ``metric`` and ``value``, or ``mean`` over several trials."""
    found: dict[str, float] = {}
    for one in figures:
        data = one["data"]
        if one["front"] != "table" or "metric" not in data:
            continue
        for name, value in zip(data["metric"], data.get("value", data.get("mean", ())), strict=False):
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(str(name), value)
    return found


def _plain(values: Values) -> list[Any]:
    """Values as JSON has them: no library's numbers, and nothing that is not a number (null stands for it)."""
    return [_one(value) for value in values]


def _one(value: Any) -> Any:
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, float) and not math.isfinite(plain):
        return None
    return plain if isinstance(plain, str | int | float | bool) or plain is None else str(plain)
