"""One task for many items."""

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
    """The task's result for each item, in the order in which they end. The items are read no further than they are
    worked off, so they may be a stream.

    at_once: the most batches of calls at once; None for what the task's profile decides. keep_going: return a failure
    as a result; otherwise it is raised with its item in a note. That, closing the iterator or Ctrl-C cancels the rest.
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
