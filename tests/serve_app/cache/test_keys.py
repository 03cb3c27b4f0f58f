"""Two different inputs never share a key; the same input always does."""

from __future__ import annotations

import dataclasses
import itertools

from hypothesis import assume, given
from hypothesis import strategies as st

from serve_app.cache.keys import KEY_BYTES, digest, embedding_key, result_key
from serve_app.types import Scope, VectorSpace

TEXTS = st.text(st.characters(), max_size=8)  # lone surrogates too
EMBEDDINGS = st.tuples(st.builds(VectorSpace, TEXTS, TEXTS, st.integers(1, 99)), TEXTS, TEXTS)
NAMES = st.from_regex(r"[a-c][a-c.]{0,3}", fullmatch=True)
RESULTS = st.tuples(st.builds(Scope, NAMES, NAMES), st.binary(max_size=4), TEXTS, st.binary(max_size=4))


@given(EMBEDDINGS, EMBEDDINGS)
def test_embedding_keys_are_equal_only_for_equal_inputs(a: tuple[VectorSpace, str, str], b: object) -> None:
    assert len(embedding_key(*a)) == KEY_BYTES
    assert (embedding_key(*a) == embedding_key(*b)) == (a == b)  # type: ignore[misc]


@given(RESULTS, RESULTS)
def test_result_keys_are_equal_only_for_equal_inputs(a: tuple[Scope, bytes, str, bytes], b: object) -> None:
    assert (result_key(*a) == result_key(*b)) == (a == b)  # type: ignore[misc]


@given(st.lists(st.binary(max_size=6), max_size=5), st.lists(st.integers(0, 30), max_size=5))
def test_moving_a_boundary_between_parts_changes_the_key(parts: list[bytes], cuts: list[int]) -> None:
    joined = b"".join(parts)
    edges = [0, *sorted(min(cut, len(joined)) for cut in cuts), len(joined)]
    other = [joined[start:end] for start, end in itertools.pairwise(edges)]
    assume(other != parts)
    assert digest(b"test", *parts) != digest(b"test", *other)


@given(RESULTS, NAMES)
def test_tenants_never_share_a_result(result: tuple[Scope, bytes, str, bytes], tenant: str) -> None:
    scope, *rest = result
    assume(scope.tenant != tenant)
    assert result_key(dataclasses.replace(scope, tenant=tenant), *rest) != result_key(*result)  # type: ignore[arg-type]


def test_kinds_of_keys_never_meet() -> None:
    assert digest(b"a", "x") != digest(b"b", "x")
