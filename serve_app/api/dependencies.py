"""What every route asks for: the replica's services, who asks, and of which collection.

One dependency a route, and all is in it: a DirectRoute (api/direct.py) takes no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Path, Request

from serve_app.api.services import Services
from serve_app.api.traffic import Limiters
from serve_app.types import LOCAL_PRINCIPAL, NAME, Principal, Scope


@dataclass(frozen=True, slots=True)
class ApiCall:
    request: Request
    principal: Principal

    @property
    def services(self) -> Services:
        return cast(Services, self.request.app.state.services)

    @property
    def limiters(self) -> Limiters:
        return cast(Limiters, self.request.app.state.limiters)


@dataclass(frozen=True, slots=True)
class CollectionCall(ApiCall):
    """scope: the caller's own collection of that name."""

    scope: Scope


def principal_of(request: Request) -> Principal:
    """The one place where a request gets its principal. Authentication is off: everyone is the local developer."""
    return LOCAL_PRINCIPAL


async def call(request: Request) -> ApiCall:
    return ApiCall(request, principal_of(request))


CollectionName = Annotated[
    str,
    Path(
        description="1 to 63 letters, digits, `.`, `_` or `-`, the first a letter or digit",
        json_schema_extra={"pattern": f"^{NAME.pattern}$"},  # checked by Scope, which says it in words
        examples=["handbook"],
    ),
]


async def collection_call(request: Request, collection: CollectionName) -> CollectionCall:
    """Raises InvalidInput if no collection can have that name."""
    principal = principal_of(request)
    return CollectionCall(request, principal, principal.scope(collection))


Called = Annotated[ApiCall, Depends(call)]
InCollection = Annotated[CollectionCall, Depends(collection_call)]
