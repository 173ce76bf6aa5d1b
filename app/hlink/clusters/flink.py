"""Asking a Flink cluster who it is and how it does."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import InvalidInput, Problem, Unavailable

TIMEOUT_S = 3.0
"""The longest a cluster may take to answer before it counts as unreachable."""

_EXAMPLE = "write http://host:8081, the address of Flink's REST API"


class Overview(BaseModel):
    """Flink's ``GET /overview``: slots, task managers, jobs by state."""

    model_config = ConfigDict(populate_by_name=True, extra="ignore")

    flink_version: str = Field(alias="flink-version")
    flink_commit: str = Field("", alias="flink-commit")
    task_managers: int = Field(alias="taskmanagers")
    slots_total: int = Field(alias="slots-total")
    slots_available: int = Field(alias="slots-available")
    jobs_running: int = Field(alias="jobs-running")
    jobs_finished: int = Field(alias="jobs-finished")
    jobs_canceled: int = Field(alias="jobs-cancelled")
    jobs_failed: int = Field(alias="jobs-failed")

    @property
    def slots_running(self) -> int:
        """Slots that hold a task."""
        return self.slots_total - self.slots_available


def client() -> httpx.AsyncClient:
    """The connections to all clusters. Proxies of the environment are not used: a cluster is on the inside."""
    return httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False)


def normalised_address(text: str) -> str:
    """``http://host:port`` from what people write: also a bare ``host:port``, capitals, a slash at the end.

    Raises :class:`~app.errors.InvalidInput`, which repeats no password.
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
        raise _bad_address("the address carries credentials, and addresses are shown")
    if parts.scheme not in ("http", "https"):
        raise _bad_address(f"'{written}' has the scheme {parts.scheme}")
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", host) or parts.query or parts.fragment:
        raise _bad_address(f"'{written}' is not an address")
    if port is None and not has_scheme:
        raise _bad_address(f"'{written}' lacks its port")
    shown = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{shown}{'' if port is None else f':{port}'}{path}"


async def overview(connections: httpx.AsyncClient, address: str) -> Overview:
    """What the cluster at a normalised address says of itself.

    Raises :class:`~app.errors.Unavailable` when nothing answers within ``TIMEOUT_S`` seconds, and
    :class:`~app.errors.InvalidInput` when something answers that is not Flink.
    """
    try:
        answer = await connections.get(f"{address}/overview")
    except httpx.HTTPError as error:
        reason = "no answer in time" if isinstance(error, httpx.TimeoutException) else str(error) or "connection failed"
        raise Unavailable(
            f"No Flink cluster answers at {address} ({reason}): "
            "start the cluster, or correct host and port of its REST API (usually 8081)"
        ) from error
    try:
        answer.raise_for_status()
        return Overview.model_validate_json(answer.content)
    except (httpx.HTTPStatusError, ValidationError) as error:
        raise InvalidInput(
            Problem(
                f"what answers at {address} is not Flink's REST API (GET /overview: HTTP {answer.status_code})",
                field="address",
                remedy="give the address of Flink's REST API, usually on port 8081",
            )
        ) from error


def _bad_address(message: str) -> InvalidInput:
    return InvalidInput(Problem(message, field="address", remedy=_EXAMPLE))
