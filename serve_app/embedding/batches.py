"""Which texts go together into one forward pass."""

from __future__ import annotations

from collections.abc import Sequence


def compose_batches(lengths: Sequence[int], max_tokens: int, pass_overhead_tokens: int) -> list[list[int]]:
    """Indices of texts by batch, at the least cost: each pass costs pass_overhead_tokens and its padded tokens, that
    is number of texts × longest text.

    lengths: tokens of each text. max_tokens: padded tokens of one pass; only a text that is longer by itself exceeds
    it, and goes alone. Every index appears once; longest first, so that the largest memory is claimed by the first
    pass. Equal lengths keep their order.

    Some best composition has neighbours by length only, so it is a shortest path over the sorted texts (as in
    breaking lines: Knuth and Plass, 1981).
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    widths = [max(1, lengths[i]) for i in order]
    least_cost = [0.0, *[float("inf")] * len(order)]  # of the first n texts
    last_start = [0] * (len(order) + 1)  # of the last pass of the first n texts
    for end in range(1, len(order) + 1):
        for start in range(end - 1, -1, -1):
            padded_tokens = (end - start) * widths[start]
            if padded_tokens > max_tokens and end - start > 1:
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


def share_tokens(lengths: Sequence[int], workers: int) -> int:
    """Padded tokens of one pass, of which `workers` have enough to do with all texts: its part of them, by number,
    were they all as long as the longest."""
    return -(-len(lengths) // workers) * max(lengths, default=0)
