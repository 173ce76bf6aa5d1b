"""The command ``hlink``. Each command imports what it needs when it runs, so that ``--help`` is fast."""

from __future__ import annotations

import typer

from app.commands import demo, frameworks, serve, stack, token

app = typer.Typer(
    name="hlink",
    help="Real-time feature processing on Flink.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
stack.register(app)
serve.register(app)
demo.register(app)
token.register(app)
frameworks.register(app)


def main() -> None:
    """Entry point of the ``hlink`` script."""
    app()


if __name__ == "__main__":
    main()
