"""`python -m tests.serve_app.store.edge.crash_child FOLDER FIRST_VERSION hold|write|optimize`: a process to kill.

hold      open the store and wait
write     rewrite ten documents for ever, each version with a different number of passages
optimize  the same, and optimise continuously
Prints `open`, then a line `ID VERSION` after each write, and `optimised` after each optimisation.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from serve_app.settings import StoreSettings
from serve_app.store.edge.store import EdgeStore
from tests.serve_app.store.random_documents import SCOPE, SPACE, random_document

DOCUMENTS = 10
SETTINGS = StoreSettings(optimize_after_passages=1_000_000_000)


def passages_in(version: int) -> int:
    return (version * 7) % 300 if version % 10 == 0 else version % 6  # now and then one of several steps


async def write(store: EdgeStore, first_version: int) -> None:
    for version in itertools.count(first_version):
        id = f"d{version % DOCUMENTS}"
        await store.write(SCOPE, SPACE, [random_document(id, passages_in(version), version)])
        print(f"{id} {version}", flush=True)


async def optimize(store: EdgeStore) -> None:
    while True:
        await store.optimize(SCOPE)
        print("optimised", flush=True)


async def main(folder: Path, first_version: int, mode: str) -> None:
    store = EdgeStore.open(folder, SETTINGS)
    await store.write(SCOPE, SPACE, [])
    print("open", flush=True)
    if mode == "hold":
        await asyncio.Event().wait()
    await asyncio.gather(write(store, first_version), *[optimize(store)] * (mode == "optimize"))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
