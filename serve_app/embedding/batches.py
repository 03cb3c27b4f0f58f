"""Which texts go together into one forward pass, and how wide it is.

Passes are of few shapes, because an engine prepares its kernels anew for each shape that it has not seen lately.
"""

from __future__ import annotations

from collections.abc import Sequence

COUNTS = (1, 2, *(part << power for power in range(11) for part in (3, 4)))  # texts of one pass: 1, 2, 3, 4, 6, 8, 12 …
LEAST_STEP = 4


def padded_width(tokens: int, most: int) -> int:
    """The least multiple of a step that holds so many tokens, but at most `most`, which is not exceeded by them. The
    step is a power of two, from a 16th to an 8th of the tokens, and at least LEAST_STEP."""
    step = max(LEAST_STEP, 1 << max(0, tokens.bit_length() - 4))
    return min(most, max(step, -(-tokens // step) * step))


def compose_batches(widths: Sequence[int], max_tokens: int, pass_overhead_tokens: int) -> list[list[int]]:
    """Indices of texts by batch, at the least cost: each pass costs pass_overhead_tokens and its padded tokens, that
    is number of texts × widest text. A batch has as many texts as one of COUNTS says.

    widths: padded tokens of each text by itself. max_tokens: padded tokens of one pass; only a text that is wider by
    itself exceeds it, and goes alone. Every index appears once; widest first, so that the largest memory is claimed by
    the first pass. Equal widths keep their order.

    Some best composition has neighbours by width only, so it is a shortest path over the sorted texts (as in
    breaking lines: Knuth and Plass, 1981).
    """
    order = sorted(range(len(widths)), key=lambda i: -widths[i])
    least_cost = [0.0, *[float("inf")] * len(order)]  # of the first n texts
    last_start = [0] * (len(order) + 1)  # of the last pass of the first n texts
    for end in range(1, len(order) + 1):
        for count in COUNTS:
            start = end - count
            if start < 0:
                break
            padded_tokens = count * widths[order[start]]
            if padded_tokens > max_tokens and count > 1:
                break
            cost = least_cost[start] + pass_overhead_tokens + padded_tokens
            if cost <= least_cost[end]:
                least_cost[end], last_start[end] = cost, start
    batches: list[list[int]] = []
    end = len(order)
    while end:
        batches.append(order[last_start[end] : end])
        end = last_start[end]
    return batches[::-1]


def share_tokens(widths: Sequence[int], workers: int) -> int:
    """Padded tokens of one pass, of which `workers` have enough to do with all texts: its part of them, by number,
    were they all as wide as the widest."""
    return -(-len(widths) // workers) * max(widths, default=0)
