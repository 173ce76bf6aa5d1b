"""Where the stack's services are reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from stream_jobs.local.errors import LocalStackError


@dataclass(frozen=True)
class PostgresEndpoint:
    """A PostgreSQL database and who may use it."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str

    @property
    def url(self) -> str:
        """``postgresql://user:password@host:port/database``. Contains the password."""
        credentials = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"postgresql://{credentials}@{self._address}/{quote(self.database, safe='')}"

    @property
    def jdbc_url(self) -> str:
        """``jdbc:postgresql://host:port/database``, without credentials: Flink takes them apart from it."""
        return f"jdbc:postgresql://{self._address}/{quote(self.database, safe='')}"

    def parameters(self) -> dict[str, Any]:
        """Keyword arguments for ``psycopg.connect``."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
        }

    @property
    def _address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> PostgresEndpoint:
        """Read ``postgresql://user:password@host:port/database``; port 5432 if none is given.

        :raises LocalStackError: it is not such a URL. The message does not repeat it: it may hold a password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or 5432
        except ValueError as error:
            raise _unreadable(str(error)) from error
        if parts.scheme.partition("+")[0] not in ("postgresql", "postgres"):
            raise _unreadable(f"the scheme is {parts.scheme!r}")
        if not parts.hostname or not parts.username or len(parts.path) < 2:
            raise _unreadable("user, host or database is missing")
        return cls(
            host=parts.hostname,
            port=port,
            user=unquote(parts.username),
            password=unquote(parts.password or ""),
            database=unquote(parts.path[1:]),
        )


@dataclass(frozen=True)
class Endpoints:
    """The addresses of one stack.

    :param flink_url: Flink's REST API, e.g. ``http://127.0.0.1:8081``.
    :param kafka_bootstrap: ``host:port``, several separated by commas.
    """

    flink_url: str
    kafka_bootstrap: str
    postgres: PostgresEndpoint


@dataclass(frozen=True)
class External:
    """Services that are already there: what is given is used and checked, never started or stopped.

    :param postgres_url: ``postgresql://user:password@host:port/database``.
    """

    flink_url: str | None = None
    kafka_bootstrap: str | None = None
    postgres_url: str | None = field(default=None, repr=False)


def _unreadable(why: str) -> LocalStackError:
    return LocalStackError(
        f"not a PostgreSQL URL: {why}",
        where="HLINK_POSTGRES_URL",
        remedy="give it as postgresql://user:password@host:port/database, with special characters percent-encoded",
    )
