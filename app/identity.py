"""Who is asking, for everything beneath a request that wants to note it."""

from __future__ import annotations

from contextvars import ContextVar

LOCAL = "local"
"""The name of whoever calls a service that runs open, for this machine only."""

caller: ContextVar[str] = ContextVar("caller", default="")
"""The name on the caller's token, or :data:`LOCAL`; empty outside of a request. Copied into tasks a request starts."""
