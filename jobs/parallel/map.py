"""Runs one task on many items."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import Any

from jobs.parallel.places import CallBatch, InFlight, capacity_for
from jobs.parallel.pool import TaskPool
from jobs.parallel.task import Task, TaskResult, reported


def map_items(
    task: Task, items: Iterable[Any], *, at_once: int | None = None, keep_going: bool = False
) -> Iterator[TaskResult]:
    """Yields the result for each item when it ends. Items are read only as they are processed, so they can be a stream.

    at_once: most concurrent batches of calls; None lets the task's profile decide. keep_going: yield failures as
    results. Otherwise a failure is raised with its item in a note. An exception, closing the iterator or Ctrl-C cancels
    the remaining calls.
    """
    pool = TaskPool(task, capacity_for(task), at_once)
    left = float(len(items)) if isinstance(items, Sized) else math.inf
    source = iter(items)
    with InFlight() as running:
        while True:
            while pool.has_room and (some := list(islice(source, pool.next_calls(left)))):
                left -= len(some)
                running.submit(CallBatch(pool, some, [(item,) for item in some]))
            if not running:
                return
            for batch in running.wait():
                for result in batch.results():
                    yield reported(task, result, keep_going)
