"""Whether a collection's new index ranks as well as the old one: judged queries, asked of both as the service does.

Both indexes are asked after the new one is built, one right after the other. So a difference comes from how they were
made, and not from what was written while the new one was being built.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
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
from serve_app.assembly import load_assembly
from serve_app.embedding.models import settings_of_space
from serve_app.errors import InvalidInput, VerificationFailed
from serve_app.search.request import SearchMode
from serve_app.search.searcher import Searcher
from serve_app.settings import EmbeddingSettings, Settings
from serve_app.types import IndexInfo, Principal, Scope

METRIC, DEPTH = "ndcg@10", 10
SIGNIFICANT_P = 0.05
LEAST_QUERIES = 6  # of 2^n ways to set the signs of n differences 2 are the furthest from 0: with 5, p is 0.06 or more
IDS_AT_ONCE = 1_000


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
    """What `compare_indexes` needs, before the new index is built. indexes: the active one first. Raises InvalidInput,
    and Conflict if the service does not load the model of an index."""
    judged = read_judged(folder)
    models_of(indexes, settings)
    scope = indexes[0].scope
    stored: set[str] = set()
    for some in slices({id for grades in judged.judgements.values() for id in grades}, IDS_AT_ONCE):
        stored.update(session.ask(partial(session.store.fingerprints, scope, some)))
    return judged_within(judged, stored, scope.collection)


def compare_indexes(work: Reindexing, indexes: Sequence[IndexInfo], judged: Dataset, settings: Settings) -> Evaluation:
    """Hybrid search with the default profile, without any cache. indexes: the old one and the new one. Each query is
    asked of both: the name of an index is the sticky key that assigns the release which searches it. Raises as a
    search."""
    with load_assembly(settings, work.session.store, models_of(indexes, settings)) as assembly:
        releases = {each.scope.index: assembly.release(each.recipe.space, each.scope.index) for each in indexes}
        searcher = assembly.searcher(lambda _principal, _collection, index: releases[index])
        old, new = [
            work.session.ask(partial(ask, searcher, each.scope, judged, settings.search.default_profile, work.advance))
            for each in indexes
        ]
    return evaluation(judged, old, new)


async def ask(searcher: Searcher, scope: Scope, judged: Dataset, profile: str, advance: Advance) -> Rankings:
    return await search(
        searcher,
        judged,
        SearchMode.HYBRID,
        profile,
        lambda _, done, total: advance(f"searching index {scope.index}", done, total),
        principal=Principal(scope.tenant, "jobs.reindex"),
        collection=scope.collection,
        sticky_key=scope.index,
    )


def models_of(indexes: Sequence[IndexInfo], settings: Settings) -> list[EmbeddingSettings]:
    """Each model of the indexes once, as the service loads it. Raises Conflict if it does not load one."""
    spaces = dict.fromkeys(each.recipe.space for each in indexes)
    return [settings_of_space(settings.embedding, settings.data_dir, space) for space in spaces]
