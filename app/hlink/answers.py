"""How the Hlink API tells of errors: its envelope, with ``success`` false."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from app.errors import Conflict, Forbidden, HlinkError, InvalidInput, NotFound, Unauthorised, Unavailable
from app.hlink.wire import Answer

_CODES: Mapping[type[HlinkError], HTTPStatus] = {
    InvalidInput: HTTPStatus.BAD_REQUEST,
    Unauthorised: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}
_PUBLISHED_STATUS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


def envelope(error: HlinkError) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the body that an error is told with.

    The document publishes the statuses 200, 401, 403 and 404 and the field ``success``: a refusal is an answer with
    status 200 and ``success`` false, as clients of the original expect it; ``code`` says its kind. A fault of ours is
    status 500. What else is known of the error (``problems`` with their places) stands beside the published fields.
    """
    code = next(
        (code for kind, code in _CODES.items() if isinstance(error, kind)),
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )
    kept = code in _PUBLISHED_STATUS or code is HTTPStatus.INTERNAL_SERVER_ERROR
    answer = Answer[None](code=code, msg=error.message, success=False)
    return (code if kept else HTTPStatus.OK), {**error.details, **answer.model_dump(by_alias=True)}
