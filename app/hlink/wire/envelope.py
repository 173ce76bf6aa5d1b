"""What every answer and every list of the Hlink API has in common: envelope and page."""

from __future__ import annotations

from math import ceil
from typing import Annotated, Generic, TypeVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from app.wire import Int32, Int64, OptionalInt32, Wire, blank_is_absent

DEFAULT_PAGE_SIZE = 10
LARGEST_PAGE_SIZE = 500
SUCCESS = 200
"""The envelope's ``code`` when all went well."""

CustomParameters = Annotated[
    Annotated[str, WithJsonSchema({"type": "object", "additionalProperties": True})] | None,
    BeforeValidator(blank_is_absent),
]
"""The query field ``parms`` (自定义参数): published as an object, read and used for nothing, as in the original."""

T = TypeVar("T")


class Answer(Wire, Generic[T]):
    """公共 响应: the envelope of every JSON answer. ``success`` false goes with a ``msg`` that says what to do."""

    code: Int32 = SUCCESS
    msg: str = ""
    success: bool = True
    data: T | None = None


class Page(Wire, Generic[T]):
    """IPage: one page of a list. ``current`` counts from 1; ``pages`` is 0 for an empty list."""

    records: list[T]
    total: Int64
    size: Int64
    current: Int64
    pages: Int64
    search_count: bool = Field(True, alias="searchCount")

    @classmethod
    def of(cls, records: list[T], total: int, paging: Paging) -> Page[T]:
        """The page that ``paging`` asked for, out of ``total`` records."""
        return cls(
            records=records,
            total=total,
            size=paging.size,
            current=paging.number,
            pages=ceil(total / paging.size),
        )


class Paging(Wire):
    """The query fields ``curPage`` and ``pageSize`` of every list.

    Out of bounds is brought into bounds, as the original did: a page before the first is the first, a size below
    one is the default, a size above the largest is the largest (the answer's ``size`` says which was used).
    """

    requested_page: OptionalInt32 = Field(None, alias="curPage")
    requested_size: OptionalInt32 = Field(None, alias="pageSize")

    @property
    def number(self) -> int:
        """The page, from 1."""
        return max(self.requested_page or 1, 1)

    @property
    def size(self) -> int:
        """Records a page."""
        asked = self.requested_size or 0
        return min(asked, LARGEST_PAGE_SIZE) if asked > 0 else DEFAULT_PAGE_SIZE

    @property
    def offset(self) -> int:
        """Records before this page."""
        return (self.number - 1) * self.size
