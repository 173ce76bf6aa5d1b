"""How the Hlink API tells of errors: its envelope, with ``success`` false."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from app.errors import (
    DatabaseFailure,
    Forbidden,
    HlinkError,
    InvalidInput,
    NoSuchAddress,
    NotFound,
    Unauthorised,
    Unavailable,
    Unexpected,
)
from app.hlink.wire import Answer

#: The envelope's ``code`` by the kind of error; what is not named here is a business error.
_CODES: Mapping[type[HlinkError], int] = {
    InvalidInput: -3,
    DatabaseFailure: -4,
    Unauthorised: -7,
    Forbidden: -7,
    NotFound: -8,
    Unavailable: -2,
    Unexpected: -1,
}
BUSINESS_ERROR = 0
#: What clients learn from the HTTP status; everything else that was handled is an answer, status 200.
_STATUSES: Mapping[type[HlinkError], HTTPStatus] = {
    Unauthorised: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NoSuchAddress: HTTPStatus.NOT_FOUND,
    DatabaseFailure: HTTPStatus.INTERNAL_SERVER_ERROR,
    Unexpected: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def envelope(error: HlinkError) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the body that an error is told with.

    A refusal is an answer with status 200 and ``success`` false, as clients of the original expect it; ``code`` says
    its kind. What else is known of the error (``problems`` with their places) stands beside the published fields.
    """
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), BUSINESS_ERROR)
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), HTTPStatus.OK)
    answer = Answer[None](code=code, msg=error.message, success=False)
    return status, {**error.details, **answer.model_dump(by_alias=True)}
