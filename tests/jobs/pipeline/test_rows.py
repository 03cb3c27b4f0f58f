from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jobs.pipeline.rows import (
    BLOCK,
    PipelineRow,
    RowOutcome,
    encode_document,
    failed_row,
    from_block,
    indexed_document,
    to_block,
)
from serve_app.types import Document, Passage, SparseVector

DIM = 4
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
metadata = st.dictionaries(words, scalars | words | st.lists(words, max_size=3), max_size=3)
documents = st.builds(
    Document, id=words, text=words, title=words, url=words, metadata=metadata, subject=words
)  # fmt: skip
passages = st.builds(
    Passage, st.integers(0, 9999), words, st.lists(words, max_size=3).map(tuple), st.integers(0, 512)
)  # fmt: skip
sparse_vectors = st.dictionaries(st.integers(0, 2**32 - 1), st.floats(0, 10, width=32), max_size=5).map(
    lambda terms: SparseVector(np.array(list(terms), np.uint32), np.array(list(terms.values()), np.float32))
)


@given(documents, st.lists(st.tuples(passages, sparse_vectors), min_size=1, max_size=4), st.integers(0, 2**40))
def test_a_document_survives_the_way_through_arrow(
    document: Document, pieces: list[tuple[Passage, SparseVector]], source_bytes: int
) -> None:
    dense = np.arange(len(pieces) * DIM, dtype=np.float32).reshape(-1, DIM)
    row = PipelineRow(
        RowOutcome.INDEX,
        "file",
        document.id,
        source_bytes,
        fingerprint="print",
        document=encode_document(document),
        passages=tuple(passage for passage, _ in pieces),
        texts=tuple(passage.text if number % 2 else None for number, (passage, _) in enumerate(pieces)),
        digests=tuple(f"digest{number}" for number in range(len(pieces))),
        replaces=True,
        embedded=3,
        dense=dense.tobytes(),
        sparse=tuple(vector for _, vector in pieces),
    )
    (again,) = from_block(to_block([row]))
    assert (again.source_bytes, again.texts, again.replaces, again.embedded) == (source_bytes, row.texts, True, 3)
    stored = indexed_document(again)
    assert (stored.document, stored.fingerprint) == (document, "print")
    assert [one.passage for one in stored.passages] == [passage for passage, _ in pieces]
    assert tuple(one.digest for one in stored.passages) == row.digests
    for one, vector, (_, sparse) in zip(stored.passages, dense, pieces, strict=True):
        np.testing.assert_array_equal(one.dense, vector)
        np.testing.assert_array_equal(one.sparse.indices, sparse.indices)
        np.testing.assert_array_equal(one.sparse.values, sparse.values)


@given(st.text(), st.text(), st.text())
def test_any_failure_can_be_told(source: str, document_id: str, error: str) -> None:
    """Also where a name or message holds half of a surrogate pair, which Arrow refuses."""
    row = failed_row("input", document_id, error, 7, source + "\udc80")
    (again,) = from_block(to_block([row]))
    assert again == row
    assert again.source.endswith("\\udc80")


def test_tables_of_all_outcomes_fit_together() -> None:
    blocks = [to_block([PipelineRow(outcome, "file", "id")] * 2) for outcome in RowOutcome]
    assert all((block.schema, len(block)) == (BLOCK, 1) for block in [*blocks, to_block([])])
    assert from_block(to_block([])) == []
    assert [row.outcome for block in blocks for row in from_block(block)] == [each for each in RowOutcome for _ in "ab"]
