"""What can go wrong, in the domain's words. Each family dresses these in its own envelope.

Nothing here knows a wire code: a family gives an :data:`Envelope`, a pure function from an error to a status and a
body, and :func:`install` sees to it that everything that goes wrong under the family's paths goes through it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

logger = logging.getLogger(__name__)


class HlinkError(Exception):
    """Something went wrong that can be explained: the message says what, with the value, the place and the remedy."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details


class NotFound(HlinkError):
    """What was named does not exist."""


class NoSuchAddress(NotFound):
    """The path of the request leads nowhere."""


class Conflict(HlinkError):
    """What was asked contradicts what is already so, for instance a second run of a running job."""


class Unavailable(HlinkError):
    """An outside system (cluster, broker, database of the user) does not answer: trying later may help."""


class Unauthorised(HlinkError):
    """The caller did not say who they are."""


class Forbidden(HlinkError):
    """The caller may not do this."""


class DatabaseFailure(HlinkError):
    """The service's own database failed or could not be had in time."""


class Unexpected(HlinkError):
    """A fault of ours. The incident's number is in the log beside the trace, and is all that the caller is told."""

    def __init__(self, incident: str) -> None:
        super().__init__(f"Unexpected fault; the service's log has it as incident {incident}", incident=incident)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with what somebody sent. Lines and columns count from 1, in the text as it was sent."""

    message: str
    field: str | None = None
    table: str | None = None
    line: int | None = None
    column: int | None = None
    remedy: str | None = None

    def __str__(self) -> str:
        place = [f"table {self.table}"] if self.table else []
        place += [self.field] if self.field else []
        place += [f"line {self.line}" + (f", column {self.column}" if self.column else "")] if self.line else []
        text = f"{', '.join(place)}: {self.message}" if place else self.message
        return f"{text} ({self.remedy})" if self.remedy else text


class InvalidInput(HlinkError):
    """What was sent cannot be used; every problem found is listed, not only the first."""

    def __init__(self, *problems: Problem | str) -> None:
        self.problems: Sequence[Problem] = [Problem(p) if isinstance(p, str) else p for p in problems]
        super().__init__(
            "; ".join(map(str, self.problems)),
            problems=[{k: v for k, v in asdict(p).items() if v is not None} for p in self.problems],
        )


Envelope = Callable[[HlinkError], tuple[int, dict[str, Any]]]
"""A family's way to tell of an error: the HTTP status and the JSON body."""

_STATUS: Mapping[type[HlinkError], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    Unauthorised: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
}


def problem_envelope(error: HlinkError) -> tuple[int, dict[str, Any]]:
    """The envelope outside the families' paths: problem details, RFC 9457."""
    status = next((s for kind, s in _STATUS.items() if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    return status, {"title": status.phrase, "status": status, "detail": error.message, **error.details}


def in_domain_words(error: Exception) -> HlinkError:
    """Any exception that reached the edge, as one of ours. What we cannot explain is logged here, once."""
    match error:
        case HlinkError():
            return error
        case RequestValidationError():
            return InvalidInput(*map(_problem, error.errors()))
        case HTTPException(status_code=401):
            return Unauthorised(str(error.detail))
        case HTTPException(status_code=403):
            return Forbidden(str(error.detail))
        case HTTPException(status_code=404):
            return NoSuchAddress("There is nothing at this address")
        case HTTPException() if error.status_code < 500:
            return InvalidInput(str(error.detail))
        case SQLAlchemyError():
            incident = _log_incident(error)
            return DatabaseFailure(
                f"The service's database failed; the log has it as incident {incident}", incident=incident
            )
        case _:
            return Unexpected(_log_incident(error))


def install(app: FastAPI, envelopes: Mapping[str, Envelope]) -> None:
    """Answer every failure in the envelope of the longest path prefix that fits, or as problem details.

    ``envelopes`` maps a prefix such as ``/jobs`` to its family's envelope; ``/jobs`` covers ``/jobs`` and what is
    below it, not ``/jobsearch``.
    """
    ordered = sorted(envelopes.items(), key=lambda entry: len(entry[0]), reverse=True)

    async def answer(request: Request, error: Exception) -> Response:
        path = request.url.path
        known = in_domain_words(error)
        for prefix, envelope in ordered:
            if path == prefix or path.startswith(prefix.rstrip("/") + "/"):
                status, body = envelope(known)
                break
        else:
            status, body = problem_envelope(known)
            if isinstance(error, HTTPException):  # 405, 413, ...: the protocol's business, not the domain's
                status = body["status"] = error.status_code
                body["title"] = HTTPStatus(status).phrase
        headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
        return JSONResponse(body, status_code=status, headers=headers)

    for kind in (HlinkError, RequestValidationError, HTTPException, SQLAlchemyError, Exception):
        app.add_exception_handler(kind, answer)


def _problem(error: Any) -> Problem:
    where = [str(part) for part in error["loc"] if part not in ("body", "query", "path")]
    return Problem(str(error["msg"]), field=".".join(where) or None)


def _log_incident(error: Exception) -> str:
    incident = secrets.token_hex(6)
    logger.error("incident %s", incident, exc_info=error)
    return incident
