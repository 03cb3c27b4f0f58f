"""What every route may ask for: the replica's services, and who asks."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Path, Request

from serve_app.api.services import Services
from serve_app.types import LOCAL_PRINCIPAL, NAME, Principal, Scope


async def services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


async def principal() -> Principal:
    """The one place where a request gets its principal. Authentication is off: everyone is the local developer."""
    return LOCAL_PRINCIPAL


Wired = Annotated[Services, Depends(services)]
Caller = Annotated[Principal, Depends(principal)]
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
