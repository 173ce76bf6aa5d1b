"""``hlink token create | list | revoke``: who may call the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from app.access.models import AccessToken
    from app.database import Database
    from app.settings import Settings

T = TypeVar("T")

_UNITS_MS = {"h": 3_600_000, "d": 86_400_000}

token = typer.Typer(help="Make, list and revoke the tokens that callers of the service send.", no_args_is_help=True)


@token.command()
def create(
    name: Annotated[str, typer.Option(help="Who gets it; shown in the audit log and in createBy.")],
    role: Annotated[str, typer.Option(help="viewer (reads), editor (tables, jobs, functions, jars) or admin (all).")],
    expires: Annotated[str | None, typer.Option(help="After hours or days, as 12h or 90d; by default never.")] = None,
) -> None:
    """Make a token and print it. It is not kept and cannot be shown again."""
    from app.access import tokens

    lasts_ms = None if expires is None else _milliseconds(expires)
    typer.echo(_told(lambda database: tokens.create(database, name, role, lasts_ms)))


@token.command("list")
def show() -> None:
    """Show the tokens that were made, the newest first, never the tokens themselves."""
    from rich.console import Console
    from rich.table import Table

    from app.access import tokens

    found = _told(tokens.every)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("name", "role", "state", "made", "expires", "last used"):
        table.add_column(title)
    for one in found:
        times = (one.created_at, one.expires_at, one.last_used_at)
        table.add_row(one.name, one.role, _state(one), *map(_time, times))
    Console(highlight=False, width=None if Console().is_terminal else 160).print(table)


@token.command()
def revoke(name: Annotated[str, typer.Argument(help="The token's name.")]) -> None:
    """End a token: every replica refuses it within a second."""
    from app.access import tokens

    _told(lambda database: tokens.revoke(database, name))
    typer.echo(f"Token '{name}' is revoked.")


def on_the_services_database(settings: Settings, do: Callable[[Database], Awaitable[T]]) -> T:
    """What ``do`` returns for the service's database, whose schema is brought up to date first."""
    import asyncio

    from app.database import Database
    from app.migrations import migrate

    async def with_database() -> T:
        settings.home.mkdir(parents=True, exist_ok=True)
        database = Database(settings.database())
        try:
            await migrate(database)
            return await do(database)
        finally:
            await database.close()

    return asyncio.run(with_database())


def _told(do: Callable[[Database], Awaitable[T]]) -> T:
    from sqlalchemy.exc import SQLAlchemyError

    from app.errors import HlinkError
    from app.settings import settings

    try:
        return on_the_services_database(settings(), do)
    except HlinkError as error:
        typer.secho(error.message, fg=typer.colors.RED, err=True)
    except SQLAlchemyError as error:
        typer.secho(f"The service's database does not answer: {type(error).__name__}", fg=typer.colors.RED, err=True)
    raise typer.Exit(1)


def _milliseconds(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS_MS or not number.isdecimal() or int(number) == 0:
        raise typer.BadParameter(f"'{text}' is not a time: write hours or days, as 12h or 90d", param_hint="--expires")
    return int(number) * _UNITS_MS[unit]


def _state(one: AccessToken) -> str:
    if one.revoked_at is not None:
        return "revoked"
    over = one.expires_at is not None and one.expires_at <= datetime.now(UTC).timestamp() * 1000
    return "expired" if over else "valid"


def _time(moment: int | None) -> str:
    return "-" if moment is None else datetime.fromtimestamp(moment / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(token, name="token")
