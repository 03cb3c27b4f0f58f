"""What every route may ask for: the replica's services, and who asks."""

from __future__ import annotations

import re
from typing import Annotated, cast

from fastapi import Depends, Header, Path, Request
from fastapi.exceptions import RequestValidationError

from serve_app.api.services import Services
from serve_app.api.traffic import Limiters, Traffic
from serve_app.search.limit import Limiter
from serve_app.types import LOCAL_PRINCIPAL, NAME, Principal, Scope


async def services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


async def principal() -> Principal:
    """The one place where a request gets its principal. Authentication is off: everyone is the local developer."""
    return LOCAL_PRINCIPAL


async def searches(request: Request) -> Limiter:
    return cast(Limiters, request.app.state.limiters)[Traffic.SEARCHES]


Wired = Annotated[Services, Depends(services)]
Caller = Annotated[Principal, Depends(principal)]
SearchLimiter = Annotated[Limiter, Depends(searches)]
CollectionName = Annotated[
    str,
    Path(
        description="1 to 63 letters, digits, `.`, `_` or `-`, the first a letter or digit",
        json_schema_extra={"pattern": f"^{NAME.pattern}$"},  # checked by Scope, which says it in words
        examples=["handbook"],
    ),
]


async def scope(caller: Caller, collection: CollectionName) -> Scope:
    """The caller's own collection of that name. Raises InvalidInput if it cannot be one."""
    return caller.scope(collection)


InCollection = Annotated[Scope, Depends(scope)]

SESSION_HEADER = "X-Session-Id"
SESSION_ID = re.compile("[!-~]{1,128}")
SessionHeader = Annotated[
    str | None,
    Header(
        alias=SESSION_HEADER,
        description="Any text that is the same for the searches of one person's visit, such as a random number: what "
        "often follows a search is then made ready when it is asked. 1 to 128 visible ASCII characters; neither "
        "stored nor logged",
        json_schema_extra={"pattern": f"^{SESSION_ID.pattern}$"},  # checked below, which says it in words
    ),
]


async def session(text: SessionHeader = None) -> str | None:
    if text is not None and not SESSION_ID.fullmatch(text):
        wrong = "must be 1 to 128 visible ASCII characters"
        raise RequestValidationError([{"type": "session", "loc": ("header", SESSION_HEADER), "msg": wrong}])
    return text


Session = Annotated[str | None, Depends(session)]
