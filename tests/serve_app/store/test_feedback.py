"""Feedback and smoothing follow the published formulas. No hit is lost, and later hits stay after the candidates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.query_types import Feedback, Smoothing
from serve_app.store.feedback import smoothed, smoothing_of, wants_feedback, with_feedback
from serve_app.types import Vector
from tests.contracts.corpus import query


def unit(*values: float) -> Vector:
    vector = np.array(values, np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def test_feedback_is_rocchios_formula() -> None:
    asked = replace(query("cats", "dense", feedback=Feedback(2, 0.25)), dense=unit(1, 0, 0))
    moved = with_feedback(asked, [unit(0, 1, 0), unit(0, 0, 1)])
    assert moved.dense == pytest.approx(unit(0.75, 0.125, 0.125), abs=1e-6)
    assert moved.feedback is None


def test_feedback_without_anything_found_leaves_the_query() -> None:
    asked = query("cats", feedback=Feedback(3, 0.5))
    assert with_feedback(asked, []).dense is asked.dense
    assert asked.dense is not None
    opposite = with_feedback(asked, [-asked.dense]).dense  # their mean is nothing
    assert opposite is not None and np.isfinite(opposite).all()


def test_what_has_no_dense_vector_has_neither() -> None:
    both = {"feedback": Feedback(3, 0.5), "smoothing": Smoothing(9, 3, 0.5)}
    assert not wants_feedback(query("cats", "sparse", **both)) and smoothing_of(query("cats", "sparse", **both)) is None
    assert wants_feedback(query("cats", **both)) and smoothing_of(query("cats", **both)) is not None
    assert smoothing_of(query("cats", diversity=0.5, **both)) is None


def test_smoothing_is_the_published_step() -> None:
    """Two neighbours of three, weighted by cosine: 1 and 0.8 of the first, 0.6 and 0.8 …"""
    vectors: list[Vector | None] = [unit(1, 0), unit(0.8, 0.6), unit(0, 1)]
    scores = dict(smoothed([3.0, 2.0, 1.0], vectors, Smoothing(candidates=3, neighbours=2, share=0.5)))
    assert scores[0] == pytest.approx(0.5 * 3 + 0.5 * (0.8 * 2 + 0.0 * 1) / 0.8, abs=1e-6)
    assert scores[1] == pytest.approx(0.5 * 2 + 0.5 * (0.8 * 3 + 0.6 * 1) / 1.4, abs=1e-6)
    assert scores[2] == pytest.approx(0.5 * 1 + 0.5 * (0.6 * 2 + 0.0 * 3) / 0.6, abs=1e-6)


def test_a_passage_among_good_ones_passes_one_among_bad_ones() -> None:
    vectors: list[Vector | None] = [unit(1, 0.1, 0), unit(0, 0, 1), unit(1, 0, 0), unit(0, 0.1, 1)]
    order = smoothed([1.0, 0.9, 0.85, 0.1], vectors, Smoothing(candidates=4, neighbours=1, share=0.3))
    assert [place for place, _ in order] == [0, 2, 1, 3]


ROWS = st.lists(
    st.tuples(st.floats(-10, 10), st.none() | st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(any)),
    max_size=12,
)


@given(ROWS, st.integers(1, 12), st.integers(1, 12), st.floats(0, 1))
def test_every_hit_stays_and_none_leaves_the_range_of_the_candidates(
    rows: list[tuple[float, list[float] | None]], candidates: int, neighbours: int, share: float
) -> None:
    scores = sorted((score for score, _ in rows), reverse=True)
    vectors = [None if v is None else np.array(v, np.float32) / max(np.linalg.norm(v), 1e-9) for _, v in rows]
    order = smoothed(scores, vectors[:candidates], Smoothing(candidates, neighbours, share))
    assert sorted(place for place, _ in order) == list(range(len(rows)))
    new = [score for _, score in order]
    assert new == sorted(new, reverse=True)
    rest = [pair for pair in order if pair[0] >= candidates]
    assert rest == [(place, scores[place]) for place in range(candidates, len(rows))]
    if head := scores[:candidates]:
        assert all(min(head) - 1e-5 <= score <= max(head) + 1e-5 for place, score in order if place < candidates)
    if share == 0:
        assert new == pytest.approx(scores)
