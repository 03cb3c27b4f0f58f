"""A reindexing as steps, without its command line; the last ones, take over and drop, are in `switch`.

    build       all documents through the pipeline of jobs.index; then what was written meanwhile, again and again
    verify      a sample of the new index against its texts, cut and embedded anew
    take over   compare what both have, hold writes back, copy what came last, switch; writes go on, into the new index

No write is done twice by those who write: what they write to the old index is found by its fingerprint and copied, so
that uploads cost the same while an index is built, and one that is killed half-way leaves nothing to mend. It is the
store that promises that nothing is missing after the switch: see Indexes.hold.
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
from jobs.pipeline.cutting import Plan, settings_of
from jobs.pipeline.dead_letters import DeadLetterFile
from jobs.pipeline.inputs import total_bytes
from jobs.pipeline.ledger import Report
from jobs.pipeline.run import platform_error, run_pipeline
from jobs.pipeline.tally import Tally, Watch, require_complete, start_ledger
from jobs.reindex.plan import (
    Change,
    VerificationFailed,
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
from serve_app.errors import ConfigurationError, InvalidInput, Unavailable
from serve_app.ports import IndexedStore, Tokenizer
from serve_app.settings import ChunkingSettings, EmbeddingSettings, Settings
from serve_app.types import IndexInfo, Recipe, Scope, StoredVersion

T = TypeVar("T")
Advance = Callable[[str, int, int], None]  # step, done, of how many

FEW_DOCUMENTS = 64  # for which to start the pipeline takes longer than they do
COPIER_DOCUMENTS = 1_000  # in a round after the first, which the copier takes: it has started by then
MAX_ROUNDS = 20  # before writes are held back for however much there is
SAMPLE_DOCUMENTS = 64
DELETED_AT_ONCE = 1_000
COPIER_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be another one; None for as it is."""

    model: str | None = None
    precision: str | None = None
    max_tokens: int | None = None
    overlap_tokens: int | None = None


class Session:
    """The store, from code that is not async."""

    def __init__(self, store: IndexedStore) -> None:
        self.store = store
        self._loop = asyncio.Runner()

    def ask(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer of an idempotent call."""
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
class Work:
    """What the steps share, and what they have done so far."""

    session: Session
    plan: Plan
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
        """The pipeline would wait for ever for the one that the copier has; who asks for that starts it anew."""
        if self.copier_gpus and (copier := self.__dict__.pop("copier", None)) is not None:
            ray.kill(copier)


def recipe_of(answering: Recipe, wish: Wish, settings: Settings) -> Recipe:
    """Raises ConfigurationError if the model is none of the settings', Conflict if the present one is not, InvalidInput
    if passages would hold no text."""
    if wish.model is None:
        embedding = settings_of_space(settings.embedding, settings.data_dir, answering.space)
    else:
        embedding = of_model(settings.embedding, wish.model)
    asked = Recipe(answering.space, wish.max_tokens, wish.overlap_tokens)
    chunking = chunking_of(asked, chunking_of(answering, settings.chunking))
    model = resolve_model(embedding, settings.data_dir)
    require_room_for_text(load_tokenizer(model), chunking)
    return Recipe(model.space, chunking.max_tokens, chunking.overlap_tokens, wish.precision or answering.precision)


def require_room_for_text(tokenizer: Tokenizer, chunking: ChunkingSettings) -> None:
    """Before anything is made: uploads into an index whose passages hold no text would fail. Raises InvalidInput."""
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
        f"the service does not load {name}, only {known}: add it to AIDOCS_EMBEDDING__ALSO (a JSON list), for the "
        "service too, and start that anew; else nobody could search the collection after the switch"
    )


def plan_of(answering: IndexInfo, recipe: Recipe, index: str, settings: Settings) -> Plan:
    """Vectors of the same model are reused in an index that promises no precision. One that does gets none: what was
    uploaded into the old one has the precision of the service."""
    reuses = recipe.space == answering.recipe.space and recipe.precision is None and answering.recipe.precision is None
    own = settings_of(recipe, settings).without_secrets()
    scope = answering.scope.at(index)
    return Plan(scope, recipe.space, own, source=answering.scope, reuses=reuses)


def build(work: Work, recipe: Recipe) -> Versions:
    """The new index, with all that the old one has or had a moment ago: the versions that were copied. What an earlier
    run has made is passed over. Raises VerificationFailed if a document could not be made anew, and as
    `run_pipeline`."""
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


def apply(work: Work, change: Change, old: Versions, *, copier_takes: float = COPIER_DOCUMENTS) -> Versions:
    """The versions that the new index has then. old: that the change was made of. copier_takes: documents; more go
    through the pipeline."""
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
            f"{report.failed} documents could not be made anew, and would be missing; which and why: "
            f"{work.letters.path}. The old index goes on answering"
        )
    return as_copied(old, report.moved)


def copy_few(work: Work, versions: Versions) -> Report:
    report: Report = answer_of(work.copier.copy.remote(versions))
    work.letters.append(report.dead_letters)
    return report


def answer_of(call: Any) -> Any:
    """Of the copier. Raises what it raised, else Unavailable."""
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


def copy_many(work: Work, versions: Versions) -> Report:
    """By the pipeline of jobs.index."""
    work.free_gpus()
    inputs, ledger, most = copy_inputs(versions, work.block_documents), start_ledger(), len(versions)
    tally = Tally(work.letters, lambda total: work.advance("copying", min(total.documents, most), most))
    with Watch(ledger, tally):
        run_pipeline(inputs, work.plan, ledger, embedders=work.embedders)
    require_complete(tally.total, total_bytes(inputs))
    return tally.total


def verify(work: Work, ids: Sequence[str], chance: random.Random) -> int:
    """How many documents were looked at. Raises VerificationFailed."""
    sample = chance.sample(ids, min(SAMPLE_DOCUMENTS, len(ids)))
    faults: list[str] = answer_of(work.copier.faults.remote(sample)) if sample else []
    if faults:
        raise VerificationFailed(f"{len(faults)} of {len(sample)} documents of a sample are not right: {faults[0]}")
    return len(sample)
