"""Files that share ids: the first file's document is kept, however many read and whichever is read first."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.index.run import index_source
from jobs.pipeline import run as pipeline
from jobs.pipeline.announcing import announce_all, claims_of
from jobs.pipeline.claims import Claim
from jobs.pipeline.dead_letters import DeadLetterFile, read_letters
from jobs.pipeline.inputs import Input, inputs_of
from jobs.pipeline.ledger import Report
from jobs.pipeline.tally import Tally, start_ledger
from serve_app.settings import Settings
from serve_app.types import Scope
from tests.jobs.contents import contents, require_equal


def write_source(folder: Path) -> None:
    """`shared` is in each file of rows, with other text; `page.md` is a page and a row, `empty.md` only a row."""
    folder.mkdir()
    for number in range(4):
        rows = [
            {"id": f"own-{number}", "text": "alone"},
            {"id": "shared", "text": f"of file {number}. " * 200 * number or "first"},
        ]
        later = {"id": "shared", "text": "a later row of the file"}
        (folder / f"{number}.jsonl").write_text("\n".join([*map(json.dumps, rows), "no json", json.dumps(later)]))
    (folder / "page.md").write_text("# A page\n\nOf its own.")
    (folder / "empty.md").write_text("")
    (folder / "rows.csv").write_text("id,text\npage.md,as a row\nempty.md,as a row\nown-csv,alone\n")


def run(
    inputs: Sequence[Input], scope: Scope, settings: Settings, letters: Path, embedders: int, *, prunes: bool = False
) -> tuple[Report, list[tuple[str, str]]]:
    """And its dead letters: file and id."""
    with DeadLetterFile(letters) as file:
        tally = Tally(file)
        index_source(list(inputs), scope, settings, tally, embedders=embedders, prunes=prunes)
    failures = map(json.loads, letters.read_text().splitlines())
    return tally.total, sorted((Path(each["input"]).name, each["document_id"]) for each in failures)


async def test_several_readers_keep_what_one_keeps(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "READ_INPUTS", 1)  # a file for each call
    source, one, several = tmp_path / "source", Scope("local", "one-reader"), Scope("local", "several-readers")
    write_source(source)
    inputs = inputs_of(str(source))
    expected, lost = await asyncio.to_thread(run, inputs, one, settings, tmp_path / "one.jsonl", 1)
    assert [name for name, id in lost if id == "shared"] == ["0.jsonl", *(f"{n}.jsonl" for n in (1, 1, 2, 2, 3, 3))]
    assert ("rows.csv", "page.md") in lost
    errors = [letter.error for letter in read_letters(tmp_path / "one.jsonl") if letter.document_id == "shared"]
    assert all("an earlier document has the same id" in error for error in errors)
    assert (await contents(one, settings)).documents["shared"].document.text == "first"
    total, also_lost = await asyncio.to_thread(run, inputs[::-1], several, settings, tmp_path / "2.jsonl", 2)
    assert (total, also_lost) == (expected, lost)
    require_equal(await contents(one, settings), await contents(several, settings))

    for each in source.glob("*.jsonl"):
        each.write_text(each.read_text().replace("no json\n", ""))
    inputs = inputs_of(str(source))
    again, _ = await asyncio.to_thread(run, inputs, several, settings, tmp_path / "again.jsonl", 1, prunes=True)
    assert (again.indexed, again.unchanged, again.deleted) == (0, expected.indexed, 0)


@pytest.mark.usefixtures("ray_cluster")
def test_ids_of_all_files_are_announced(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_source(source)
    inputs, ledger = inputs_of(str(source)), start_ledger()
    announce_all([[each] for each in reversed(inputs)], ledger, at_once=2, cpus=0.25)
    names = {each.path.name: each for each in inputs}
    wanted = {
        "shared": "0.jsonl",
        "page.md": "page.md",
        "own-3": "3.jsonl",
        "own-csv": "rows.csv",
        "empty.md": "rows.csv",
    }
    for id, owner in wanted.items():
        for name, each in names.items():
            assert ledger.claim([Claim(id, each.name, each.place)]) == [name == owner], (id, name)


def test_of_dead_letters_only_their_documents_claim(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_source(source)
    some = [replace(each, only=frozenset({"shared"})) for each in inputs_of(str(source))]
    assert {claim.id for claim in claims_of(some)} == {"shared"}
