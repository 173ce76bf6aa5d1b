"""Tokens: who calls, by a secret that only the caller has.

A token is 256 random bits. What is kept is its SHA-256: nobody can guess a token from that, because there are 2^256
to try, so that the slow hashes made for passwords, which people choose, would only make every request slower. Tokens
are looked up by the digest: what the time of a look-up could tell is about a digest that the caller cannot steer.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import SecretStr
from sqlalchemy import func, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.access.models import LONGEST_NAME, AccessToken
from app.access.roles import Role
from app.database import Database, now_ms
from app.errors import Conflict, InvalidInput, NotFound, Problem

PREFIX = "hlink_"
"""Begins every token, so that people and scanners of source code know one when they see it."""
SETTING = "HLINK_API_TOKEN"
"""The name of the caller who has the token of that setting."""
KNOWN_FOR_S = 1.0
"""How long a replica goes on with the tokens that it has read: a revoked one is refused after that at the latest."""
USE_NOTED_EVERY_MS = 600_000

HOW_TO_MAKE_ONE = "hlink token create --name NAME --role viewer|editor|admin"
"""The command that makes a token, for messages."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what they may do."""

    name: str
    role: Role


def digest_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class Tokens:
    """The tokens that are valid now. ``setting`` is the one of ``HLINK_API_TOKEN``, an admin's."""

    def __init__(self, database: Database, setting: SecretStr | None = None) -> None:
        self._database = database
        self._setting = None if setting is None else digest_of(setting.get_secret_value())
        self._valid: Mapping[str, AccessToken] = {}
        self._any = False
        self._read_at = float("-inf")

    async def caller(self, token: str) -> Caller | None:
        """Who has this token; None when it is not valid. Notes its use, now and then."""
        digest = digest_of(token)
        if self._setting is not None and hmac.compare_digest(digest, self._setting):
            return Caller(SETTING, Role.ADMIN)
        await self._read(anew=digest not in self._valid)  # an unknown one may have been made a moment ago
        found = self._valid.get(digest)
        if found is None:
            return None
        await self._note_use(found)
        return Caller(found.name, found.granted)

    async def required(self) -> bool:
        """Whether callers need a token: there is the setting's, or one was made, be it revoked since."""
        if self._setting is None:
            await self._read()
        return self._setting is not None or self._any

    async def _read(self, anew: bool = False) -> None:
        if not anew and time.monotonic() - self._read_at < KNOWN_FOR_S:
            return
        began = time.monotonic()
        lasting = col(AccessToken.expires_at).is_(None) | (col(AccessToken.expires_at) > now_ms())
        async with self._database.read() as session:
            rows = await session.exec(select(AccessToken).where(col(AccessToken.revoked_at).is_(None), lasting))
            self._valid = {row.digest: row for row in rows}
            self._any = bool(self._valid) or await _any_made(session)
        self._read_at = began

    async def _note_use(self, token: AccessToken) -> None:
        if time.time() * 1000 - (token.last_used_at or 0) < USE_NOTED_EVERY_MS:
            return
        async with self._database.write() as session:
            noted = await session.exec(
                update(AccessToken)
                .where(col(AccessToken.digest) == token.digest)
                .values(last_used_at=now_ms())
                .returning(col(AccessToken.last_used_at))
                .execution_options(synchronize_session=False)
            )
            token.last_used_at = noted.scalar_one()


async def any_made(database: Database) -> bool:
    """Whether a token was ever made."""
    async with database.read() as session:
        return await _any_made(session)


async def _any_made(session: AsyncSession) -> bool:
    return (await session.exec(select(func.count()).select_from(AccessToken))).one() > 0


async def create(database: Database, name: str, role: str, lasts_ms: int | None = None) -> str:
    """Make a token, and return it: it cannot be had again. ``lasts_ms`` None: until it is revoked.

    Raises :class:`~app.errors.InvalidInput` for a name or role that cannot be, :class:`~app.errors.Conflict` when a
    valid token has the name.
    """
    name, problems = name.strip(), []
    if not name or len(name) > LONGEST_NAME or not name.isprintable() or name == SETTING:
        problems.append(
            Problem(f"{name!r} cannot be its name", field="name", remedy=f"use 1 to {LONGEST_NAME} characters")
        )
    if role not in list(Role):
        problems.append(Problem(f"{role!r} is not a role", field="role", remedy=f"use {', '.join(Role)}"))
    if problems:
        raise InvalidInput(*problems)
    token = PREFIX + secrets.token_urlsafe(32)
    try:
        async with database.write() as session:
            now = (await session.exec(select(now_ms()))).one()
            expires = None if lasts_ms is None else now + lasts_ms
            session.add(AccessToken(digest=digest_of(token), name=name, role=role, expires_at=expires))
    except IntegrityError:
        raise Conflict(f"There is a token named {name!r} already: revoke it first, or choose another name") from None
    return token


async def every(database: Database) -> Sequence[AccessToken]:
    """All tokens that were made, the newest first."""
    async with database.read() as session:
        return (await session.exec(select(AccessToken).order_by(col(AccessToken.created_at).desc()))).all()


async def revoke(database: Database, name: str) -> None:
    """End a token. Raises :class:`~app.errors.NotFound` when there is none of that name that is not revoked."""
    async with database.write() as session:
        revoked = await session.exec(
            update(AccessToken)
            .where(col(AccessToken.name) == name.strip(), col(AccessToken.revoked_at).is_(None))
            .values(revoked_at=now_ms())
            .returning(col(AccessToken.name))
            .execution_options(synchronize_session=False)
        )
        if revoked.first() is None:
            raise NotFound(f"There is no token named {name!r} to revoke: hlink token list shows those there are")
