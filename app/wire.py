"""Scalar types of the published models, and what these models have in common.

The published documents give types in Swagger 2 notation (``integer(int64)``, ``string(date-time)``); the types
here say the same in OpenAPI 3. Requests are read as leniently as the originals' parsers read them: a number may
come as text, text may come as a number, and empty text where a number or a time belongs means "not given".
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError


def blank_is_absent(value: Any) -> Any:
    """A validator: empty text means "not given"."""
    return None if isinstance(value, str) and not value.strip() else value


def storable(text: str) -> str:
    """A validator: text that can be stored and sent again."""
    # PostgreSQL cannot store the one, nobody can encode the other: refused here, where the field can be named.
    if "\x00" in text:
        raise PydanticCustomError("nul", "contains the NUL character (U+0000); remove it")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise PydanticCustomError("surrogate", "contains half a character (a lone surrogate); remove it")
    return text


def _to_datetime(value: Any) -> Any:
    """Milliseconds since 1970 become a moment in UTC; everything else is pydantic's to judge."""
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value / 1000, UTC)
        except (OverflowError, OSError, ValueError):
            raise PydanticCustomError("time", "{value} milliseconds are no time", {"value": value}) from None
    return blank_is_absent(value)


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
Text = Annotated[str, AfterValidator(storable)]
DateTime = Annotated[
    datetime,
    PlainSerializer(_iso_8601, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]

OptionalInt32 = Annotated[Int32 | None, BeforeValidator(blank_is_absent)]
OptionalInt64 = Annotated[Int64 | None, BeforeValidator(blank_is_absent)]
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
    BeforeValidator(blank_is_absent),
]
"""A query field of type date-time; ``time_span`` says which moments it lets through."""

TextId = Annotated[Int64, WithJsonSchema({"type": "string"})]
"""An id that is published as text."""


def _split_at_commas(value: Any) -> Any:
    return [one for part in value for one in str(part).split(",") if one.strip()] if isinstance(value, list) else value


IdList = Annotated[list[Int64], BeforeValidator(_split_at_commas)]
"""Ids in a query, as a field for each or with commas between them."""

TextFilter = Annotated[Text | None, BeforeValidator(blank_is_absent)]
"""A query field of type string; empty text filters nothing."""


class Wire(BaseModel):
    """A published model: the attribute is our word, the alias the published name."""

    model_config = ConfigDict(populate_by_name=True, coerce_numbers_to_str=True, extra="ignore")
