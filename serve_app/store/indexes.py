"""Rules and errors about a collection's indexes that both stores share. Pure."""

from __future__ import annotations

from dataclasses import replace

from serve_app.errors import Conflict, NotFound, PlatformError
from serve_app.query_types import StoreResult
from serve_app.types import FIRST_INDEX, Recipe, Scope


def from_index(name: str, answers: list[StoreResult | PlatformError]) -> list[StoreResult | PlatformError]:
    """The same results, each marked with the index that it came from."""
    if name == FIRST_INDEX:  # the default of StoreResult.index
        return answers
    return [replace(one, index=name) if isinstance(one, StoreResult) else one for one in answers]


def unknown(scope: Scope) -> NotFound:
    index = f" with an index {scope.index!r}" if scope.index else ""
    return NotFound(f"there is no collection {scope.collection!r}{index}")


def require_made_for(made_for: str | None, active: Scope) -> None:
    """Raises Conflict if the documents were made for an index that is not the active one."""
    if made_for not in (None, active.index):
        raise Conflict(f"the documents were made for index {made_for}, but {active.index} is active now: try again")


def require_same_recipe(scope: Scope, made: Recipe, asked: Recipe) -> None:
    if made != asked:
        raise Conflict(f"index {scope.index} was made with {made}, not with {asked}: drop it first")


def already_active(index: str) -> Conflict:
    return Conflict(f"index {index} is active now: write to the collection, without an index's name")


def index_is_active(index: str) -> Conflict:
    return Conflict(f"index {index} is active: make another index active first, or drop the collection")


def already_held() -> Conflict:
    return Conflict("writes are held back by another reindexing: try again when it has ended")


def hold_is_over() -> Conflict:
    return Conflict("writes were held back for too short a time, and have gone on: try again")
