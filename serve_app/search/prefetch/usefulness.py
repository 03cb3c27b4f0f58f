"""Whether prefetching is worth its work: useful ones over all, decayed, per kind. Pure; time is an argument."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from serve_app.search.prefetch.follow_ups import remaining

PRIOR = 8.0  # prefetches imagined useful, so that a kind starts enabled and does again when its failures are forgotten
PROBE_IN = 20  # one in so many is made of a kind that is off, to see whether it has become useful


class PrefetchKind(StrEnum):
    """What was prefetched."""

    PAGE = "page"
    QUERY = "query"


@dataclass(slots=True)
class Account:
    """As of `at_s`, decayed."""

    at_s: float = 0.0
    all: float = 0.0
    useful: float = 0.0
    held_back: int = 0  # since the last probe


class Usefulness:
    """A kind is off while (PRIOR + useful) / (PRIOR + all) is below `least_ratio`."""

    def __init__(self, least_ratio: float, half_life_s: float) -> None:
        self._least_ratio = least_ratio
        self._half_life_s = half_life_s
        self._accounts = {kind: Account() for kind in PrefetchKind}

    def made(self, kind: PrefetchKind, now_s: float) -> None:
        self._as_of(kind, now_s).all += 1

    def used(self, kind: PrefetchKind, made_at_s: float, now_s: float) -> None:
        """Once for each that was made. It counts what its making still does, so no ratio is above 1."""
        self._as_of(kind, now_s).useful += remaining(now_s - made_at_s, self._half_life_s)

    def ratio(self, kind: PrefetchKind) -> float | None:
        """useful / all; None before the first. Decay changes both alike, so it needs no clock."""
        account = self._accounts[kind]
        return min(account.useful / account.all, 1.0) if account.all else None

    def is_on(self, kind: PrefetchKind, now_s: float) -> bool:
        account = self._as_of(kind, now_s)
        return PRIOR + account.useful >= self._least_ratio * (PRIOR + account.all)

    def permits(self, kind: PrefetchKind, now_s: float) -> bool:
        """Asked once for each that could be made: of a kind that is off, one in PROBE_IN may."""
        if self.is_on(kind, now_s):
            return True
        account = self._accounts[kind]
        account.held_back = (account.held_back + 1) % PROBE_IN
        return account.held_back == 0

    def _as_of(self, kind: PrefetchKind, now_s: float) -> Account:
        account = self._accounts[kind]
        left = remaining(now_s - account.at_s, self._half_life_s)
        account.all *= left
        account.useful *= left
        account.at_s = max(now_s, account.at_s)
        return account
