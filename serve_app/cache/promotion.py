"""Promotion: when to copy an entry that was found in a far tier to a nearer one. Pure.

An entry that was requested `asked` times recently will be requested about as often again. This is the assumption of
frequency-based admission (TinyLFU: Einziger, Friedman and Manes, 2017). After a promotion each of these requests saves
the difference of the two tiers' measured read times. The promotion itself costs one write:

    promote  <=>  (asked - 1) * (get_far - get_near) > put_near

The current request is subtracted, because it has its answer already. So an entry that is requested once never pushes
another out of a nearer tier. A near tier that is slower than the far one (a Redis behind a slow network, nearer than a
disk in the page cache) gets no promotions.
"""

from __future__ import annotations

from dataclasses import dataclass

WEIGHT = 0.1  # of the newest measurement
ROWS = 4
LARGEST = 255


@dataclass(slots=True)
class Cost:
    """Moving averages of one tier's times per key, in seconds. They are 0 until measured, so an unmeasured tier gets
    promotions."""

    get_s: float = 0.0
    put_s: float = 0.0

    def observe_get(self, seconds: float) -> None:
        self.get_s = averaged(self.get_s, seconds)

    def observe_put(self, seconds: float) -> None:
        self.put_s = averaged(self.put_s, seconds)


def averaged(average: float, value: float) -> float:
    return value if average == 0 else average + WEIGHT * (value - average)


def worthwhile(asked: int, far: Cost, near: Cost) -> bool:
    return (asked - 1) * (far.get_s - near.get_s) > near.put_s


class FrequencySketch:
    """How often keys were requested recently: a count-min sketch (Cormode and Muthukrishnan, 2005) with ROWS rows of
    one-byte counters. After every 10 * width requests all counters are halved. Until then a count is never too low. It
    is too high by at most e / width of all requests, except for one key in e ** ROWS (55)."""

    def __init__(self, width: int = 1 << 16) -> None:
        """width: a power of two, at most 2 ** 32; the sketch takes ROWS * width bytes."""
        self._width = width
        self._rows = bytearray(ROWS * width)
        self._added = 0

    def add(self, key: bytes) -> int:
        """Count this request, and return the count with it. key: a digest, so any 4 bytes of it are random."""
        rows, width = self._rows, self._width
        least = LARGEST
        for row in range(ROWS):
            place = row * width + (int.from_bytes(key[4 * row : 4 * row + 4], "little") & (width - 1))
            count = rows[place]
            if count < LARGEST:
                count += 1
                rows[place] = count
            least = min(least, count)
        self._added += 1
        if self._added >= 10 * width:
            self._rows = bytearray(rows.translate(HALVED))
            self._added //= 2
        return least


HALVED = bytes(count // 2 for count in range(256))
