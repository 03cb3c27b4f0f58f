"""Decides whether a write to an index of the embedded store may begin.

docs/decisions/0011-state.md says why this does not use `state`.
"""

from __future__ import annotations

import threading
import time
import uuid

from serve_app.store.indexes import already_active, already_held, hold_is_over


class NotNow(Exception):
    """Writes are held back, or another index has become active. Find the active index again and retry."""


class Gate:
    """The index's writer thread calls `require_open` before each write. It calls `hold` as well, so a hold begins only
    after the running write has ended. Thread-safe."""

    def __init__(self, name: str, *, is_active: bool) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._is_active = is_active
        self._holder, self._held_until_s = "", 0.0

    @property
    def is_active(self) -> bool:
        return self._is_active

    def require_open(self, *, by_name: bool) -> None:
        """Raises NotNow while writes must wait. by_name: the write names this index; then raises Conflict if the index
        is active."""
        with self._lock:
            if by_name and self._is_active:
                raise already_active(self._name)
            if not by_name and (not self._is_active or self._is_held()):
                raise NotNow

    def hold(self, lease_s: float) -> str:
        """Hold writes back for `lease_s`. Returns the new holder. Raises Conflict while another holder has the hold."""
        with self._lock:
            if not self._is_active or self._is_held():
                raise already_held()
            self._holder, self._held_until_s = uuid.uuid4().hex, time.monotonic() + lease_s
            return self._holder

    def release(self, holder: str) -> None:
        with self._lock:
            if holder == self._holder:
                self._held_until_s = 0.0

    def hand_over(self, holder: str) -> None:
        """Make the index inactive. Raises Conflict unless this holder still has the hold."""
        with self._lock:
            if holder != self._holder or not self._is_held():
                raise hold_is_over()
            self._is_active, self._held_until_s = False, 0.0

    def open(self) -> None:
        """Make the index active and accept writes."""
        with self._lock:
            self._is_active, self._held_until_s = True, 0.0

    def _is_held(self) -> bool:
        return time.monotonic() < self._held_until_s
