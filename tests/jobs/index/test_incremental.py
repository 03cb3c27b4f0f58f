"""A corpus that changes: what is unchanged is left alone, what is gone is deleted, what failed is tried again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from jobs.index.run import index_source
from jobs.pipeline.dead_letters import DeadLetterFile, read_letters
from jobs.pipeline.inputs import inputs_of, to_retry
from jobs.pipeline.ledger import Report
from jobs.pipeline.tally import Tally
from serve_app.errors import Conflict, InvalidInput
from serve_app.settings import Settings
from serve_app.types import Scope
from tests.jobs.contents import contents, require_equal

pytestmark = pytest.mark.usefixtures("shell")
SENTENCES = [f"Part {number} tells of engine {number} and its pistons. " * 30 for number in range(12)]


async def index(
    source: Path, scope: Scope, settings: Settings, retry: Path | None = None, **options: Any
) -> tuple[Report, Path]:
    """Its report and its dead letters; in a thread, as it runs an event loop of its own."""

    def run() -> tuple[Report, Path]:
        inputs = inputs_of(str(source))
        path = source.parent / f"{scope.collection}-letters.jsonl"
        path.unlink(missing_ok=True)
        with DeadLetterFile(path) as letters:
            tally = Tally(letters)
            chosen = to_retry(inputs, read_letters(retry))[0] if retry else inputs
            index_source(chosen, scope, settings, tally, **options)
        return tally.total, path

    return await asyncio.to_thread(run)


def write_corpus(folder: Path) -> None:
    folder.mkdir()
    (folder / "long.md").write_text("\n\n".join(SENTENCES))
    (folder / "short.md").write_text("# Short\n\nA page that stays.")
    rows = [{"id": f"row{number}", "text": f"Row {number} of the table."} for number in range(5)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))


async def test_of_a_changed_document_only_new_passages_are_embedded(settings: Settings, tmp_path: Path) -> None:
    source, scope = tmp_path / "source", Scope("local", "daily")
    write_corpus(source)
    first, _ = await index(source, scope, settings)
    assert (first.indexed, first.replaced, first.embedded) == (7, 0, first.passages) and first.passages > 10

    (source / "long.md").write_text("\n\n".join(["A new beginning. " * 60, *SENTENCES[:-1], "A new end. " * 60]))
    again, _ = await index(source, scope, settings)
    assert (again.indexed, again.replaced, again.unchanged) == (1, 1, 6)
    assert 2 <= again.embedded <= again.passages - 8

    await index(source, Scope("local", "daily-clean"), settings)
    require_equal(await contents(scope, settings), await contents(Scope("local", "daily-clean"), settings))


async def test_what_is_gone_is_deleted_if_asked_for(settings: Settings, tmp_path: Path) -> None:
    source, scope = tmp_path / "source", Scope("local", "pruned")
    write_corpus(source)
    assert (await index(source, scope, settings, prunes=True))[0].deleted == 0  # a collection that is not there yet
    (source / "long.md").unlink()
    (source / "rows.jsonl").write_text(json.dumps({"id": "row3", "text": "Row 3 of the table, and more."}))
    before = await contents(scope, settings)
    would, _ = await index(source, scope, settings, prunes=True, dry_run=True)
    require_equal(before, await contents(scope, settings))
    assert (await index(source, scope, settings))[0].deleted == 0

    (source / "rows.jsonl").write_text(json.dumps({"id": "row3", "text": "Row 3 of the table, and even more."}))
    done, _ = await index(source, scope, settings, prunes=True)
    for report in (would, done):
        assert (report.indexed, report.replaced, report.unchanged, report.deleted) == (1, 1, 1, 5)
    await index(source, Scope("local", "pruned-clean"), settings)
    require_equal(await contents(scope, settings), await contents(Scope("local", "pruned-clean"), settings))
    assert (await index(source, scope, settings, prunes=True))[0].deleted == 0


async def test_what_cannot_be_read_today_is_not_gone(settings: Settings, tmp_path: Path) -> None:
    source, scope = tmp_path / "source", Scope("local", "unread")
    write_corpus(source)
    await index(source, scope, settings)
    before = await contents(scope, settings)
    (source / "short.md").write_bytes(bytes(range(256)) * 50)  # its one document keeps the version that was stored
    done, _letters = await index(source, scope, settings, prunes=True)
    assert (done.failed, done.unnamed, done.deleted) == (1, 0, 0)
    require_equal(before, await contents(scope, settings))

    (source / "rows.jsonl").write_text('{"id": "row1", "text": "Row 1 of the table."}\n{broken\n')
    with pytest.raises(Conflict, match="1 failures do not tell which documents"):
        await index(source, scope, settings, prunes=True)
    require_equal(before, await contents(scope, settings))

    (source / "rows.jsonl").unlink()
    (source / "archive").symlink_to(source / "not-mounted")
    with pytest.raises(Conflict, match="1 failures do not tell which documents"):
        await index(source, scope, settings, prunes=True)
    require_equal(before, await contents(scope, settings))

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other.md").write_text("Another folder.")
    (elsewhere / "rows.jsonl").write_text('{"id": "another", "text": "A row of another table."}')
    for _ in range(2):  # what the first wrote would let the second delete all else
        with pytest.raises(Conflict, match="none of the documents of the collection"):
            await index(elsewhere, scope, settings, prunes=True)
        require_equal(before, await contents(scope, settings))
    with (elsewhere / "rows.jsonl").open("a") as rows:
        rows.write('\n{"id": "row1", "text": "Row 1 of the table."}')
    assert (await index(elsewhere, scope, settings, prunes=True, dry_run=True))[0].deleted == len(before.documents) - 1


async def test_a_source_that_changes_after_it_was_listed(settings: Settings, tmp_path: Path) -> None:
    """It is indexed as it is read; what has vanished meanwhile is told, and its stored version stays."""
    source, scope = tmp_path / "source", Scope("local", "moving")
    write_corpus(source)
    await index(source, scope, settings)

    inputs = await asyncio.to_thread(inputs_of, str(source))
    (source / "short.md").unlink()
    (source / "long.md").write_text("# Long\n\nA page that was cut.")
    with (source / "rows.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"id": "row5", "text": "Row 5 of the table."}))
    path = tmp_path / "moving-letters.jsonl"
    with DeadLetterFile(path) as letters:
        tally = Tally(letters)
        await asyncio.to_thread(index_source, inputs, scope, settings, tally, prunes=True)
    assert (tally.total.indexed, tally.total.unchanged, tally.total.failed, tally.total.deleted) == (2, 5, 1, 0)
    [letter] = read_letters(path)
    assert (letter.document_id, letter.error) == ("short.md", "cannot be read: No such file or directory")
    found = (await contents(scope, settings)).documents
    assert set(found) == {"long.md", "short.md", *(f"row{number}" for number in range(6))}
    assert found["long.md"].document.text.endswith("A page that was cut.")
    last, _ = await index(source, scope, settings, prunes=True)
    assert (last.unchanged, last.failed, last.deleted) == (7, 0, 1)


async def test_a_dry_run_into_nothing_makes_no_collection(settings: Settings, tmp_path: Path) -> None:
    source, scope = tmp_path / "source", Scope("local", "dry")
    write_corpus(source)
    (source / "empty.md").write_text("")
    would, letters = await index(source, scope, settings, dry_run=True, prunes=True)
    assert (would.indexed, would.replaced, would.unchanged, would.failed) == (7, 0, 0, 1)
    assert [letter.document_id for letter in read_letters(letters)] == ["empty.md"]
    done, _ = await index(source, scope, settings)
    assert (done.indexed, done.passages, done.replaced) == (7, would.passages, 0)


async def test_a_duplicate_is_not_tried_alone(settings: Settings, tmp_path: Path) -> None:
    """Its first would be replaced by it."""
    source, scope = tmp_path / "source", Scope("local", "tried-alone")
    source.mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (source / name).write_text(json.dumps({"id": "same", "text": f"Of {name}."}))
    done, letters = await index(source, scope, settings)
    assert (done.indexed, done.failed) == (1, 1)
    before = await contents(scope, settings)
    with pytest.raises(InvalidInput, match="can be tried alone"):
        await index(source, scope, settings, retry=letters.rename(tmp_path / "kept.jsonl"))
    require_equal(before, await contents(scope, settings))


async def test_dead_letters_are_tried_again_alone(settings: Settings, tmp_path: Path) -> None:
    source, scope = tmp_path / "source", Scope("local", "retried")
    write_corpus(source)
    (source / "empty.md").write_text("")
    (source / "rows.jsonl").write_text('{"id": "good", "text": "Fine."}\n{"id": "bad", "text": ""}\n')
    first, letters = await index(source, scope, settings)
    assert (first.indexed, first.failed) == (3, 2)
    kept = letters.rename(tmp_path / "kept.jsonl")

    (source / "empty.md").write_text("No longer empty.")
    (source / "rows.jsonl").write_text(
        '{"id": "good", "text": "Changed."}\n{"id": "bad", "text": "Mended."}\n{"id": "new", "text": "New."}\n'
    )
    again, _ = await index(source, scope, settings, retry=kept)
    assert (again.indexed, again.unchanged, again.failed) == (2, 0, 0)
    found = (await contents(scope, settings)).documents
    assert set(found) == {"long.md", "short.md", "good", "bad", "empty.md"}
    assert found["good"].document.text == "Fine."  # its turn comes with the whole source

    kept.write_text(json.dumps({"source": "?", "document_id": "", "error": "?", "input": str(source / "rows.jsonl")}))
    whole, _ = await index(source, scope, settings, retry=kept)  # nobody knows which document it was
    assert (whole.indexed, whole.unchanged) == (2, 1)
