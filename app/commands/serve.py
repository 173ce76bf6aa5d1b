"""``hlink serve`` and ``hlink openapi``."""

from __future__ import annotations

import gc
import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [HLINK_HOST]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [HLINK_PORT]")] = None,
) -> None:
    """Run the service in this process until it is told to end."""
    import uvicorn
    from pydantic import ValidationError

    from app.commands.progress import showing
    from app.commands.stack import errors_told
    from app.main import create_app
    from app.settings import Settings
    from stream_jobs.local import artifacts
    from stream_jobs.local.artifacts import PLANNER_GROUPS

    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        for problem in error.errors():
            typer.echo(f"{'.'.join(map(str, problem['loc'])) or 'settings'}: {problem['msg']}", err=True)
        raise typer.Exit(2) from None
    if refusal := refusal_to_serve(settings):
        typer.echo(refusal, err=True)
        raise typer.Exit(2)
    # What the planner runs on; nothing is downloaded when it is there.
    with errors_told(), showing(to_stderr=True) as progress:
        artifacts.fetch(PLANNER_GROUPS, artifacts.artifacts_dir(settings.home), progress)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=settings.log_level == "DEBUG",
            timeout_graceful_shutdown=10,
        )
    )
    _collect_garbage_seldom()
    server.run()
    if not server.started:
        raise typer.Exit(1)


_NEW_OBJECTS = 20_000


def _collect_garbage_seldom() -> None:
    """Leave the modules out of all collections, and collect when a look at a large cluster is over, not within it.

    An answer about hundreds of jobs is thousands of objects, which are gone a moment later: with Python's own threshold
    (700) they are looked at in the meantime, and grow old, so that every few seconds the whole memory is looked at.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])


def refusal_to_serve(settings: Settings) -> str | None:
    """Why the service must not listen with these settings, with the remedy; None when it may."""
    from app.access.hosts import is_loopback
    from app.access.tokens import HOW_TO_MAKE_ONE, any_made
    from app.commands.token import on_the_services_database

    if settings.api_token is not None or is_loopback(settings.host):
        return None
    if on_the_services_database(settings, any_made):
        return None
    return (
        f"Refusing to listen on {settings.host} without a token: everyone who reaches this address could run code on "
        f"the cluster. Make one with: {HOW_TO_MAKE_ONE}; or set HLINK_API_TOKEN, or listen on 127.0.0.1 only "
        "(HLINK_HOST)."
    )


def openapi() -> None:
    """Print the OpenAPI document; starts nothing and needs no database."""
    from app.main import create_app
    from app.settings import Settings

    typer.echo(json.dumps(create_app(Settings()).openapi(), ensure_ascii=False, indent=2))


def register(cli: typer.Typer) -> None:
    """Add these commands to the command line."""
    cli.command()(serve)
    cli.command()(openapi)
