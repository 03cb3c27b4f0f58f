"""The tiers in a folder: node-wide shared memory (a tmpfs, read at once) and disk (read in threads)."""

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
    """Keeps entries in `segments`; every call is done in a thread of its own, for the disk may be slow."""

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
        """Write again what would leave with the older generation; one batch at a time, others get another chance."""
        if aged and (self._copying is None or self._copying.done()):
            with contextlib.suppress(RuntimeError):  # closed meanwhile
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
    """On a tmpfs: a read is a look into memory and is done at once. Writes wait for other processes, so in a thread."""

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
    except RuntimeError as error:  # shut down
        raise Unavailable("the cache is closed") from error
    return await asyncio.wrap_future(future)
