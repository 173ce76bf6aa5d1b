"""Who may call: whoever sends the service's token, or anybody when none is set (then only this machine is served)."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.errors import Unauthorised

_bearer = HTTPBearer(auto_error=False, description="The service's token (HLINK_API_TOKEN), when one is set")


async def require_token(
    request: Request, sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """A route's dependency: raises :class:`~app.errors.Unauthorised` without the right token."""
    token = request.app.state.settings.api_token
    if token is None:
        return
    if sent is None:
        raise Unauthorised("This service asks for its token: send the header 'Authorization: Bearer <token>'")
    if not hmac.compare_digest(sent.credentials.encode(), token.get_secret_value().encode()):
        raise Unauthorised("The token is not this service's")
