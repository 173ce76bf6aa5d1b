"""The envelope of the published document 可视化组件, section 全局响应参数: ``{status, msg, timeCost, obj}``."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from http import HTTPStatus
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends
from pydantic import BeforeValidator, Field

from app.errors import Conflict, Forbidden, HlinkError, InvalidInput, NotFound, Unauthorised, Unavailable
from app.wire import Int32, OptionalInt32, Wire

DEFAULT_LIMIT = 10
LARGEST_LIMIT = 500

_began: ContextVar[float | None] = ContextVar("visual_began", default=None)

T = TypeVar("T")


async def _measure() -> AsyncIterator[None]:
    _began.set(time.perf_counter())
    yield


measured = Depends(_measure)
"""A dependency of the family's routers: from here on counts what ``timeCost`` tells."""


def _time_cost() -> str:
    began = _began.get()
    return "0ms" if began is None else f"{(time.perf_counter() - began) * 1000:.0f}ms"


class Answer(Wire, Generic[T]):
    """全局响应参数: every answer's envelope. ``status`` is the HTTP status, ``timeCost`` in milliseconds."""

    status: Int32 = HTTPStatus.OK
    msg: str = "success"
    time_cost: str = Field(default_factory=_time_cost, alias="timeCost")
    obj: T | None = None


class Listed(Wire, Generic[T]):
    """The choices there are."""

    data: list[T]


class Page(Wire, Generic[T]):
    """One page of a list; ``page`` counts from 1."""

    data: list[T]
    page: int
    limit: int
    total: int


class Paging(Wire):
    """The query fields ``page`` and ``limit``. Out of bounds is brought into bounds, and the answer says which."""

    requested_page: OptionalInt32 = Field(None, alias="page")
    requested_limit: OptionalInt32 = Field(None, alias="limit")

    @property
    def number(self) -> int:
        """The page, from 1."""
        return max(self.requested_page or 1, 1)

    @property
    def size(self) -> int:
        """Rows a page."""
        asked = self.requested_limit or 0
        return min(asked, LARGEST_LIMIT) if asked > 0 else DEFAULT_LIMIT

    @property
    def offset(self) -> int:
        """Rows before this page."""
        return (self.number - 1) * self.size


def _plain_number(value: Any) -> Any:
    return value if value is None else str(value)


NumberAsText = Annotated[str, BeforeValidator(_plain_number)]
"""A number that the document has as a string."""

_STATUSES: tuple[tuple[type[HlinkError], HTTPStatus], ...] = (
    (InvalidInput, HTTPStatus.BAD_REQUEST),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Conflict, HTTPStatus.CONFLICT),
    (Unauthorised, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)


def envelope(error: HlinkError) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the body that an error is told with; what else is known of it stands in ``obj``."""
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    answer = Answer[dict[str, Any]](status=status, msg=error.message, obj=dict(error.details))
    return status, answer.model_dump(by_alias=True)
