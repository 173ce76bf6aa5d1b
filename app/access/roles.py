"""Roles, and which of them a request needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a caller may do; each may do what the ones before it may."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what ``needed`` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Need:
    """What a route asks of its caller; ``audited``: it changes something, so calls are kept in the audit log."""

    role: Role
    audited: bool = True


Needs = Mapping[str, Need]
"""Routes that need something else than their method says, by ``METHOD /path/{template}``."""

_READ = Need(Role.VIEWER, audited=False)
_CHANGE = Need(Role.EDITOR)


def needed(method: str, template: str, exceptions: Needs) -> Need:
    """What a route needs: reading a viewer, changing an editor, unless it is an exception."""
    usual = _READ if method in ("GET", "HEAD", "OPTIONS") else _CHANGE
    return exceptions.get(f"{method} {template}", usual)
