"""What every answer and every list of the Hlink API has in common: scalar types, envelope, page.

The published document gives types in Swagger 2 notation (``integer(int64)``, ``string(date-time)``); the types
here say the same in OpenAPI 3. Requests are read as leniently as the original's parser read them: a number may
come as text, text may come as a number, and empty text where a number or a time belongs means "not given".
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

DEFAULT_PAGE_SIZE = 10
LARGEST_PAGE_SIZE = 500
SUCCESS = 200
"""The envelope's ``code`` when all went well."""


def _blank_is_absent(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _storable(text: str) -> str:
    # PostgreSQL cannot store the one, nobody can encode the other: refused here, where the field can be named.
    if "\x00" in text:
        raise PydanticCustomError("nul", "contains the NUL character (U+0000); remove it")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise PydanticCustomError("surrogate", "contains half a character (a lone surrogate); remove it")
    return text


def _to_datetime(value: Any) -> Any:
    """Milliseconds since 1970 become a moment in UTC; everything else is pydantic's to judge."""
    if isinstance(value, int) and not isinstance(value, bool):
        return datetime.fromtimestamp(value / 1000, UTC)
    return _blank_is_absent(value)


def _iso_8601(moment: datetime) -> str:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat(timespec="milliseconds")


def _within(bits: int) -> AfterValidator:
    """Bounds as a validator: the format says them already, and as JSON Schema numbers 64 bits lose digits."""
    largest = 2 ** (bits - 1) - 1

    def check(value: int) -> int:
        if not -largest - 1 <= value <= largest:
            raise PydanticCustomError("size", "the number does not fit into {bits} bits", {"bits": bits})
        return value

    return AfterValidator(check)


Int32 = Annotated[int, _within(32), Field(json_schema_extra={"format": "int32"})]
Int64 = Annotated[int, _within(64), Field(json_schema_extra={"format": "int64"})]
Text = Annotated[str, AfterValidator(_storable)]
DateTime = Annotated[
    datetime,
    PlainSerializer(_iso_8601, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]

OptionalInt32 = Annotated[Int32 | None, BeforeValidator(_blank_is_absent)]
OptionalInt64 = Annotated[Int64 | None, BeforeValidator(_blank_is_absent)]
OptionalText = Text | None
OptionalDateTime = Annotated[DateTime | None, BeforeValidator(_to_datetime)]
"""A moment: read from ISO 8601 text or from milliseconds since 1970, written as ISO 8601 with its offset."""


def time_span(text: str) -> tuple[int, int]:
    """What a list's time filter means: milliseconds since 1970 from (inclusive) and until (exclusive).

    A date stands for its day, a time for its second; without an offset both are UTC.
    Raises ValueError when the text is neither.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(
            f"'{text}' is not an ISO 8601 date or time, such as 2026-01-31 or 2026-01-31T08:00:00"
        ) from error
    whole_day = len(text.strip()) <= len("2026-01-31")
    if not whole_day:
        moment = moment.replace(microsecond=0)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    start = int(moment.timestamp() * 1000)
    length = timedelta(days=1) if whole_day else timedelta(seconds=1)
    return start, start + int(length.total_seconds() * 1000)


def _checked_time_filter(text: str) -> str:
    try:
        time_span(text)
    except ValueError as error:
        raise PydanticCustomError("time", "{fault}", {"fault": str(error)}) from None
    return text


TimeFilter = Annotated[
    Annotated[str, AfterValidator(_checked_time_filter), WithJsonSchema({"type": "string", "format": "date-time"})]
    | None,
    BeforeValidator(_blank_is_absent),
]
"""A query field of type date-time; ``time_span`` says which moments it lets through."""

TextId = Annotated[Int64, WithJsonSchema({"type": "string"})]
"""An id that is published as text."""


def _split_at_commas(value: Any) -> Any:
    return [one for part in value for one in str(part).split(",") if one.strip()] if isinstance(value, list) else value


IdList = Annotated[list[Int64], BeforeValidator(_split_at_commas)]
"""Ids in a query, as a field for each or with commas between them."""

TextFilter = Annotated[Text | None, BeforeValidator(_blank_is_absent)]
"""A query field of type string; empty text filters nothing."""

CustomParameters = Annotated[
    Annotated[str, WithJsonSchema({"type": "object", "additionalProperties": True})] | None,
    BeforeValidator(_blank_is_absent),
]
"""The query field ``parms`` (自定义参数): published as an object, read and used for nothing, as in the original."""


class Wire(BaseModel):
    """A published model: the attribute is our word, the alias the published name."""

    model_config = ConfigDict(populate_by_name=True, coerce_numbers_to_str=True, extra="ignore")


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
