"""How a long operation tells what it is doing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One thing that a component (or an artifact group) has just begun or ended.

    :param subject: whom it is about: a component's name, or ``artifacts``.
    :param text: what it is doing, in the words of a user.
    :param done: the subject has nothing more to do.
    """

    subject: str
    text: str
    done: bool = False


Progress = Callable[[Step], None]
"""Called from several threads at once."""


def silent(_: Step) -> None:
    """Progress that nobody watches."""
