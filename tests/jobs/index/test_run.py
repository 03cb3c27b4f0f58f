"""The pipeline on a real Ray, engine and store."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import ray

from jobs.index.run import index_source
from jobs.pipeline.actor_pools import actor_pools, cluster_now
from jobs.pipeline.dead_letters import DeadLetterFile
from jobs.pipeline.inputs import inputs_of
from jobs.pipeline.ledger import Ledger, Report
from jobs.pipeline.rows import from_block
from jobs.pipeline.run import reads, to_block
from jobs.pipeline.stages import IndexingPlan, ReadStage
from jobs.pipeline.tally import Tally, require_complete
from serve_app.deployments.store import connect_store
from serve_app.embedding.models import resolve_model
from serve_app.errors import Conflict, Unavailable
from serve_app.query_types import StoreQuery
from serve_app.settings import ChunkingSettings, Settings
from serve_app.store.sparse import Bm25SparseEncoder
from serve_app.types import Document, IndexedDocument, IndexedPassage, Passage, Scope, SparseVector, VectorSpace

pytestmark = pytest.mark.usefixtures("shell")
on_ray_data = pytest.mark.parametrize("shell", ["on_ray_data"], indirect=True)
WORDS = "aileron bulkhead camber dihedral elevon fuselage gyroscope hydrazine"


def run(source: Path, scope: Scope, settings: Settings, letters: Path) -> Report:
    with DeadLetterFile(letters) as file:
        tally = Tally(file)
        index_source(inputs_of(str(source)), scope, settings, tally)
    return tally.total


async def index(source: Path, scope: Scope, settings: Settings, letters: Path) -> Report:
    """In a thread: the test's own event loop stays free."""
    return await asyncio.to_thread(run, source, scope, settings, letters)


async def found(word: str, scope: Scope, space: VectorSpace, settings: Settings) -> set[str]:
    query = StoreQuery(scope, space, sparse=Bm25SparseEncoder().encode_query(word), limit=50)
    (answer,) = await connect_store(settings).query_batch([query])
    assert not isinstance(answer, Exception), answer
    return {hit.document_id for hit in answer.hits}


