"""The address of a cluster, as people write it and as it is kept."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from app.errors import InvalidInput, Problem

_EXAMPLE = "write http://host:8081, the address of Flink's REST API"


def normalised(text: str) -> str:
    """``http://host:port`` from what people write: also a bare ``host:port``, capitals, a slash at the end.

    A path, under which a proxy has the cluster, stays. Raises :class:`~app.errors.InvalidInput`, which repeats no
    password.
    """
    written = text.strip()
    if not written:
        raise _bad_address("the address is missing")
    has_scheme = "://" in written
    try:
        parts = urlsplit(written if has_scheme else f"http://{written}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _bad_address(f"'{written}' is not an address") from None
    if parts.username is not None or parts.password is not None:
        raise _bad_address(
            "the address carries credentials, and addresses are shown",
            "send them in the body, as username and password",
        )
    if parts.scheme not in ("http", "https"):
        raise _bad_address(f"'{written}' has the scheme {parts.scheme}")
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", host) or parts.query or parts.fragment:
        raise _bad_address(f"'{written}' is not an address")
    if port is None and not has_scheme:
        raise _bad_address(f"'{written}' lacks its port")
    shown = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{shown}{'' if port is None else f':{port}'}{path}"


def _bad_address(message: str, remedy: str = _EXAMPLE) -> InvalidInput:
    return InvalidInput(Problem(message, field="address", remedy=remedy))
