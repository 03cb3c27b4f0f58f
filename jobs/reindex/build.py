"""The steps of a reindexing. The module `switch` has the last two: take over and drop.

    build       copy all documents through the pipeline of jobs.index, then, in rounds, those that changed meanwhile
    verify      chunk and embed a sample of the new index's texts again, and compare
    take over   compare both indexes, hold writes back, copy the last changes, switch; writes continue in the new index

Until the switch, uploads are written to the old index only. A reindexing finds changes by their fingerprints and copies
them. An upload therefore costs the same while an index is built, and a build that is killed leaves nothing to repair.
The store guarantees that the switch loses no write: see WriteHoldStore.hold.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayError

from jobs.pipeline.actor_pools import gpus_of_one
from jobs.pipeline.copying import Copier, copy_inputs
from jobs.pipeline.cutting import IndexingPlan, settings_of
from jobs.pipeline.dead_letters import DeadLetterFile
from jobs.pipeline.inputs import total_bytes
from jobs.pipeline.ledger import Report
from jobs.pipeline.run import platform_error, run_pipeline
from jobs.pipeline.tally import Tally, Watch, require_complete, start_ledger
from jobs.reindex.plan import (
    Change,
    Versions,
    as_copied,
    first_change,
    next_change,
    versions_of,
)
from jobs.runtime.patience import patiently
from serve_app.documents.chunking import MIN_BUDGET_TOKENS, SPECIAL_TOKENS, budget_tokens
from serve_app.documents.indexing import chunking_of
from serve_app.embedding.models import resolve_model, settings_of_space
from serve_app.embedding.tokenizer import load_tokenizer
from serve_app.errors import ConfigurationError, InvalidInput, Unavailable, VerificationFailed
from serve_app.ports import Tokenizer, VectorStore
from serve_app.settings import ChunkingSettings, EmbeddingSettings, Settings
from serve_app.types import IndexInfo, Recipe, Scope, StoredVersion

T = TypeVar("T")
Advance = Callable[[str, int, int], None]  # step, done, of how many

FEW_DOCUMENTS = 64  # copying so few takes less time than starting the pipeline
COPIER_DOCUMENTS = 1_000  # in a round after the first, when the copier is running, it copies up to this many
MAX_ROUNDS = 20  # after these, writes are held back even if many changes are left
SAMPLE_DOCUMENTS = 64
DELETED_AT_ONCE = 1_000
COPIER_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class ReindexOptions:
    """What the new index changes. None keeps the value of the active index."""

    model: str | None = None
    precision: str | None = None
    max_tokens: int | None = None
    overlap_tokens: int | None = None


class Session:
    """A store for synchronous code."""

    def __init__(self, store: VectorStore) -> None:
        self.store = store
        self._loop = asyncio.Runner()

    def ask(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of an idempotent call, which is repeated while the store is unavailable."""
        return self._loop.run(patiently(call))

    def ask_once(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Raises StoreUnavailable at once."""
        return self._loop.run(call())

    def stored(self, scope: Scope) -> list[StoredVersion]:
        found: list[StoredVersion] = []
        cursor: str | None = None
        while True:
            page = self.ask(partial(self.store.inventory, scope, cursor=cursor))
            found += page.documents
            if (cursor := page.cursor) is None:
                return found

    def close(self) -> None:
        self._loop.run(self.store.close())
        self._loop.close()


@dataclass
class Reindexing:
    """State of one run: what its steps need, and its totals so far."""

    session: Session
    plan: IndexingPlan
    source: Scope
    letters: DeadLetterFile
    advance: Advance
    embedders: int | None = None
    block_documents: int = 64
    total: Report = field(default_factory=Report)
    rounds: int = 0

    @cached_property
    def copier_gpus(self) -> int:
        in_cluster = ray.cluster_resources().get("GPU", 0.0)  # type: ignore[no-untyped-call]
        return gpus_of_one(self.plan.settings.embedding, in_cluster)

    @cached_property
    def copier(self) -> Any:
        """Handle of the copying actor, which ends with this job."""
        return ray.remote(Copier).options(num_cpus=0, num_gpus=self.copier_gpus).remote(self.plan)

    def free_gpus(self) -> None:
        """Ends the copier, because the pipeline would wait forever for its GPU. `copier` starts a new one if needed."""
        if self.copier_gpus and (copier := self.__dict__.pop("copier", None)) is not None:
            ray.kill(copier)


def recipe_of(active: Recipe, options: ReindexOptions, settings: Settings) -> Recipe:
    """Raises ConfigurationError if the new model is not in the settings, Conflict if the active index's model is not,
    InvalidInput if passages would have no room for text."""
    if options.model is None:
        embedding = settings_of_space(settings.embedding, settings.data_dir, active.space)
    else:
        embedding = of_model(settings.embedding, options.model)
    asked = Recipe(active.space, options.max_tokens, options.overlap_tokens)
    chunking = chunking_of(asked, chunking_of(active, settings.chunking))
    model = resolve_model(embedding, settings.data_dir)
    require_room_for_text(load_tokenizer(model), chunking)
    return Recipe(model.space, chunking.max_tokens, chunking.overlap_tokens, options.precision or active.precision)


def require_room_for_text(tokenizer: Tokenizer, chunking: ChunkingSettings) -> None:
    """Raises InvalidInput if passages would have no room for text, in which case uploads would fail."""
    try:
        budget_tokens(tokenizer, chunking)
    except ConfigurationError:
        least = MIN_BUDGET_TOKENS + SPECIAL_TOKENS
        raise InvalidInput(
            f"--max-tokens {chunking.max_tokens} with a model of {tokenizer.max_tokens} tokens leaves no room for "
            f"text: both must be {least} or more"
        ) from None


def of_model(settings: EmbeddingSettings, name: str) -> EmbeddingSettings:
    for each in settings.of_each:
        if each.model == name:
            return each
    known = ", ".join(each.model for each in settings.of_each)
    raise ConfigurationError(
        f"{name} is not one of the configured models ({known}): add it to AIDOCS_EMBEDDING__FURTHER_MODELS (a JSON "
        "list) of this job and of the service, and restart the service; otherwise nobody could search the collection "
        "after the switch"
    )


def plan_of(active: IndexInfo, recipe: Recipe, index: str, settings: Settings) -> IndexingPlan:
    """Reuses vectors if the model is the same, unless one of the indexes has its own precision: vectors of uploads have
    the service's precision."""
    reuses = recipe.space == active.recipe.space and recipe.precision is None and active.recipe.precision is None
    own = settings_of(recipe, settings).without_secrets()
    scope = active.scope.at(index)
    return IndexingPlan(scope, recipe.space, own, source=active.scope, reuses=reuses)


def build(work: Reindexing, recipe: Recipe) -> Versions:
    """Create the new index and copy the old one into it, except for documents that an earlier run has copied. Returns
    the copied versions. Raises VerificationFailed if a document could not be copied, and what `run_pipeline` raises."""
    session, new = work.session, work.plan.scope
    session.ask(partial(session.store.make_index, new, recipe))
    old = versions_of(session.stored(work.source))
    copied = apply(work, first_change(old, versions_of(session.stored(new))), old, copier_takes=FEW_DOCUMENTS)
    for _ in range(MAX_ROUNDS):
        old = versions_of(session.stored(work.source))
        change = next_change(copied, old)
        copied = apply(work, change, old)
        if len(change) <= FEW_DOCUMENTS:
            break
    return copied


def apply(work: Reindexing, change: Change, old: Versions, *, copier_takes: float = COPIER_DOCUMENTS) -> Versions:
    """Returns the versions that the new index has afterwards. old: the versions that the change was computed from.
    copier_takes: most documents that the copier copies; the pipeline copies more than that."""
    if change:
        work.rounds += 1
    for at in range(0, len(change.deleted), DELETED_AT_ONCE):
        ids = change.deleted[at : at + DELETED_AT_ONCE]
        deleted = work.session.ask(partial(work.session.store.delete_documents, work.plan.scope, ids))
        work.total += Report(deleted=deleted)
    if not change.copied:
        return old
    copy = copy_few if len(change.copied) <= copier_takes else copy_many
    report = copy(work, {id: old[id] for id in change.copied})
    work.total += replace(report, dead_letters=(), moved=())
    if report.failed:
        raise VerificationFailed(
            f"{report.failed} documents could not be copied and would be missing; {work.letters.path} says "
            "which and why. The old index stays active"
        )
    return as_copied(old, report.moved)


def copy_few(work: Reindexing, versions: Versions) -> Report:
    report: Report = answer_of(work.copier.copy.remote(versions))
    work.letters.append(report.dead_letters)
    return report


def answer_of(call: Any) -> Any:
    """The copier's result. Raises the PlatformError that the copier raised, or Unavailable."""
    try:
        return ray.get(call, timeout=COPIER_TIMEOUT_S)
    except GetTimeoutError:
        raise Unavailable(
            f"the process that copies single documents did not respond within {COPIER_TIMEOUT_S:g} s: either Ray could "
            "not place it (is the GPU in use?) or it hangs. Run the same command again"
        ) from None
    except RayError as error:
        ours = platform_error(error)
        raise ours or Unavailable(f"the process that copies single documents failed: {error}") from error


def copy_many(work: Reindexing, versions: Versions) -> Report:
    """Copies through the pipeline of jobs.index."""
    work.free_gpus()
    inputs, ledger, most = copy_inputs(versions, work.block_documents), start_ledger(), len(versions)
    tally = Tally(work.letters, lambda total: work.advance("copying", min(total.documents, most), most))
    with Watch(ledger, tally):
        run_pipeline(inputs, work.plan, ledger, embedders=work.embedders)
    require_complete(tally.total, total_bytes(inputs))
    return tally.total


def verify(work: Reindexing, ids: Sequence[str], chance: random.Random) -> int:
    """Returns how many documents were compared. Raises VerificationFailed."""
    sample = chance.sample(ids, min(SAMPLE_DOCUMENTS, len(ids)))
    faults: list[str] = answer_of(work.copier.faults.remote(sample)) if sample else []
    if faults:
        raise VerificationFailed(f"{len(faults)} of {len(sample)} documents in the sample are wrong: {faults[0]}")
    return len(sample)