def write_corpus(folder: Path) -> None:
    (folder / "deep").mkdir(parents=True)
    for number, word in enumerate(WORDS.split()):
        (folder / "deep" / f"{number}.md").write_text(f"# About {word}\n\nA {word} is found on most aircraft.\n")
    gliders = "\n\n".join(f"An aileron, part {number}. " + "They glide. " * 90 for number in range(4))
    (folder / "deep" / "0.md").write_text(gliders)
    rows = [
        {"id": "row-1", "text": "kerosene burns"},
        {"id": "row-2", "text": "a rudder steers"},
        {"id": "row-1", "text": "again"},
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n" + '{"id": "row-3"}\n')
    (folder / "empty.txt").write_text("")
    (folder / "binary.md").write_bytes(bytes(range(256)) * 50)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nno more than that")
    (folder / os.fsdecode(b"n\xffme.md")).write_text("a name that is no text")


async def test_index_again_and_after_a_change(settings: Settings, tmp_path: Path) -> None:
    source, letters, scope = tmp_path / "source", tmp_path / "letters.jsonl", Scope("local", "aircraft")
    write_corpus(source)

    total = await index(source, scope, settings, letters)
    assert (total.indexed, total.unchanged) == (10, 0)
    failures = [json.loads(line) for line in letters.read_text().splitlines()]
    assert total.failed == len(failures)
    assert set(Counter(Path(f["source"].split("#")[0]).name for f in failures).items()) == {
        ("rows.jsonl", 3), ("empty.txt", 1), ("binary.md", 1), ("broken.pdf", 1), ("n\ufffdme.md", 1),
    }  # fmt: skip
    assert all(failure["error"] and failure["at"] for failure in failures)

    store = connect_store(settings)
    stored = await store.count(scope)
    assert (stored.documents, stored.passages) == (10, total.passages)
    assert stored.passages > 10
    assert (await store.document(scope, "deep/3.md")).title == "About dihedral"
    for number, word in enumerate(WORDS.split()):
        assert await found(word, scope, stored.space, settings) == {f"deep/{number}.md"}

    again = await index(source, scope, settings, tmp_path / "again.jsonl")
    assert (again.indexed, again.passages, again.unchanged, again.failed) == (0, 0, 10, total.failed)

    (source / "deep" / "0.md").write_text("# Short\n\nOnly parachutes.")
    shrunk = await index(source, scope, settings, tmp_path / "shrunk.jsonl")
    assert (shrunk.indexed, shrunk.passages, shrunk.unchanged) == (1, 1, 9)
    assert (await store.count(scope)).passages == 10
    assert await found("aileron", scope, stored.space, settings) == set()
    assert await found("parachutes", scope, stored.space, settings) == {"deep/0.md"}


async def test_a_thousand_small_files(settings: Settings, tmp_path: Path) -> None:
    scope, source = Scope("local", "many"), tmp_path / "source"
    for folder in range(10):
        (source / f"{folder}").mkdir(parents=True)
        for number in range(100):
            (source / f"{folder}" / f"{number}.txt").write_text(f"file {number} of {folder}" if number else "")
    total = await index(source, scope, settings, tmp_path / "letters.jsonl")
    assert (total.indexed, total.failed, total.announced) == (990, 10, 1_000)
    assert (await connect_store(settings).count(scope)).documents == 990
    again = await index(source, scope, settings, tmp_path / "again.jsonl")
    assert (again.indexed, again.unchanged, again.failed) == (0, 990, 10)


async def test_a_document_of_a_thousand_passages(settings: Settings, tmp_path: Path) -> None:
    scope = Scope("local", "long")
    (tmp_path / "long.txt").write_text(
        "\n\n".join(f"Paragraph number {number} of a long text." for number in range(4000))
    )
    small = settings.model_copy(update={"chunking": ChunkingSettings(max_tokens=24)})
    total = await index(tmp_path / "long.txt", scope, small, tmp_path / "letters.jsonl")
    assert (total.indexed, total.failed) == (1, 0)
    assert total.passages > 1024
    assert (await connect_store(settings).count(scope)).passages == total.passages


@on_ray_data
async def test_documents_larger_than_all_that_may_wait_between_the_stages(settings: Settings, tmp_path: Path) -> None:
    scope, source = Scope("local", "larger"), tmp_path / "source"
    source.mkdir()
    for number in range(4):
        (source / f"{number}.txt").write_text(f"Document {number}. " + "It goes on and on. " * 2_000)
    with DeadLetterFile(tmp_path / "letters.jsonl") as file:
        tally = Tally(file)
        await asyncio.to_thread(index_source, inputs_of(str(source)), scope, settings, tally, block_tokens=16)
    assert (tally.total.indexed, tally.total.failed) == (4, 0)


@on_ray_data
async def test_a_repeated_reading_gives_the_same_blocks(settings: Settings, tmp_path: Path) -> None:
    """Ray repeats what a node that died was reading, and takes the blocks after those it has. By then the first
    documents are stored."""
    scope, source = Scope("local", "repeated"), tmp_path / "source"
    write_corpus(source)
    read = ray.remote(num_cpus=0)(blocks).remote  # in a process of its own, which ends what a stage never ends
    before = await read(source, scope, settings)
    await index(source, scope, settings, tmp_path / "letters.jsonl")
    assert await read(source, scope, settings) == before
    assert len(before) > 5


def blocks(source: Path, scope: Scope, settings: Settings) -> list[list[str]]:
    """Ids of the documents in each block that reading gives."""
    space = resolve_model(settings.embedding, settings.data_dir).space
    stage = ReadStage(IndexingPlan(scope, space, settings, block_tokens=32), Ledger())
    read = (block for some in reads(inputs_of(str(source))) for block in stage(to_block(some)))
    return [sorted(row.document_id for row in from_block(block)) for block in read]


@on_ray_data
async def test_the_torch_engine_takes_a_gpu_of_the_cluster(settings: Settings, tmp_path: Path) -> None:
    """Ray Data asks more of a stage that has one; here it is a GPU on paper, and torch computes on the CPU."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.md").write_text("# About rudders\n\nThey steer.")
    embedding = settings.embedding.model_copy(update={"engine": "torch", "precision": "fp32"})
    on_torch = settings.model_copy(update={"embedding": embedding})
    assert actor_pools(cluster_now(), embedding, None).gpus == 1
    total = await index(tmp_path / "source", Scope("local", "gpu"), on_torch, tmp_path / "letters.jsonl")
    assert (total.indexed, total.failed) == (1, 0)


async def test_a_collection_of_another_model_is_refused_before_work(settings: Settings, tmp_path: Path) -> None:
    scope, other = Scope("local", "conflict"), VectorSpace("other-model", "1", 2)
    vectors = np.array([0, 1], np.float32), SparseVector(np.array([1], np.uint32), np.array([1], np.float32))
    document = IndexedDocument(Document("a", "text"), "print", (IndexedPassage(Passage(0, "text"), *vectors),))
    await connect_store(settings).write(scope, other, [document])
    (tmp_path / "a.md").write_text("text")
    with pytest.raises(Conflict, match=r"made with model other-model .* use another collection"):
        await index(tmp_path, scope, settings, tmp_path / "letters.jsonl")


async def test_dead_letters_without_room_end_no_run_and_are_told(settings: Settings, tmp_path: Path) -> None:
    scope, source, full = Scope("local", "room"), tmp_path / "source", tmp_path / "full.jsonl"
    source.mkdir()
    (source / "good.md").write_text("A readable page.")
    (source / "bad.pdf").write_bytes(b"no pdf")
    full.symlink_to("/dev/full")
    with DeadLetterFile(full) as file:
        tally = Tally(file)
        with pytest.raises(Unavailable, match="dead letters cannot be written"):
            await asyncio.to_thread(index_source, inputs_of(str(source)), scope, settings, tally)
    assert (tally.total.indexed, tally.total.failed) == (1, 1)
    assert (await connect_store(settings).count(scope)).documents == 1


def test_lost_documents_are_not_passed_over_in_silence() -> None:
    require_complete(Report(indexed=2, failed=1, announced=3, source_bytes=10), 10)
    with pytest.raises(Unavailable, match="3 documents in 10 bytes were read, but 2 in 10 arrived"):
        require_complete(Report(indexed=2, announced=3, source_bytes=10), 10)
    with pytest.raises(Unavailable, match="Run it again"):
        require_complete(Report(indexed=3, announced=3, source_bytes=9), 10)
