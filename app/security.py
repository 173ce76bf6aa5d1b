"""At the door: who calls, whether they may, and whether it goes into the audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.access import audit
from app.access.hosts import is_loopback, refuse_foreign
from app.access.roles import Role, needed
from app.access.tokens import HOW_TO_MAKE_ONE, Caller
from app.errors import Forbidden, Unauthorised
from app.identity import LOCAL, caller
from app.service import service as running_service

_bearer = HTTPBearer(auto_error=False, description="A token of `hlink token create`, or HLINK_API_TOKEN")


async def require_access(
    request: Request, sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """A route's dependency. Names the caller in :data:`app.identity.caller`.

    Raises :class:`~app.errors.Unauthorised` without a valid token, and :class:`~app.errors.Forbidden` when the
    caller's role does not do, or when the service runs open and the request was not meant for it.
    """
    known = await _caller(request, sent)
    need = needed(request.method, request.scope["route"].path_format, request.app.state.needs)
    caller.set(known.name)
    if need.audited:
        audit.mark(request, known)
    if not known.role.covers(need.role):
        raise Forbidden(
            f"This needs the role {need.role}, and the token '{known.name}' has the role {known.role}: "
            "ask an administrator of the service for another token"
        )


async def _caller(request: Request, sent: HTTPAuthorizationCredentials | None) -> Caller:
    service = running_service(request)
    if not await service.tokens.required() and is_loopback(service.settings.host):
        refuse_foreign(request.headers, service.settings.other_hosts())
        return Caller(LOCAL, Role.ADMIN)
    if sent is None:
        raise Unauthorised(
            "This service asks for a token: send the header 'Authorization: Bearer <token>'. "
            f"An administrator makes one with: {HOW_TO_MAKE_ONE}"
        )
    known = await service.tokens.caller(sent.credentials)
    if known is None:
        raise Unauthorised(
            f"The token is not valid: unknown, expired or revoked. An administrator makes one with: {HOW_TO_MAKE_ONE}"
        )
    return known
