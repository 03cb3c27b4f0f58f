"""Pages of a ranking whose first hits a cross-encoder has ordered. Pure.

0 … candidates    ordered by the cross-encoder's score alone: one answer, the same for every page
candidates …      as they were found, with the scores that they were found with
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from serve_app.errors import InvalidInput
from serve_app.query_types import Hit, StoreResult
from serve_app.search.request import SearchRequest
from serve_app.types import Passage, Vector


def require_rerankable(request: SearchRequest, profile: str) -> None:
    """Raises InvalidInput. Groups and facets are all right: the best passage of each group is what is ordered."""
    if request.diversity is not None:
        raise InvalidInput(
            f"diversity cannot be combined with search profile {profile!r}, whose hits a cross-encoder orders: leave "
            "diversity out, or name another profile"
        )


def first_hits(request: SearchRequest, candidates: int) -> SearchRequest:
    """The request for the hits that the cross-encoder reorders; the same for every page."""
    return replace(request, limit=candidates, offset=0)


def hits_behind(request: SearchRequest, candidates: int) -> SearchRequest | None:
    """What finds the part of the page that stays as it is; None if it has none. Where the page begins among the first
    hits, from the start on: a store that looks deeper may find another order, so that what follows on them is what
    they have not."""
    if request.offset >= candidates:
        return request
    end = request.offset + request.limit
    return replace(request, limit=end, offset=0, facets=()) if end > candidates else None


def texts_of(hits: Sequence[Hit]) -> list[str]:
    """What the embedding model and BM25 saw of each."""
    return [Passage(0, hit.text, hit.headings).embedded_text(hit.title) for hit in hits]


def ordered(found: StoreResult, scores: Vector) -> StoreResult:
    """By these scores, best first, which the hits then have; equal ones stay in order."""
    order = np.argsort(-scores, kind="stable")
    return replace(found, hits=tuple(replace(found.hits[place], score=float(scores[place])) for place in order))


def page_of(request: SearchRequest, first: StoreResult | None, behind: StoreResult | None) -> StoreResult:
    """first: all first hits, ordered; None where the page begins behind them. behind: what `hits_behind` finds."""
    if first is None:
        return behind or StoreResult(())
    present = {_what(request, hit) for hit in first.hits}
    rest = (hit for hit in behind.hits if _what(request, hit) not in present) if behind else ()
    return replace(first, hits=(*first.hits, *rest)[request.offset :][: request.limit])


def _what(request: SearchRequest, hit: Hit) -> str:
    """What a ranking has once."""
    return hit.document_id if request.group_by == "document_id" else hit.passage_id
