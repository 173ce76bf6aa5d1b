"""What can go wrong in the demo."""

from __future__ import annotations

from typing import Any


class DemoError(Exception):
    """The demo cannot go on; the message is fit for a user's eyes."""


class Refused(DemoError):
    """The service did not do what it was asked for.

    :param call: method and path.
    :param message: the service's own words.
    :param body: its whole answer.
    """

    def __init__(self, call: str, message: str, body: Any = None) -> None:
        super().__init__(f"{call}: {message}")
        self.call = call
        self.message = message
        self.body = body
