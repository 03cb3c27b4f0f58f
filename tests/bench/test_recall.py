"""The recall benchmark runs on any store, leaves it unchanged and counts correctly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serve_app.query_types import StoreQuery
from serve_app.settings import StoreSettings
from serve_app.store.edge.store import EdgeStore
from serve_app.types import Quantization
from tests.bench.prepared import SCOPE, Prepared
from tests.bench.recall import CODES, EFS, RESCORED, compare, table
from tests.serve_app.store.random_documents import SPACE, random_document, random_vector

DOCUMENTS, PASSAGES = 20, 20


@pytest.mark.slow
async def test_recall_is_of_what_exact_search_finds(tmp_path: Path) -> None:
    store = EdgeStore.open(tmp_path / "prepared", StoreSettings())
    await store.write(SCOPE, SPACE, [random_document(f"d{number}", PASSAGES) for number in range(DOCUMENTS)])
    await store.close()
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "prepared").rglob("*")}
    rng = np.random.default_rng(3)
    queries = [StoreQuery(SCOPE, SPACE, random_vector(rng)) for _ in range(20)]
    prepared = Prepared(tmp_path / "prepared", DOCUMENTS * PASSAGES, SPACE)
    measured = await compare(prepared, queries, tmp_path / "work")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "prepared").rglob("*")} == files
    assert len(measured) == 1 + len(EFS) * (1 + len(CODES) * len(RESCORED))
    assert [one.recall for one in measured if one.exact] == [1.0]
    coarsest = [one for one in measured if one.quantization is Quantization.BINARY and one.oversampling == 1]
    rescored = [one for one in measured if one.quantization is Quantization.BINARY and one.oversampling == 8]
    assert max(one.recall for one in coarsest) < min(one.recall for one in rescored) <= 1
    assert all((one.sizes.codes_mib > 0) == (one.quantization in CODES) for one in measured)
    assert len(table(measured).splitlines()) == 2 + 2 + len(CODES) * len(RESCORED)
