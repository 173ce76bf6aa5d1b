"""Bodies of requests that the document publishes as query fields, or publishes oddly."""

from __future__ import annotations

import json
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ValidationError

from app.errors import InvalidInput, Problem

Model = TypeVar("Model", bound=BaseModel)


async def body_as(request: Request, model: type[Model], single: str = "") -> Model:
    """The body of a request as a wire model, empty without a body.

    The body may be a JSON object or a form; one that is bare text, or JSON text, is the field ``single`` when one is
    named. Raises :class:`~app.errors.InvalidInput`.
    """
    try:
        return model.model_validate(await _fields(request, single))
    except ValidationError as error:
        raise InvalidInput(
            *(Problem(one["msg"], field=".".join(map(str, one["loc"])) or None) for one in error.errors())
        ) from None


async def _fields(request: Request, single: str) -> dict[str, Any]:
    content = await request.body()
    if not content.strip():
        return {}
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(Problem("the body is not UTF-8 text", remedy="send JSON")) from None
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(text))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text.strip()
    if isinstance(value, dict):
        return value
    if single and isinstance(value, str):
        return {single: value}
    raise InvalidInput(Problem("the body is not a JSON object", remedy='send the fields as {"name": "value"}'))
