"""``hlink demo``."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    once: Annotated[bool, typer.Option("--once", help="Check the result against pandas, and end.")] = False,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="Flights a second; by default as fast as possible.")
    ] = None,
) -> None:
    """Play 336,776 real flights as a stream, and show the features that a job makes of them.

    Brings up what is not running of the stack, and the service; ends what it started, by Ctrl-C or after the check.
    Exit status with --once: 0 all windows are equal, 1 not, or a step failed; 130 interrupted.
    """
    import logging

    from rich.console import Console

    from app.commands.progress import showing
    from app.commands.stack import configured_stack
    from app.demo.errors import DemoError
    from app.demo.performance import Options, Performance
    from app.settings import settings
    from stream_jobs.local.errors import LocalStackError

    # The client's remarks on brokers that come and go would stand in the middle of the picture.
    logging.getLogger("kafka").addHandler(logging.NullHandler())
    given = settings()
    token = given.api_token.get_secret_value() if given.api_token else None
    # A log has no width: a folded line is hard to search.
    console = Console(highlight=False, width=None if Console().is_terminal else 160)
    performance = Performance(
        configured_stack(), Options(once=once, rate=rate, port=given.port, token=token), console, showing
    )
    try:
        status = performance.play()
    except (DemoError, LocalStackError) as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(status)


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(demo)
