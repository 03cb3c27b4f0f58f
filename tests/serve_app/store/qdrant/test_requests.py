from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from serve_app.errors import InvalidInput
from serve_app.query_types import Fusion, FusionMethod
from serve_app.store.filters.parse import parse_filter
from serve_app.store.payload import DOCUMENT, HIT_FIELDS, PASSAGE, facet_texts
from serve_app.store.points import passage_points, record_point
from serve_app.store.qdrant.facet_terms import FacetTerms, facet_terms
from serve_app.store.qdrant.requests import (
    in_requests,
    point_bytes,
    require_answerable,
    to_filter,
    to_point,
    to_request,
)
from serve_app.types import JsonObject, SparseVector
from tests.contracts.corpus import SCOPE, document, query, where
from tests.serve_app.store.filters.test_equivalence import (
    CONDITION,
    KEYS,
    MATCH,
    PAYLOADS,
    condition_holds,
    filters,
    holds,
)

EMPTY = SparseVector(np.array([], np.uint32), np.array([], np.float32))


@settings(max_examples=25, deadline=None)
@given(filters(CONDITION))
def test_a_filter_survives_the_wire(raw: dict[str, Any]) -> None:
    """As protobuf, which is what a server gets over gRPC."""
    sent = to_filter(parse_filter(raw, max_depth=8, max_conditions=1_000), PASSAGE)
    received = GrpcToRest.convert_filter(RestToGrpc.convert_filter(sent))
    assert canonical(received) == canonical(sent)


@settings(max_examples=100, deadline=None)
@given(st.fixed_dictionaries({"key": KEYS, "match": MATCH}))
def test_the_mirror_leaves_out_nothing_that_the_filter_means(condition: dict[str, Any]) -> None:
    wanted = parse_filter({"must": [condition]}, max_depth=8, max_conditions=1_000)
    for terms in facet_terms(wanted):
        for payload in PAYLOADS:
            mirror = {"facets": facet_texts(payload["metadata"])}
            found = condition_holds({"key": terms.path, "match": {"any": list(terms.texts)}}, mirror)
            assert found or not holds(dict(wanted), payload)


def test_the_mirror_narrows_what_must_hold() -> None:
    year, tags = {"key": "metadata.year", "match": {"value": 1}}, {"key": "metadata.tags", "match": {"any": ["a", "b"]}}
    others = [{"key": "title", "match": {"value": "t"}}, {"key": "metadata.n", "match": {"except": [1]}}]
    wanted: JsonObject = {"must": [year, {"must": [tags]}, *others], "should": [year], "must_not": [year]}
    assert list(facet_terms(wanted)) == [FacetTerms("facets.year", ("1",)), FacetTerms("facets.tags", ("a", "b"))]
    assert list(facet_terms(None)) == []
    sent = to_filter(wanted, PASSAGE).model_dump(mode="json", exclude_none=True)
    assert {"key": "facets.year", "match": {"any": ["1"]}} in sent["must"]
    assert "facets" not in str(to_filter(wanted, DOCUMENT))  # a record has no mirror


def canonical(filter: models.Filter) -> JsonObject:
    return parse_filter(filter.model_dump(mode="json", by_alias=True), max_depth=10, max_conditions=1_000)


QUERIES = [
    query("cats", mode, filter=filter, diversity=diversity, fusion=fusion, hnsw_ef=64)
    for mode in ("dense", "sparse", "hybrid")
    for filter in (None, where("metadata.year", 2024))
    for diversity in ((None, 0.5) if mode != "sparse" else (None,))
    for fusion in (Fusion(FusionMethod.RRF, 10), Fusion(FusionMethod.DBSF))
]


