"""What is copied into a new index is whole, and what is wrong with a document of it is found, whatever it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import ray

from jobs.pipeline.copying import CopyStage, copy_inputs, fault_of
from jobs.pipeline.cutting import IndexingPlan
from jobs.pipeline.inputs import Input
from jobs.pipeline.ledger import Report, report_of
from jobs.pipeline.rows import PipelineRow, RowOutcome, from_block
from jobs.pipeline.run import to_block
from jobs.pipeline.tally import require_complete, start_ledger
from jobs.reindex.build import Session
from jobs.reindex.plan import versions_of
from serve_app.deployments.store import connect_store
from serve_app.documents.indexing import CutDocument
from serve_app.errors import Unavailable
from serve_app.settings import Settings
from serve_app.types import FIRST_INDEX, IndexedDocument, IndexedPassage, Scope, SparseVector
from tests.contracts.corpus import BM25, SPACE, document, embed

TIMEOUT_S = 60.0
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


def test_vectors_of_another_precision_are_no_fault() -> None:
    other = np.random.default_rng(0).standard_normal(VECTORS.shape).astype(np.float32)
    other -= (other * VECTORS).sum(axis=1, keepdims=True) * VECTORS
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    coarse = 0.95 * VECTORS + np.sqrt(1 - 0.95**2) * other  # as far off as an int8 model may be
    assert fault_of(STORED, PIECES, coarse, TERMS) is None


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


def test_a_batch_has_as_many_documents_as_it_is_told() -> None:
    inputs = copy_inputs(dict.fromkeys("abcde"), 2)
    assert [[id for id, _ in each.versions] for each in inputs] == [["a", "b"], ["c", "d"], ["e"]]
    assert len({each.name for each in inputs}) == 3


def attempt(plan: IndexingPlan, inputs: list[Input], ledger: Any) -> list[list[PipelineRow]]:
    return [from_block(block) for block in CopyStage(plan, ledger)(to_block(inputs))]


def documents_of(blocks: Iterable[list[PipelineRow]]) -> list[list[str]]:
    return [[row.document_id for row in block if row.outcome is not RowOutcome.END] for block in blocks]


def total_of(blocks: Iterable[list[PipelineRow]]) -> Report:
    return sum(map(report_of, blocks), Report())


def test_a_repeated_task_gives_as_many_blocks_each_whole_whatever_was_written_meanwhile(settings: Settings) -> None:
    """Ray takes of each block what either of the two has made."""
    scope, ledger, session = Scope("local", "copied-twice"), start_ledger(), Session(connect_store(settings))
    plan = IndexingPlan(scope.at("built"), SPACE, settings.without_secrets(), source=scope.at(FIRST_INDEX))

    task: Any = ray.remote(attempt).options(num_cpus=0)

    def attempted(inputs: list[Input]) -> tuple[list[list[PipelineRow]], set[str]]:
        blocks = ray.get(task.remote(plan, inputs, ledger), timeout=TIMEOUT_S)
        return blocks, set(ledger.take().moved)

    try:
        session.ask(partial(session.store.write, scope, SPACE, [document(f"d{n}", "cats purr") for n in range(5)]))
        inputs = copy_inputs(dict(sorted(versions_of(session.stored(scope)).items())), 2)
        once, moved = attempted(inputs)
        assert (documents_of(once), moved) == ([["d0", "d1"], ["d2", "d3"], ["d4"]], set())
        session.ask(partial(session.store.delete_documents, scope, ["d0", "d1"]))
        session.ask(partial(session.store.write, scope, SPACE, [document("d2", "dogs bark")]))
        again, moved = attempted(inputs)
        assert (documents_of(again), moved) == ([[], ["d2", "d3"], ["d4"]], {"d0", "d1", "d2"})
    finally:
        session.close()
    for blocks in product(*zip(once, again, strict=True)):
        require_complete(total_of(blocks), 5)
        for lost in range(len(blocks)):
            with pytest.raises(Unavailable):
                require_complete(total_of([*blocks[:lost], *blocks[lost + 1 :]]), 5)


def test_all_passages_are_looked_at() -> None:
    first = replace(STORED.passages[0], dense=-STORED.passages[0].dense)
    assert isinstance(first, IndexedPassage)
    assert "passage 0" in str(fault_of(replace(STORED, passages=(first, STORED.passages[1])), PIECES, VECTORS, TERMS))
