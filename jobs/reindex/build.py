"""The steps of a reindexing. The last two, take over and drop, are in `switch`.

    build       copy all documents through the pipeline of jobs.index, then repeatedly those written meanwhile
    verify      compare a sample of the new index with its texts, cut and embedded again
    take over   compare both indexes, hold writes back, copy the last changes, switch; writes go on into the new index

Writers write to the old index only. A reindexing finds their changes by fingerprint and copies them. So uploads cost
the same while an index is built, and a build that is killed half-way leaves nothing to repair. The store guarantees
that no write is missing after the switch: see WriteHoldStore.hold.
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

FEW_DOCUMENTS = 64  # starting the pipeline takes longer than copying so few
COPIER_DOCUMENTS = 1_000  # most that the copier takes after the first round, when it has started
MAX_ROUNDS = 20  # then writes are held back, however much is left to copy
SAMPLE_DOCUMENTS = 64
DELETED_AT_ONCE = 1_000
COPIER_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class ReindexOptions:
    """What the new index changes; None keeps what the active index has."""

    model: str | None = None
    precision: str | None = None
    max_tokens: int | None = None
    overlap_tokens: int | None = None


class Session:
    """The store for code that is not async."""

    def __init__(self, store: VectorStore) -> None:
        self.store = store
        self._loop = asyncio.Runner()

    def ask(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of an idempotent call, which is repeated while the store is away."""
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
    """One run: what its steps need, and what they have done so far."""

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
        """A handle; it ends with this job."""
        return ray.remote(Copier).options(num_cpus=0, num_gpus=self.copier_gpus).remote(self.plan)

    def free_gpus(self) -> None:
        """Ends the copier, whose GPU the pipeline would wait for without end. `copier` starts a new one when needed."""
        if self.copier_gpus and (copier := self.__dict__.pop("copier", None)) is not None:
            ray.kill(copier)


def recipe_of(active: Recipe, options: ReindexOptions, settings: Settings) -> Recipe:
    """Raises ConfigurationError if the settings do not have the new model, Conflict if they do not have the active
    index's, InvalidInput if passages would hold no text."""
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
    """Raises InvalidInput, before anything is made, if uploads would fail because passages hold no text."""
    try:
        budget_tokens(tokenizer, chunking)
    except ConfigurationError:
        least = MIN_BUDGET_TOKENS + SPECIAL_TOKENS
        raise InvalidInput(
            f"--max-tokens {chunking.max_tokens}, with a --model that sees {tokenizer.max_tokens}, leaves no room for "
            f"text: each of them must be {least} or more"
        ) from None


def of_model(settings: EmbeddingSettings, name: str) -> EmbeddingSettings:
    for each in settings.of_each:
        if each.model == name:
            return each
    known = ", ".join(each.model for each in settings.of_each)
    raise ConfigurationError(
        f"the service does not load {name}, only {known}: add it to AIDOCS_EMBEDDING__FURTHER_MODELS (a JSON "
        "list) of the service as well and restart the service; otherwise nobody could search the collection after the "
        "switch"
    )


def plan_of(active: IndexInfo, recipe: Recipe, index: str, settings: Settings) -> IndexingPlan:
    """Vectors of the same model are reused, unless one of the indexes has a precision of its own: what was uploaded
    into the old index has the service's precision."""
    reuses = recipe.space == active.recipe.space and recipe.precision is None and active.recipe.precision is None
    own = settings_of(recipe, settings).without_secrets()
    scope = active.scope.at(index)
    return IndexingPlan(scope, recipe.space, own, source=active.scope, reuses=reuses)


def build(work: Reindexing, recipe: Recipe) -> Versions:
    """Make the new index and copy everything that the old one has, except what an earlier run has copied. Returns the
    versions that were copied. Raises VerificationFailed if a document could not be copied, and as `run_pipeline`."""
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
    """Returns the versions that the new index has afterwards. old: the versions that the change was made from.
    copier_takes: most documents that the copier takes; more go through the pipeline."""
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
            f"{report.failed} documents could not be copied and would be missing; which and why: "
            f"{work.letters.path}. The old index stays active"
        )
    return as_copied(old, report.moved)


def copy_few(work: Reindexing, versions: Versions) -> Report:
    report: Report = answer_of(work.copier.copy.remote(versions))
    work.letters.append(report.dead_letters)
    return report


def answer_of(call: Any) -> Any:
    """The copier's result. Raises what the copier raised, else Unavailable."""
    try:
        return ray.get(call, timeout=COPIER_TIMEOUT_S)
    except GetTimeoutError:
        raise Unavailable(
            f"the process that copies single documents gave no answer within {COPIER_TIMEOUT_S:g} s: it could not be "
            "placed (does something else hold the GPU?), or hangs. Run it again"
        ) from None
    except RayError as error:
        ours = platform_error(error)
        raise ours or Unavailable(f"the process that copies single documents failed: {error}") from error


def copy_many(work: Reindexing, versions: Versions) -> Report:
    """By the pipeline of jobs.index."""
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
        raise VerificationFailed(f"{len(faults)} of {len(sample)} documents of a sample are not right: {faults[0]}")
    return len(sample)
