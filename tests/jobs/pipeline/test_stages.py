from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import orjson
import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from jobs.pipeline.cutting import own_fault
from jobs.pipeline.inputs import Input
from jobs.pipeline.run import platform_error
from jobs.pipeline.stages import Reading, chars
from jobs.runtime.slices import slices
from serve_app.errors import EngineUnavailable, InvalidInput, StoreUnavailable
from serve_app.settings import Settings
from serve_app.types import Document, JsonObject, Scope
from tests.jobs.index.test_run import blocks


@given(st.lists(st.integers(0, 50)), st.integers(1, 5), st.integers(0, 60))
def test_slices_keep_all_in_order_and_within_the_limits(weights: list[int], max_items: int, max_weight: int) -> None:
    runs = list(slices(weights, max_items, max_weight, lambda weight: weight))
    assert [weight for run in runs for weight in run] == weights
    assert all(len(run) <= max_items and (sum(run) <= max_weight or len(run) == 1) for run in runs)
    assert all(runs)


@given(st.lists(st.integers()), st.integers(1, 5))
def test_slices_without_weights_are_full_but_for_the_last(items: list[int], max_items: int) -> None:
    *full, last = [*slices(items, max_items)] or [[]]
    assert all(len(run) == max_items for run in full) and len(last) <= max_items


def test_what_is_the_documents_fault_and_what_is_not() -> None:
    assert own_fault(InvalidInput("empty")) == "empty"
    assert own_fault(ZeroDivisionError("by zero")) == "ZeroDivisionError: by zero"
    for everyones in (StoreUnavailable("gone"), EngineUnavailable("gone"), MemoryError()):
        with pytest.raises(type(everyones)):
            own_fault(everyones)


def test_our_error_is_found_under_rays() -> None:
    ours = StoreUnavailable("gone")
    wrapped = RuntimeError("a task failed")
    wrapped.__cause__ = ValueError("on the way")
    wrapped.__cause__.__cause__ = ours
    assert platform_error(wrapped) is ours
    assert platform_error(RuntimeError()) is None


METADATA: JsonObject = {"product": "ai-docs", "language": "en", "tags": ["a", "b"], "reviewed": True}


@pytest.mark.parametrize(
    "document",
    [
        Document("7", "Employees have 25 days of holiday."),
        Document("7", "short", "Its title", "https://example.org/7", METADATA, "someone"),
        Document("7", "line\n" * 400, metadata=METADATA),
        Document("7", "従業員には年間二十五日の休暇がある。" * 4, "休暇"),
    ],
)
def test_progress_follows_a_file_of_json_lines_whatever_its_documents_have(document: Document) -> None:
    line = {name: value for name, value in asdict(document).items() if value}  # as people write them
    size_bytes = 100 * (len(orjson.dumps(line)) + 1)
    reading = Reading(Input(Path("documents.jsonl"), Path(), size_bytes), size_bytes)
    half = sum(reading.share(document).source_bytes for _ in range(50))
    assert half == pytest.approx(size_bytes / 2, rel=0.15)
    assert half + sum(reading.share(document).source_bytes for _ in range(50)) <= size_bytes


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [({}, 4), ({"html": "x" * 100}, 4 + 100 + len('{"html":""}')), ({"half": "\ud800"}, 4), ({"set": {1}}, 4)],
)
def test_a_document_weighs_as_much_as_its_text_and_metadata(metadata: JsonObject, expected: int) -> None:
    assert chars(Document("7", "text", metadata=metadata)) == expected


async def test_heavy_metadata_is_cut_into_several_blocks(settings: Settings, tmp_path: Path) -> None:
    """Blocks of 128 characters."""
    light = [{"id": f"light {number}", "text": "short", "year": number} for number in range(4)]
    heavy = [{"id": f"heavy {number}", "text": "short", "html": "x" * 1_000} for number in range(3)]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(map(orjson.dumps, [*light, *heavy])))
    read = ray.remote(num_cpus=0)(blocks).remote  # in a process of its own, as in test_index_run
    found = await read(tmp_path, Scope("local", "heavy"), settings)
    assert found == [[row["id"] for row in light], ["heavy 0"], ["heavy 1"], ["heavy 2"], [""]]
