"""What finished tasks gave, kept for as long as another one is to take it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any


class Values:
    def __init__(self, needs: Counter[str]) -> None:
        """needs: how many tasks take each one's value."""
        self._needs = needs
        self._kept: dict[str, Any] = {}

    def keep(self, id: str, value: Any) -> None:
        if self._needs[id]:
            self._kept[id] = value

    def take(self, ids: Sequence[str]) -> tuple[Any, ...]:
        """For one task, which needs them no more: the others have them still."""
        taken = tuple(self._kept[id] for id in ids)
        self.release(ids)
        return taken

    def release(self, ids: Sequence[str]) -> None:
        """One task that needs them has taken them, or will never begin."""
        for id in ids:
            self._needs[id] -= 1
            if not self._needs[id]:
                self._kept.pop(id, None)
