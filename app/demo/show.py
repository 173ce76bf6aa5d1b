"""What the demo shows: the newest feature rows, the job's figures, the addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from app.demo.stage import Row

_STATE_COLOURS = {"RUNNING": "green", "FAILED": "red", "RESTARTING": "yellow"}
_LONGEST_NAME = 44


@dataclass(frozen=True)
class Figures:
    """The job at a moment.

    :param state: of its run in the service.
    :param watermark: event time of the windows, in milliseconds since 1970; None before the first.
    """

    state: str = "CREATED"
    watermark: int | None = None
    restarts: int = 0
    vertices: Sequence[Mapping[str, Any]] = ()
    checkpoint: Mapping[str, Any] | None = None
    checkpoints: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None

    @classmethod
    def of(cls, overview: Mapping[str, Any]) -> Figures:
        """The figures in an answer of ``/jobs/overview``."""
        run, flink = overview["run"] or {}, overview["flink"] or {}
        vertices = flink.get("vertices", [])
        marks = [vertex["watermark"] for vertex in vertices if vertex["watermark"] is not None]
        return cls(
            state=str(run.get("state", "CREATED")),
            watermark=min(marks, default=None),
            restarts=int(run.get("restarts") or 0),
            vertices=vertices,
            checkpoint=flink.get("lastCheckpoint"),
            checkpoints=flink.get("checkpoints", {}),
            reason=run.get("reason") or run.get("lastException"),
        )


@dataclass(frozen=True)
class Scene:
    """Everything that is shown at a moment.

    :param seconds: since the demo began.
    :param processed: how many flights event time has passed, as far as the windows see it.
    :param verdict: the outcome of the check, once there is one.
    """

    seconds: float
    figures: Figures
    sent: int
    total: int
    processed: int
    in_topic: int
    in_table: int
    newest: Sequence[Row]
    addresses: Mapping[str, str]
    verdict: str = ""


def view(scene: Scene) -> RenderableType:
    """The scene for a terminal."""
    parts: list[RenderableType] = [
        _addresses(scene.addresses),
        Columns([_progress(scene), _job(scene.figures)], padding=(0, 3)),
        _features(scene.newest),
    ]
    if scene.verdict:
        parts.append(Text(scene.verdict, style="bold green" if "equal" in scene.verdict else "bold red"))
    parts.append(Text("Ctrl-C ends the demo and all that it started.", style="dim"))
    return Group(*parts)


def line(scene: Scene) -> str:
    """The scene in one line, for a log."""
    figures = scene.figures
    if scene.verdict:
        return scene.verdict
    return (
        f"{figures.state.lower()}: {scene.sent:,} of {scene.total:,} flights played, "
        f"{scene.processed:,} processed, event time {_moment(figures.watermark)}; "
        f"features: {scene.in_topic:,} in Kafka, {scene.in_table:,} in PostgreSQL; "
        f"checkpoints: {figures.checkpoints.get('completed', 0)}; {_pressure(figures)}"
    )


def print_features(rows: Sequence[Row], console: Console) -> None:
    """Print feature rows; the first of them last."""
    console.print(_features(rows))


def _addresses(addresses: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, address in addresses.items():
        table.add_row(Text(name, style="bold"), Text(address, style="cyan", overflow="fold"))
    return table


def _progress(scene: Scene) -> Panel:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right")
    for number, what in (
        (f"{scene.sent:,}", f"of {scene.total:,} flights played"),
        (f"{scene.processed:,}", "flights processed"),
        (f"{scene.in_topic:,}", "feature rows in Kafka"),
        (f"{scene.in_table:,}", "feature rows in PostgreSQL"),
        (_moment(scene.figures.watermark), "event time (UTC)"),
        (f"{scene.seconds:.0f} s", "since the start"),
    ):
        table.add_row(Text(number, style="bold"), what)
    return Panel(table, title="stream", box=box.ROUNDED, expand=False)


def _job(figures: Figures) -> Panel:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in ("operators", "in", "out", "busy", "back-pressure"):
        table.add_column(title, justify="left" if title == "operators" else "right")
    for vertex in figures.vertices:
        table.add_row(
            _short(str(vertex["name"])),
            _count(vertex["recordsIn"]),
            _count(vertex["recordsOut"]),
            _share(vertex["busyRatio"]),
            f"{vertex['backPressure'] or '-'} {_share(vertex['backPressureRatio'])}",
        )
    state = f"[{_STATE_COLOURS.get(figures.state, 'white')}]{figures.state}[/]"
    last = figures.checkpoint
    saved = f"{last['durationMs']} ms, {last['sizeBytes'] / 1024:,.0f} kB" if last else "none yet"
    done = figures.checkpoints.get("completed", 0)
    summary = f"{done} checkpoints, the last: {saved} · {figures.restarts} restarts"
    return Panel(Group(table, Text(summary, style="dim")), title=f"job {state}", box=box.ROUNDED, expand=False)


def _features(rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Newest features, from the Kafka sink", title_justify="left")
    for title in ("hour (UTC)", "carrier", "origin"):
        table.add_column(title)
    for title in ("flights", "left", "mean delay", "p90", "cancelled", "plane age", "wind"):
        table.add_column(title, justify="right")
    for row in reversed(rows):
        table.add_row(
            str(row["hour_start"])[:16],
            f"{row['airline']} ({row['carrier']})",
            str(row["origin"]),
            str(row["flights"]),
            str(row["departures"]),
            _decimal(row["mean_delay"], " min"),
            _decimal(row["p90_delay"], " min"),
            _share(row["cancelled_share"]),
            _decimal(row["plane_age"], " y"),
            _decimal(row["wind_speed"], " mph"),
        )
    return table


def _pressure(figures: Figures) -> str:
    levels = [str(vertex["backPressure"]) for vertex in figures.vertices if vertex["backPressure"]]
    return f"back-pressure: {', '.join(levels) or 'unknown'}"


def _moment(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _count(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}"


def _share(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.0%}"


def _decimal(number: float | None, unit: str) -> str:
    return "-" if number is None else f"{number:.1f}{unit}"
