"""When an entry found in a far tier is worth a place in a nearer one. Pure.

The rule: it has been asked for `asked` times of late, so it will be asked for about as often again (the assumption of
frequency-based admission, TinyLFU: Einziger, Friedman and Manes, 2017). Bringing it nearer saves the difference of
the two tiers' measured times at each of those, and costs one put:

    promote  <=>  (asked - 1) * (get_far - get_near) > put_near

The request that found it is not counted: it is answered already. So what is asked for once never pushes anything out
of a nearer tier, and a near tier that turns out slower than a far one (a Redis behind a slow network, a disk in the
page cache) gets nothing from it.
"""

from __future__ import annotations

from dataclasses import dataclass

WEIGHT = 0.1  # of the newest measurement
ROWS = 4
LARGEST = 255


@dataclass(slots=True)
class Cost:
    """Moving averages of one tier's times per key, in seconds; 0 until measured, so that what is unknown is tried."""

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
    """How often keys were asked for of late: a count-min sketch (Cormode and Muthukrishnan, 2005) of ROWS bytes a
    key, all halved whenever ten times `width` have been counted. It never says too little, before halving; too much by
    at most e / width of what it has counted, but for one key in e ** ROWS (55)."""

    def __init__(self, width: int = 1 << 16) -> None:
        """width: a power of two, at most 2 ** 32; the sketch takes ROWS * width bytes."""
        self._width = width
        self._rows = bytearray(ROWS * width)
        self._added = 0

    def add(self, key: bytes) -> int:
        """Count this request; how many there were, with it. key: a digest, of which every 4 bytes are random."""
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
