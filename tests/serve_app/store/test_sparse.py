from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.store.sparse import Bm25SparseEncoder

BM25 = Bm25SparseEncoder()


def test_query_and_passage_share_stems() -> None:
    [passage] = BM25.encode_passages(["The foxes were running through the forest"])
    query = BM25.encode_query("fox runs")
    assert set(query.indices) <= set(passage.indices)
    assert query.values.tolist() == [1.0, 1.0]


def test_a_repeated_word_saturates() -> None:
    once, often = BM25.encode_passages(["fox", "fox " * 20])
    assert once.values[0] < often.values[0] < 2.2 * once.values[0]


@pytest.mark.parametrize("text", ["", "the of and", "\0", " \n"])
def test_text_without_words_has_an_empty_vector(text: str) -> None:
    assert BM25.encode_query(text).indices.shape == (0,)
    assert BM25.encode_passages([text])[0].values.shape == (0,)


@given(st.text())
def test_any_text_has_a_vector(text: str) -> None:
    for vector in (BM25.encode_query(text), *BM25.encode_passages([text])):
        assert vector.indices.dtype == np.uint32
        assert vector.values.dtype == np.float32
        assert vector.indices.shape == vector.values.shape
        assert len(set(vector.indices.tolist())) == len(vector.indices)
        assert np.isfinite(vector.values).all()


def test_a_lone_surrogate_is_no_word() -> None:
    assert BM25.encode_query("fox \ud800").indices.tolist() == BM25.encode_query("fox").indices.tolist()
