"""`python -m tests.serve_app.store.edge.full_disk_child FOLDER`: a store whose disk fills up.

FOLDER: on a small disk of its own, which this process may fill to the last byte. Exits with 0 if all checks pass.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

from serve_app.errors import StoreFull
from serve_app.settings import StoreSettings
from serve_app.store.edge.free_space import MIB
from serve_app.store.edge.store import EdgeStore
from serve_app.types import Scope
from tests.contracts.corpus import SCOPE, SPACE, ask, document, found, listed_ids, query
from tests.contracts.indexes import FINE

SETTINGS = StoreSettings(min_free_bytes=48 * MIB)
BLOCK_BYTES = 4096


def fill(folder: Path, left_bytes: int) -> Path:
    path = folder / "others"
    with path.open("ab") as file:
        try:
            while (room := shutil.disk_usage(folder).free - left_bytes) > 0:
                os.write(file.fileno(), bytes(min(MIB, max(room, BLOCK_BYTES))))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return path


async def refused_until_there_is_room(folder: Path) -> None:
    store = EdgeStore.open(folder, SETTINGS)
    stored = [document(f"d{number}", f"text {number}", metadata={"year": number}) for number in range(50)]
    await store.write(SCOPE, SPACE, stored)
    others = fill(folder, left_bytes=MIB)

    for write in (
        store.write(SCOPE, SPACE, [document("new", "text")]),
        store.write(Scope("acme", "other"), SPACE, [document("new", "text")]),
        store.make_index(SCOPE.at("fine"), FINE),
        store.delete_documents(SCOPE, ["d1"]),
        store.optimize(SCOPE),
    ):
        with pytest.raises(StoreFull, match=rf"the disk of {folder}.* is full: .*Make room and repeat"):
            await write
    assert len(await found(store, query("text", limit=60))) == 50
    assert len(await listed_ids(store)) == 50
    assert [info.name for info in await store.collections("acme")] == ["handbook"]
    counted, plain = await store.query_batch([query("text", facets=("metadata.year",)), query("text")])
    assert isinstance(counted, StoreFull) and len(plain.hits) == 10
    in_range = {"must": [{"key": "metadata.year", "range": {"gte": 49}}]}
    assert await found(store, query("text", filter=in_range)) == ["d49"]  # without an index

    others.unlink()
    await store.write(SCOPE, SPACE, [document("new", "text")])
    assert (await ask(store, query("text", facets=("metadata.year",)))).total == 51
    await store.close()


async def cannot_be_opened_until_there_is_room(folder: Path) -> None:
    others = fill(folder, left_bytes=0)
    store = EdgeStore.open(folder, SETTINGS)
    with pytest.raises(StoreFull, match="is full"):
        await store.count(SCOPE)
    await store.check()
    others.unlink()
    assert (await store.count(SCOPE)).documents == 51
    await store.drop(SCOPE)
    await store.close()


async def is_filled_by_its_own_writes(folder: Path) -> None:
    """To the limit, and what is stored then is whole documents."""
    store = EdgeStore.open(folder, SETTINGS)
    text = os.urandom(16 * 1024).hex()
    written = 0
    with pytest.raises(StoreFull):
        while True:
            await store.write(SCOPE, SPACE, [document(f"d{written}", f"{written} {text}")])
            written += 1
    assert written > 50
    assert (await store.count(SCOPE)).documents == (await store.count(SCOPE)).passages == written
    assert len(await store.fingerprints(SCOPE, [f"d{number}" for number in range(written + 1)])) == written
    await store.close()


async def main(folder: Path) -> None:
    await refused_until_there_is_room(folder)
    await cannot_be_opened_until_there_is_room(folder)
    await is_filled_by_its_own_writes(folder)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
