"""What every route may ask for: the replica's services, and who asks."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Path, Request

from serve_app.api.services import Services
from serve_app.types import LOCAL_PRINCIPAL, Principal


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
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="1 to 63 letters, digits, `.`, `_` or `-`, the first a letter or digit",
        examples=["handbook"],
    ),
]
