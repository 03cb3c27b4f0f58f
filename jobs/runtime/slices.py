"""What is too much at once, in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def slices(
    items: Iterable[T], max_items: int, max_weight: int = 0, weigh: Callable[[T], int] = lambda item: 0
) -> Iterator[list[T]]:
    """Runs of items, in order, each up to the limits; one item that is over the weight goes alone."""
    some: list[T] = []
    weight = 0
    for item in items:
        more = weigh(item)
        if some and (len(some) >= max_items or weight + more > max_weight):
            yield some
            some, weight = [], 0
        some.append(item)
        weight += more
    if some:
        yield some
