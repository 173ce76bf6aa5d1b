"""The login of a cluster that stands behind an authenticating proxy: user and password, or a bearer token."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from app.errors import Problem
from app.hlink.tables.fields import mask

_NAMES = ("username", "password", "token")


def read(given: Mapping[str, str | None], previous: Mapping[str, str]) -> tuple[dict[str, str], list[Problem]]:
    """The login that a request describes, and what is wrong with it.

    What is not given, or is the mask that answers show, stays as it was in ``previous``; empty text takes it away. A
    token takes the place of user and password, and the other way round.
    """
    sent = {name: value for name in _NAMES if (value := given.get(name)) is not None and value != mask()}
    kept = dict(previous)
    if sent.get("token"):
        kept.pop("username", None)
        kept.pop("password", None)
    elif sent.get("username"):
        kept.pop("token", None)
    login = {name: value for name, value in (kept | sent).items() if value}
    return login, list(_problems(login))


def _problems(login: Mapping[str, str]) -> list[Problem]:
    problems = []
    if "token" in login and len(login) > 1:
        problems.append(Problem("there are a token and a password", field="token", remedy="give one of them"))
    for name, other in (("username", "password"), ("password", "username")):
        if name in login and other not in login:
            problems.append(Problem(f"there is a {name} without it", field=other, remedy=f"give the {other}, too"))
    if ":" in login.get("username", ""):
        problems.append(Problem("it has a colon in it", field="username", remedy="HTTP cannot send such a name"))
    token = login.get("token", "")
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        problems.append(
            Problem("it has characters that no token has", field="token", remedy="give it without 'Bearer' and spaces")
        )
    return problems


def header(login: Mapping[str, str] | None) -> str | None:
    """The header ``Authorization`` that the login stands for."""
    if not login:
        return None
    if "token" in login:
        return f"Bearer {login['token']}"
    pair = f"{login['username']}:{login['password']}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def shown(login: Mapping[str, str] | None) -> dict[str, str]:
    """The login for answers: secrets masked."""
    return {name: value if name == "username" else mask() for name, value in (login or {}).items()}


def gives_secret(given: Mapping[str, str | None]) -> bool:
    """Whether a request brings the secret itself, and does not go on with the one that is stored."""
    return any(given.get(name) not in (None, "", mask()) for name in ("password", "token"))
