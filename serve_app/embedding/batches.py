"""Decides which texts share a forward pass, and its padded width.

Passes have few distinct shapes, because an engine prepares new kernels for each shape that it has not seen recently.
"""

from __future__ import annotations

from collections.abc import Sequence

COUNTS = (1, 2, *(part << power for power in range(11) for part in (3, 4)))  # texts in a pass: 1, 2, 3, 4, 6, 8, 12 …
LEAST_STEP = 4


def padded_width(tokens: int, most: int) -> int:
    """The smallest multiple of a step that is at least `tokens`, but never more than `most`. The step is a power of two
    between a 16th and an 8th of `tokens`, and at least LEAST_STEP. tokens: must not exceed `most`."""
    step = max(LEAST_STEP, 1 << max(0, tokens.bit_length() - 4))
    return min(most, max(step, -(-tokens // step) * step))


def compose_batches(widths: Sequence[int], max_tokens: int, pass_overhead_tokens: int) -> list[list[int]]:
    """Indices of the texts in each batch, composed at the least total cost. A pass costs pass_overhead_tokens plus its
    padded tokens: number of texts × widest text. The size of every batch is in COUNTS.

    widths: padded tokens of each text by itself. max_tokens: most padded tokens in one pass; a single text that is
    wider gets a pass of its own. Every index appears once. The widest texts come first, so that the first pass claims
    the most memory; equal widths keep their order.

    Sorted by width, some optimal composition consists of runs of neighbours. It is therefore a shortest path over the
    sorted texts, as in line breaking (Knuth and Plass, 1981).
    """
    order = sorted(range(len(widths)), key=lambda i: -widths[i])
    least_cost = [0.0, *[float("inf")] * len(order)]  # [n]: for the first n texts
    last_start = [0] * (len(order) + 1)  # [n]: first text of the last pass over the first n texts
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
    """Limit for one pass that divides the texts among `workers`: ceil(texts / workers) texts, each counted as wide as
    the widest."""
    return -(-len(widths) // workers) * max(widths, default=0)