@pytest.mark.parametrize("asked", QUERIES, ids=lambda q: f"{q.diversity}-{q.fusion.method}")
def test_a_query_has_a_form_on_the_wire(asked: Any) -> None:
    request = to_request(asked, 10, 5, HIT_FIELDS)
    assert request is not None
    message = RestToGrpc.convert_query_request(request, "acme~handbook")
    assert (message.limit, message.offset) == (10, 5)
    assert list(message.with_payload.include.fields) == list(HIT_FIELDS)
    leaves = [message, *message.prefetch, *(leaf for prefetch in message.prefetch for leaf in prefetch.prefetch)]
    assert any(len(leaf.filter.must) for leaf in leaves)  # passages only, however the query is built


def test_dense_search_alone_is_told_how() -> None:
    asked = query("cats", hnsw_ef=64, exact=True, rescore=False, oversampling=3.0)
    request = to_request(asked, 10, 0, HIT_FIELDS)
    assert request is not None
    dense, sparse = RestToGrpc.convert_query_request(request, "acme~handbook").prefetch
    assert (dense.params.hnsw_ef, dense.params.exact, dense.params.quantization.ignore) == (64, True, True)
    assert (dense.params.quantization.rescore, dense.params.quantization.oversampling) == (False, 3.0)
    assert not sparse.HasField("params")  # "exact" would have it scan


def test_points_have_a_form_on_the_wire() -> None:
    indexed = document("d", "cats purr", metadata={"year": 2024, "tags": ["a", None]})
    for point in map(to_point, [record_point(SCOPE, indexed, 1, "print"), *passage_points(SCOPE, indexed)]):
        back = GrpcToRest.convert_point_struct(RestToGrpc.convert_point_struct(point))
        assert (back.id, back.payload) == (point.id, point.payload)


def test_a_passage_without_words_has_no_sparse_vector() -> None:
    whole = document("d", "cats purr")
    wordless = dataclasses.replace(whole, passages=(dataclasses.replace(whole.passages[0], sparse=EMPTY),))
    [point] = map(to_point, passage_points(SCOPE, wordless))
    assert isinstance(point.vector, dict)
    assert point.vector.keys() == {"dense"}


def test_a_query_without_words_is_dense_or_nothing() -> None:
    assert to_request(dataclasses.replace(query("x", "sparse"), sparse=EMPTY), 10, 0, HIT_FIELDS) is None
    hybrid = to_request(dataclasses.replace(query("x"), sparse=EMPTY), 10, 0, HIT_FIELDS)
    assert hybrid is not None
    assert isinstance(hybrid.prefetch, list)
    assert [prefetch.using for prefetch in hybrid.prefetch] == ["dense"]


@pytest.mark.parametrize("diversity", [-0.1, 1.1, float("nan")])
def test_diversity_has_bounds(diversity: float) -> None:
    with pytest.raises(InvalidInput, match="diversity"):
        require_answerable(query("x", diversity=diversity))


def test_requests_are_bounded_in_bytes() -> None:
    whole = document("d", *[f"text {'x' * (n % 7) * 100}" for n in range(50)])
    points = [to_point(point) for point in passage_points(SCOPE, whole)]
    requests = list(in_requests(points, max_bytes=5_000))
    assert [point for request in requests for point in request] == points
    assert len(requests) > 1
    for request in requests:
        assert len(request) == 1 or sum(map(point_bytes, request)) <= 5_000


def test_a_point_larger_than_a_request_goes_alone() -> None:
    points = [to_point(point) for point in passage_points(SCOPE, document("d", "small", "x" * 10_000, "small"))]
    assert [len(request) for request in in_requests(points, max_bytes=5_000)] == [1, 1, 1]
    assert list(in_requests([])) == []


def test_estimated_bytes_are_not_less_than_those_sent() -> None:
    whole = document("d", "cats purr", "é" * 1_000, metadata={"deep": {"list": [1, 2]}})
    for point in map(to_point, passage_points(SCOPE, whole)):
        sent = models.PointsList(points=[point]).model_dump_json(exclude_unset=True)
        assert point_bytes(point) >= 0.8 * len(sent.encode())
