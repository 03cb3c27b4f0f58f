"""Which texts go together into one forward pass."""

from __future__ import annotations

from collections.abc import Sequence


def compose_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of texts by batch: texts of like length together, so that little is padded.

    lengths: tokens of each text. max_tokens: of one batch with its padding, that is number of texts × longest text;
    only a text that is longer by itself exceeds it, and goes alone. Every index appears once; longest first, so that
    the largest memory is claimed by the first pass. Equal lengths keep their order.
    """
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if room == 0:
            batches.append([])
            room = max(1, max_tokens // max(1, lengths[index]))
        batches[-1].append(index)
        room -= 1
    return batches
