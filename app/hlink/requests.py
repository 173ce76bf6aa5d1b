"""Bodies of requests that the document publishes as query fields, or publishes oddly."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request

from app.errors import InvalidInput, Problem


async def body_fields(request: Request, single: str = "") -> dict[str, Any]:
    """The fields of a body that is a JSON object or a form; none without a body.

    A body that is bare text, or JSON text, is the field ``single`` when one is named. Raises
    :class:`~app.errors.InvalidInput` for a body that is none of these.
    """
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
