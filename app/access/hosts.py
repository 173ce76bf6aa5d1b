"""What a service that asks for no token still asks: that the request was meant for it.

A page from anywhere can make its reader's browser speak to a service on the reader's machine: directly (the header
Origin tells) or by a name of its own that leads to this machine (DNS rebinding; the header Host tells).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from app.errors import Forbidden


def is_loopback(host: str) -> bool:
    """Whether a host's name or address stands for this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refuse_foreign(headers: Mapping[str, str], allowed: Collection[str]) -> None:
    """Raises :class:`~app.errors.Forbidden` for a request by another name than this machine's or the allowed ones."""
    for header in ("host", "origin"):
        sent = headers.get(header)
        if sent is None:
            continue
        host = _host(sent)
        if not (is_loopback(host) or host.lower() in allowed):
            raise Forbidden(
                f"This service runs without tokens, for this machine only, and the request's {header.title()} is "
                f"{sent[:200]!r}. Call it as localhost, name the host in HLINK_ALLOWED_HOSTS, or make a token"
            )


def _host(sent: str) -> str:
    try:
        return urlsplit(sent if "://" in sent else f"//{sent}").hostname or ""
    except ValueError:
        return ""
