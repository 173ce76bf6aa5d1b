"""The tables of tokens and of the audit log. Times are epoch milliseconds by the database's clock."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Index, text
from sqlmodel import Field, SQLModel

from app.access.roles import Role
from app.database import now_ms
from app.ids import new_id

LONGEST_NAME = 64
LONGEST_PATH = 512

_VALID = text("revoked_at IS NULL")


class AccessToken(SQLModel, table=True):
    """A token that was given out; the token itself is not kept. A revoked one stays, and gives its name free."""

    __tablename__ = "access_token"
    __table_args__ = (Index("access_token_name", "name", unique=True, sqlite_where=_VALID, postgresql_where=_VALID),)
    __mapper_args__: ClassVar[dict[str, Any]] = {"eager_defaults": True}

    digest: str = Field(primary_key=True, max_length=64)
    """See :func:`app.access.tokens.digest_of`."""
    name: str = Field(max_length=LONGEST_NAME)
    role: str = Field(max_length=16)
    created_at: int | None = Field(
        default=None, nullable=False, sa_type=BigInteger, sa_column_kwargs={"default": now_ms()}
    )
    expires_at: int | None = Field(default=None, sa_type=BigInteger)
    revoked_at: int | None = Field(default=None, sa_type=BigInteger)
    last_used_at: int | None = Field(default=None, sa_type=BigInteger)
    """Coarsely: see :data:`app.access.tokens.USE_NOTED_EVERY_MS`."""

    @property
    def granted(self) -> Role:
        return Role(self.role)


class AuditEvent(SQLModel, table=True):
    """One request that changed something, or was refused."""

    __tablename__ = "audit_event"
    __table_args__ = (Index("audit_event_at", "at"), Index("audit_event_who", "who", "at"))

    id: int = Field(
        default_factory=new_id, primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False}
    )
    at: int | None = Field(default=None, nullable=False, sa_type=BigInteger, sa_column_kwargs={"default": now_ms()})
    who: str = Field(max_length=LONGEST_NAME)
    role: str = Field(max_length=16)
    method: str = Field(max_length=8)
    path: str = Field(max_length=LONGEST_PATH)
    """Without the query, which may hold anything."""
    subjects: str = Field(max_length=LONGEST_PATH)
    """The ids that it was about, as ``id=12, jobId=7``."""
    success: bool
    code: int
    """The envelope's; HTTP's status where the answer has no envelope."""
