"""``hlink fetch | up | down | status | doctor``: the embedded stack from the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stream_jobs.local.endpoints import Endpoints
    from stream_jobs.local.stack import ComponentStatus, Stack

NOT_RUNNING = 3
"""Exit status of ``hlink status`` when nothing runs, as service scripts have it."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines; progress goes to stderr.")]


def register(app: typer.Typer) -> None:
    """Add the stack's commands."""
    app.command()(fetch)
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(doctor)


def fetch(
    groups: Annotated[
        list[str] | None, typer.Argument(help="Artifact groups; by default flink-lib, kafka and tools.")
    ] = None,
) -> None:
    """Download the Maven artifacts that are missing, and check them."""
    from app.commands.progress import showing
    from app.settings import settings
    from stream_jobs import formats, models, shipped
    from stream_jobs.local import artifacts
    from stream_jobs.local.installation import find_installation

    folder = artifacts.artifacts_dir(settings().home.resolve())
    with errors_told(), showing() as progress:
        fetched = artifacts.fetch(groups or artifacts.DEFAULT_GROUPS, folder, progress)
        for group, jars in (("functions", shipped.jars), ("models", models.jars), ("flink-lib", formats.jars)):
            if not groups or {group, "tools"} <= set(groups):
                jars(folder, find_installation())
    typer.echo(f"{len(fetched)} artifacts fetched into {folder}" if fetched else f"All artifacts are in {folder}")


def up(as_json: Json = False) -> None:
    """Start what is not running of Kafka, Flink and PostgreSQL, and print where they are.

    Exit status: 0 all serve, 1 a component does not start, 130 interrupted.
    """
    from app.commands.progress import showing

    with errors_told(), showing(to_stderr=as_json) as progress:
        endpoints = configured_stack().up(progress)
    if as_json:
        typer.echo(json.dumps(_as_json(endpoints), indent=2))
    else:
        _print_endpoints(endpoints)


def down(
    purge: Annotated[bool, typer.Option(help="Also remove all data and logs of the embedded stack.")] = False,
) -> None:
    """Stop the embedded stack; data stay. Jobs end, their savepoints and retained checkpoints stay."""
    from app.commands.progress import showing

    with errors_told(), showing() as progress:
        configured_stack().down(progress, purge=purge)


def status(as_json: Json = False) -> None:
    """Show each component.

    Exit status: 0 all are healthy, 1 some are not, 3 nothing runs.
    """
    with errors_told():
        found = configured_stack().status()
    if as_json:
        typer.echo(json.dumps([_status_as_json(one) for one in found], indent=2))
    else:
        _print_status(found)
    raise typer.Exit(_exit_status(found))


def doctor(as_json: Json = False) -> None:
    """Look for what could keep hlink from working on this machine, and say what to do about it.

    Exit status: 0 nothing fails (there may be warnings), 1 something does.
    """
    from rich.console import Console

    from stream_jobs.local.doctor import Verdict, examine

    console = Console(highlight=False)
    signs = {Verdict.OK: "[green]ok  [/]", Verdict.WARN: "[yellow]warn[/]", Verdict.FAIL: "[red]fail[/]"}
    findings = []
    with errors_told():
        for finding in examine(configured_stack(), _requirements()):
            findings.append(finding)
            if as_json:
                continue
            console.print(f"{signs[finding.verdict]} {finding.subject:<20} ", end="")
            console.print(finding.text, markup=False, soft_wrap=True)
            if finding.remedy:
                console.print(f"{'':25} -> {finding.remedy}", markup=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    raise typer.Exit(1 if any(finding.verdict is Verdict.FAIL for finding in findings) else 0)


def _requirements() -> Path | None:
    """The lock file of the source tree that this runs from, if it runs from one."""
    file = Path(__file__).resolve().parents[2] / "requirements.lock"
    return file if file.is_file() else None


def configured_stack() -> Stack:
    """The stack that the settings describe."""
    from app.settings import settings
    from stream_jobs.local.endpoints import External
    from stream_jobs.local.stack import Stack

    given = settings()
    return Stack(given.home, External(given.flink_url, given.kafka_bootstrap, given.postgres_url))


@contextmanager
def errors_told() -> Iterator[None]:
    """Print the stack's errors without a traceback: they already say what, where and what to do."""
    from stream_jobs.local.errors import LocalStackError

    try:
        yield
    except LocalStackError as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        typer.secho("Interrupted.", err=True)
        raise typer.Exit(130) from None


def _exit_status(found: list[ComponentStatus]) -> int:
    if all(one.state == "healthy" for one in found):
        return 0
    return NOT_RUNNING if all(one.state == "stopped" for one in found) else 1


def _as_json(endpoints: Endpoints) -> dict[str, str]:
    return {
        "flink_url": endpoints.flink_url,
        "kafka_bootstrap": endpoints.kafka_bootstrap,
        "postgres_url": endpoints.postgres.url,
    }


def _print_endpoints(endpoints: Endpoints) -> None:
    typer.echo(f"Flink       {endpoints.flink_url}")
    typer.echo(f"Kafka       {endpoints.kafka_bootstrap}")
    database = endpoints.postgres
    typer.echo(f"PostgreSQL  {database.host}:{database.port}/{database.database} as {database.user}")


def _status_as_json(one: ComponentStatus) -> dict[str, object]:
    return {
        "name": one.name,
        "state": one.state.value,
        "external": one.external,
        "address": one.address or None,
        "detail": one.detail,
        "pid": one.pid,
        "memory_bytes": one.memory,
        "uptime_s": None if one.uptime is None else round(one.uptime, 1),
        "log": None if one.log is None else str(one.log),
    }


def _print_status(found: list[ComponentStatus]) -> None:
    from rich.console import Console
    from rich.table import Table

    colours = {"healthy": "green", "unhealthy": "red", "stopped": "yellow"}
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("component", "state", "address", "pid", "memory", "uptime", "log"):
        table.add_column(title, overflow="fold", justify="right" if title in ("pid", "memory", "uptime") else "left")
    for one in found:
        state = f"[{colours[one.state.value]}]{one.state.value}[/]" + (" (external)" if one.external else "")
        table.add_row(
            one.name,
            state,
            one.address,
            str(one.pid or ""),
            "" if one.memory is None else f"{one.memory / 2**20:.0f} MB",
            "" if one.uptime is None else _duration(one.uptime),
            "" if one.log is None else _short(one.log),
        )
    # Piped output has no width of its own, and a folded table is hard to search.
    console = Console() if Console().is_terminal else Console(width=240)
    console.print(table)
    for one in found:
        if one.detail:
            console.print(f"{one.name}: {one.detail}", markup=False)


def _short(path: Path) -> str:
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
