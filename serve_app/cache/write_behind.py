"""Writes to one tier in the background. Entries that arrive during a pause or a write are written together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from serve_app.cache.entry import Entry

MAX_WAITING_BYTES = 32 * 1024 * 1024  # entries beyond it are dropped: a cache may forget, a queue may not grow


class WriteBehind:
    """put: writes to the tier and does not raise. pause_s: how long entries gather before a write, because a write
    costs the same thread and transaction for one entry as for many. Belongs to one event loop."""

    def __init__(self, put: Callable[[Mapping[bytes, Entry]], Awaitable[None]], pause_s: float) -> None:
        self._put = put
        self._pause_s = pause_s
        self._waiting: dict[bytes, Entry] = {}
        self._waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None

    def add(self, entries: Mapping[bytes, Entry]) -> bool:
        """Queue the entries. False if they were dropped."""
        size_bytes = sum(len(entry.payload) for entry in entries.values())
        if self._waiting and self._waiting_bytes + size_bytes > MAX_WAITING_BYTES:
            return False
        self._waiting.update(entries)
        self._waiting_bytes += size_bytes
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write())
        return True

    async def _write(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(self._pause_s)
                entries, self._waiting, self._waiting_bytes = self._waiting, {}, 0
                await self._put(entries)
        finally:
            self._task = None

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait until everything is written. After `timeout_s` the rest is dropped."""
        if self._task is not None:
            _, late = await asyncio.wait([self._task], timeout=timeout_s)
            for task in late:
                task.cancel()
