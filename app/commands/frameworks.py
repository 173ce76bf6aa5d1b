"""``hlink frameworks install | list | remove``: the interpreters of deep learning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

frameworks = typer.Typer(
    help="Install, list and remove the frameworks of deep learning, each in an interpreter of its own.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="pytorch or tensorflow.")]


@frameworks.command()
def install(
    name: Name,
    index: Annotated[
        str | None,
        typer.Option(help="Package index with builds of the framework for processors only, which are much smaller."),
    ] = None,
) -> None:
    """Install a framework into HLINK_HOME; what is installed already in these versions stays."""
    from app.commands.progress import showing
    from app.settings import settings
    from app.visual.frameworks import install as installation

    with _told(), showing() as progress:
        own = installation.by_name(name)
        made = installation.install(settings(), own, progress, index)
    typer.echo(f"{name} is installed" + ("" if made else " already"))


@frameworks.command("list")
def show() -> None:
    """Show the frameworks, and whether graphs of them can be run here."""
    import asyncio

    from rich.console import Console
    from rich.table import Table

    from app.settings import settings
    from app.visual.catalogue import Framework
    from app.visual.frameworks import OWN, interpreter, lacking
    from app.visual.frameworks.install import is_current

    given = settings()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("frameId", "name", "state", "interpreter"):
        table.add_column(title, overflow="fold")
    for framework in Framework:
        own = OWN.get(framework)
        state = asyncio.run(lacking(given, framework)) or "ready"
        place = ""
        if own is not None and state == "ready":
            place = str(interpreter(given, own))
            if getattr(given, f"{own.name}_python") is None and not is_current(given, own):
                state = "ready, in other versions than this release was tried with: install it again"
        table.add_row(str(framework.value), framework.name.lower(), state, place)
    Console(highlight=False, width=None if Console().is_terminal else 200).print(table)


@frameworks.command()
def remove(name: Name) -> None:
    """Remove a framework from HLINK_HOME."""
    from app.settings import settings
    from app.visual.frameworks import install as installation

    with _told():
        gone = installation.remove(settings(), installation.by_name(name))
    typer.echo(f"{name} is removed" if gone else f"{name} is not installed")


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(frameworks, name="frameworks")


@contextmanager
def _told() -> Iterator[None]:
    """Print why it could not be done, without a traceback."""
    from app.commands.stack import errors_told
    from app.visual.frameworks.install import InstallationFailed

    try:
        with errors_told():
            yield
    except InstallationFailed as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from None
