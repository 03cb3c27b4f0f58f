"""Whether a collection's new index ranks as well as the old one: judged queries, asked of both as the service does.

Both are asked when the new one is built, one right after the other, and not the old one while it is: a difference
is then one of how they are made, and not of what was written in the hours between.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jobs.evaluate.beir import Dataset, read_judged
from jobs.evaluate.ir_metrics import ndcg_at_k
from jobs.evaluate.ranking import Advance, search
from jobs.evaluate.scores import Rankings, rounded
from jobs.evaluate.significance import Comparison, compare
from jobs.reindex.build import Reindexing, Session
from jobs.runtime.slices import slices
from serve_app.cache.tiered import Tiered
from serve_app.embedding.cross_encoder import load_rerankers
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.embedding.local import LocalEmbedder
from serve_app.embedding.models import settings_of_space
from serve_app.errors import InvalidInput, VerificationFailed
from serve_app.search.request import SearchMode
from serve_app.search.searcher import Searcher
from serve_app.settings import EmbeddingSettings, Settings
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.types import IndexInfo, Principal, Scope, VectorSpace

METRIC, DEPTH = "ndcg@10", 10
SIGNIFICANT_P = 0.05
LEAST_QUERIES = 6  # of 2^n ways to set the signs of n differences 2 are the furthest from 0: with 5, p is 0.06 or more
IDS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class IndexPrincipal(Principal):
    """Asks this index of a collection, active or not."""

    index: str = ""

    def scope(self, collection: str) -> Scope:
        return Scope(self.tenant, collection, self.index)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """comparison: of METRIC, the old index is the baseline."""

    queries: int
    comparison: Comparison

    @property
    def is_worse(self) -> bool:
        """By more than chance: the whole interval of the mean difference is below 0, and the test agrees."""
        found = self.comparison
        return found.interval is not None and found.interval[1] < 0 and found.p < SIGNIFICANT_P

    def figures(self) -> dict[str, Any]:
        found = self.comparison
        return {
            "queries": self.queries,
            "metric": METRIC,
            "old": rounded(found.baseline),
            "new": rounded(found.candidate),
            "difference": rounded(found.difference),
            "interval": found.interval and [rounded(end) for end in found.interval],
            "p": rounded(found.p),
        }


def evaluation(judged: Dataset, old: Rankings, new: Rankings) -> Evaluation:
    """Pure."""
    values = [
        [ndcg_at_k(found[query], grades, DEPTH) for query, grades in judged.judgements.items()] for found in (old, new)
    ]
    return Evaluation(len(judged.judgements), compare(*values))


def require_not_worse(found: Evaluation, index: str) -> None:
    """Raises VerificationFailed."""
    if not found.is_worse:
        return
    told = found.figures()
    raise VerificationFailed(
        f"index {index} ranks {told['queries']} judged queries worse than the active one: {METRIC} {told['new']} "
        f"and not {told['old']}, difference {told['difference']}, 95 % interval {told['interval']}, p {told['p']}. "
        "Nothing is switched. It is kept: the same command without --evaluate makes it active all the same, --drop-old "
        "alone removes it"
    )


def judged_within(judged: Dataset, stored: Container[str], collection: str) -> Dataset:
    """The queries for which there is something to find. stored: ids of the collection's documents. Raises InvalidInput
    if they are too few for any difference to be significant: such a check would pass whatever was found. Pure."""
    found = {
        query: grades
        for query, grades in judged.judgements.items()
        if any(grade > 0 and id in stored for id, grade in grades.items())
    }
    if len(found) < LEAST_QUERIES:
        raise InvalidInput(
            f"of {len(judged.judgements)} judged queries of {judged.name} {len(found)} have a relevant document in "
            f"collection {collection}, and with fewer than {LEAST_QUERIES} no difference is significant: are the ids "
            "in its qrels those of the collection's documents?"
        )
    return replace(judged, queries={query: judged.queries[query] for query in found}, judgements=found)


def judged_of(session: Session, indexes: Sequence[IndexInfo], settings: Settings, folder: Path) -> Dataset:
    """What `compare_indexes` needs, before the new one is built. indexes: the active one first. Raises
    InvalidInput, and Conflict if the service does not load a model of theirs."""
    judged = read_judged(folder)
    models_of(indexes, settings)
    scope = indexes[0].scope
    stored: set[str] = set()
    for some in slices({id for grades in judged.judgements.values() for id in grades}, IDS_AT_ONCE):
        stored.update(session.ask(partial(session.store.fingerprints, scope, some)))
    return judged_within(judged, stored, scope.collection)


def compare_indexes(work: Reindexing, indexes: Sequence[IndexInfo], judged: Dataset, settings: Settings) -> Evaluation:
    """Hybrid search with the default profile, past all caches. indexes: the old one and the new one. Raises as a
    search."""
    with searchers(work.session, indexes, settings) as both:
        old, new = [
            work.session.ask(partial(ask, scope, searcher, judged, settings.search.default_profile, work.advance))
            for scope, searcher in both
        ]
    return evaluation(judged, old, new)


async def ask(scope: Scope, searcher: Searcher, judged: Dataset, profile: str, advance: Advance) -> Rankings:
    return await search(
        searcher,
        judged,
        SearchMode.HYBRID,
        profile,
        lambda _, done, total: advance(f"searching index {scope.index}", done, total),
        principal=IndexPrincipal(scope.tenant, "jobs.reindex", index=scope.index),
        collection=scope.collection,
    )


@contextmanager
def searchers(
    session: Session, indexes: Sequence[IndexInfo], settings: Settings
) -> Iterator[list[tuple[Scope, Searcher]]]:
    """One for each index, for what a searcher knows of a collection does not tell its indexes apart; those of one model
    share that."""
    with ExitStack() as stack:
        rerankers = load_rerankers(settings)
        for each in rerankers.values():
            stack.callback(each.close)
        embedders: dict[VectorSpace, LocalEmbedder] = {}
        for space, own in models_of(indexes, settings).items():
            embedders[space] = stack.enter_context(closing(LocalEmbedder(EmbeddingEngine.load(own, settings.data_dir))))
        yield [
            (
                each.scope,
                Searcher(
                    embedder=embedders[each.recipe.space],
                    sparse=Bm25SparseEncoder(),
                    store=session.store,
                    search=settings.search,
                    batching=settings.batching,
                    release=each.scope.index,
                    cache=Tiered(()),
                    rerankers=rerankers,
                ),
            )
            for each in indexes
        ]


def models_of(indexes: Sequence[IndexInfo], settings: Settings) -> dict[VectorSpace, EmbeddingSettings]:
    """As the service has them, in its precision. Raises Conflict if it does not load one."""
    spaces = {each.recipe.space for each in indexes}
    return {space: settings_of_space(settings.embedding, settings.data_dir, space) for space in spaces}
