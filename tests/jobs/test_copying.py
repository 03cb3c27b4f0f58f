"""What is wrong with a document of a new index is found, whatever it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jobs.copying import copy_inputs, fault_of
from jobs.inputs import Input
from serve_app.documents.indexing import CutDocument
from serve_app.types import IndexedDocument, IndexedPassage, SparseVector
from tests.contracts.corpus import BM25, document, embed

TEXTS = ("cats purr", "dogs bark")
STORED = document("d", *TEXTS)
STORED = replace(STORED, passages=tuple(replace(one, digest=f"digest{n}") for n, one in enumerate(STORED.passages)))
PIECES = CutDocument(STORED.document, tuple(one.passage for one in STORED.passages), TEXTS, ("digest0", "digest1"))
VECTORS, TERMS = np.stack([embed(text) for text in TEXTS]), BM25.encode_passages(TEXTS)


def changed(**fields: object) -> IndexedDocument:
    first, second = STORED.passages
    return replace(STORED, passages=(first, replace(second, **fields)))  # type: ignore[arg-type]


def test_a_document_that_is_right_has_no_fault() -> None:
    assert fault_of(STORED, PIECES, VECTORS, TERMS) is None
    shuffled = [SparseVector(one.indices[::-1], one.values[::-1]) for one in TERMS]
    assert fault_of(STORED, PIECES, VECTORS, shuffled) is None, "terms have no order"


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (replace(STORED, passages=STORED.passages[:1]), "it has 1 passages, and not these 2"),
        (changed(passage=replace(STORED.passages[1].passage, text="other")), "or with other texts"),
        (changed(digest="other"), "or with other texts"),
        (changed(dense=embed("something else")), "the vector of passage 1 has cosine"),
        (changed(sparse=TERMS[0]), "passage 1 has other BM25 terms"),
    ],
)
def test_a_fault_is_told(stored: IndexedDocument, message: str) -> None:
    assert message in str(fault_of(stored, PIECES, VECTORS, TERMS))


def test_versions_go_with_their_documents() -> None:
    asked = {f"d{n}": f"f{n}" if n % 3 else None for n in range(150)}
    inputs = [Input.from_columns(each.to_columns()) for each in copy_inputs(asked)]
    assert dict(pair for each in inputs for pair in each.versions) == asked
    assert sum(each.size_bytes for each in inputs) == 150


def test_all_passages_are_looked_at() -> None:
    first = replace(STORED.passages[0], dense=-STORED.passages[0].dense)
    assert isinstance(first, IndexedPassage)
    assert "passage 0" in str(fault_of(replace(STORED, passages=(first, STORED.passages[1])), PIECES, VECTORS, TERMS))
