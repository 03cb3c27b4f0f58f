"""The two tiers in a folder: shared memory of the node (a tmpfs, read directly) and disk (read in threads)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from serve_app.cache.entry import Entry
from serve_app.cache.tiers.segments import Segments
from serve_app.cache.tiers.tier import TierUsage
from serve_app.errors import Unavailable

READ_THREADS = 2
Out = TypeVar("Out")


class LmdbTier:
    """Entries in `segments`. Every call runs in a thread, because the disk may be slow."""

    def __init__(self, name: str, segments: Segments) -> None:
        self._name = name
        self._segments = segments
        self._readers = ThreadPoolExecutor(READ_THREADS, f"cache-{name}-read")
        self._writer = ThreadPoolExecutor(1, f"cache-{name}-write")
        self._copying: Future[None] | None = None

    @property
    def name(self) -> str:
        return self._name

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        found, aged = await in_thread(self._readers, partial(self._segments.get_many, keys))
        self._keep(aged)
        return found

    async def put_many(self, entries: Mapping[bytes, Entry]) -> None:
        await in_thread(self._writer, partial(self._segments.put_many, entries))

    def _keep(self, aged: Mapping[bytes, Entry]) -> None:
        """Copy entries of the older generation to the current one, so that they survive the next rotation. While one
        batch is being copied, others are skipped; their next read tries again."""
        if aged and (self._copying is None or self._copying.done()):
            with contextlib.suppress(RuntimeError):  # the tier was closed meanwhile
                self._copying = self._writer.submit(self._segments.keep, aged)

    async def clear(self) -> None:
        await in_thread(self._writer, self._segments.clear)

    async def usage(self) -> TierUsage:
        return await in_thread(self._readers, self._segments.usage)

    async def close(self) -> None:
        self._segments.close()
        for executor in (self._readers, self._writer):
            executor.shutdown(wait=False, cancel_futures=True)


class SharedMemoryTier(LmdbTier):
    """On a tmpfs. A read only reads memory, so it runs in the event loop. A write waits for other processes, so it runs
    in a thread."""

    def get_now(self, key: bytes) -> Entry | None:
        try:
            found, aged = self._segments.get_many((key,))
        except Unavailable:
            return None
        if aged:
            self._keep(aged)
        return found.get(key)

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        found, aged = self._segments.get_many(keys)
        self._keep(aged)
        return found


async def in_thread(executor: ThreadPoolExecutor, call: Callable[[], Out]) -> Out:
    try:
        future = executor.submit(call)
    except RuntimeError as error:  # the executor is shut down
        raise Unavailable("the cache is closed") from error
    return await asyncio.wrap_future(future)
