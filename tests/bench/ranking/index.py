"""A judged dataset in memory: the vectors of all passages, and each query's scores for all passages. With these, a
ranking method takes microseconds for each query and needs no store."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from jobs.evaluate.beir import Dataset
from serve_app.documents.indexing import cut
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.errors import UnreadableDocument
from serve_app.settings import ChunkingSettings
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.types import SparseVector, Vector

Scores = npt.NDArray[np.float64]  # (passages,), NaN if a passage is not a candidate
Integers = npt.NDArray[np.int64]

SEED = 20_260_103


@dataclass(frozen=True, eq=False)
class Postings:
    """BM25 weights by term. terms: (t,) ascending. bounds: (t + 1,) offsets of each term's entries in rows and weights.
    idf: (t,) as in Qdrant: ln(1 + (N - df + 0.5) / (df + 0.5)), where N is the number of passages that have a term."""

    terms: Integers
    bounds: Integers
    rows: Integers
    weights: Scores
    idf: Scores
    passages: int

    @classmethod
    def of(cls, vectors: Sequence[SparseVector]) -> Postings:
        lengths = [len(vector.indices) for vector in vectors]
        entries = np.concatenate([vector.indices for vector in vectors]).astype(np.int64)
        weights = np.concatenate([vector.values for vector in vectors]).astype(np.float64)
        order = np.argsort(entries, kind="stable")
        terms, starts = np.unique(entries[order], return_index=True)
        bounds = np.append(starts, len(entries)).astype(np.int64)
        frequency = np.diff(bounds)
        filled = sum(length > 0 for length in lengths)
        idf = np.log1p((filled - frequency + 0.5) / (frequency + 0.5))
        rows = np.repeat(np.arange(len(vectors)), lengths)[order]
        return cls(terms, bounds, rows, weights[order], idf, len(vectors))

    def idf_of(self, terms: npt.ArrayLike) -> Scores:
        """The idf of each term; 0 if no passage has it."""
        wanted = np.asarray(terms, np.int64)
        at = np.minimum(np.searchsorted(self.terms, wanted), len(self.terms) - 1)
        return np.where(self.terms[at] == wanted, self.idf[at], 0.0)

    def scores(self, query: SparseVector) -> Scores:
        """(passages,) scores; 0 for a passage without a term of the query."""
        total = np.zeros(self.passages)
        at = np.minimum(np.searchsorted(self.terms, query.indices), len(self.terms) - 1)
        for place, term, weight in zip(at, query.indices, query.values, strict=True):
            if self.terms[place] == term:
                entries = slice(self.bounds[place], self.bounds[place + 1])
                total[self.rows[entries]] += weight * self.idf[place] * self.weights[entries]
        return total


@dataclass(frozen=True, eq=False)
class Index:
    """dense: (passages, dim). sparse: one vector for each passage. document: (passages,) positions in `ids`."""

    dense: Vector
    sparse: list[SparseVector]
    postings: Postings
    document: Integers
    ids: tuple[str, ...]

    def by_document(self, of_documents: Scores, depth: int) -> list[str]:
        """Ids of the best `depth` documents; ties keep the order of the dataset. of_documents: (documents,), -inf for a
        document that was not found."""
        first = np.argsort(-of_documents, kind="stable")[:depth]
        return [self.ids[number] for number in first if np.isfinite(of_documents[number])]


Aggregate = Callable[[Scores, Index], Scores]  # passage scores → document scores


def best_passage(scores: Scores, index: Index) -> Scores:
    """A document has the score of its best passage, as with `group_by`."""
    best = np.full(len(index.ids), -np.inf)
    np.maximum.at(best, index.document, np.where(np.isnan(scores), -np.inf, scores))
    return best


@dataclass(frozen=True, eq=False)
class Question:
    """cosines, words: dense and BM25 scores of all passages."""

    id: str
    dense: Vector
    sparse: SparseVector
    cosines: Scores
    words: Scores
    grades: dict[str, int]


@dataclass(frozen=True, eq=False)
class Judged:
    name: str
    index: Index
    questions: list[Question]


def indexed(data: Dataset, engine: EmbeddingEngine, chunking: ChunkingSettings, bm25: Bm25SparseEncoder) -> Judged:
    """Chunks and embeds the dataset like the indexer. Documents that cannot be indexed are left out."""
    texts: list[str] = []
    document: list[int] = []
    ids: list[str] = []
    for one in data.documents:
        try:
            pieces = cut(one, tokenizer=engine.tokenizer, chunking=chunking).texts
        except UnreadableDocument:
            continue
        texts += pieces
        document += [len(ids)] * len(pieces)
        ids.append(one.id)
    sparse = bm25.encode_passages(texts)
    index = Index(engine.embed(texts).vectors, sparse, Postings.of(sparse), np.array(document), tuple(ids))
    vectors = engine.embed(list(data.queries.values())).vectors
    questions = [
        asked(index, id, vector, bm25.encode_query(text), data.judgements[id])
        for (id, text), vector in zip(data.queries.items(), vectors, strict=True)
    ]
    return Judged(data.name, index, questions)


def asked(index: Index, id: str, dense: Vector, sparse: SparseVector, grades: dict[str, int]) -> Question:
    cosines = (index.dense @ dense).astype(np.float64)
    return Question(id, dense, sparse, cosines, index.postings.scores(sparse), grades)


def known_items(data: Dataset, questions: int) -> Dataset:
    """A dataset whose queries are titles, each with one relevant document: the one that the title was removed from. A
    judged dataset can have many relevant documents for a query. A method that gains only from similar documents shows
    its cost here."""
    titled = [document for document in data.documents if document.title and document.text]
    asked = random.Random(SEED).sample(titled, min(questions, len(titled)))
    return Dataset(
        f"{data.name}, titles",
        tuple(replace(document, title="") for document in data.documents),
        {document.id: document.title for document in asked},
        {document.id: {document.id: 1} for document in asked},
    )
