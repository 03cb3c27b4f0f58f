from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serve_app.documents.reuse import digest, known_vectors
from serve_app.types import Document, IndexedDocument, IndexedPassage, Passage, SparseVector

NO_TERMS = SparseVector(np.empty(0, np.uint32), np.empty(0, np.float32))


def stored(*digests: str) -> IndexedDocument:
    """The vector of passage n is (n,)."""
    items = (
        IndexedPassage(Passage(number, "text"), np.array([number], np.float32), NO_TERMS, one)
        for number, one in enumerate(digests)
    )
    return IndexedDocument(Document("a", "text"), "print", tuple(items))


@given(st.text(st.characters()), st.text(st.characters()))
def test_a_digest_is_of_the_text(one: str, other: str) -> None:
    assert (digest(one) == digest(other)) == (one == other)
    assert len(digest(one)) == 16


def test_a_vector_is_found_wherever_its_text_was() -> None:
    vectors = known_vectors(["c", "new", "a", "a"], stored("a", "b", "c"))
    assert [None if vector is None else vector.tolist() for vector in vectors] == [[2.0], None, [0.0], [0.0]]


def test_what_earlier_versions_wrote_has_no_digest() -> None:
    assert known_vectors(["a"], stored("", "")) == [None]
    assert known_vectors(["a", "b"], None) == [None, None]
