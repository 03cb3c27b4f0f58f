"""Runs tasks that depend on each other: a directed acyclic graph of steps."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from jobs.parallel.places import CallBatch, InFlight, capacity_for
from jobs.parallel.pool import TaskPool
from jobs.parallel.task import Task, TaskResult, reported
from serve_app.errors import InvalidInput, Unavailable


@dataclass(frozen=True, slots=True)
class GraphStep:
    """One call of a task: `function(*args, *values)`. values: results of the steps in `needs`."""

    id: str
    task: Task
    args: tuple[Any, ...] = ()
    needs: tuple[str, ...] = ()


def run_graph(steps: Sequence[GraphStep], *, keep_going: bool = False) -> Iterator[TaskResult]:
    """Yields the result of each step when it ends. The limit on concurrent calls applies to each Task object, so use
    one Task for all calls of a function.

    keep_going: yield failures as results, skip the steps that depend on them, and run the others. Otherwise a failure
    is raised with the step's id in a note. An exception, closing the iterator or Ctrl-C cancels the remaining steps.

    Raises InvalidInput for unknown or duplicate ids and for cycles.
    """
    by_id = {step.id: step for step in steps}
    if len(by_id) < len(steps):
        twice = next(id for id, count in Counter(step.id for step in steps).items() if count > 1)
        raise InvalidInput(f"two steps have the id {twice}")
    for step in steps:
        if unknown := next((id for id in step.needs if id not in by_id), None):
            raise InvalidInput(f"{step.id} needs {unknown}, but there is no such step")
    sorter = TopologicalSorter({step.id: step.needs for step in steps})
    try:
        sorter.prepare()
    except CycleError as error:
        raise InvalidInput(f"steps need each other in a cycle: {' ← '.join(error.args[1])}") from error
    return GraphRun(by_id, sorter).results(keep_going)


class GraphRun:
    """State of a running graph. sorter: prepared, with the ids of the steps."""

    def __init__(self, steps: Mapping[str, GraphStep], sorter: TopologicalSorter[str]) -> None:
        self._steps, self._sorter = steps, sorter
        self._pools = {task: TaskPool(task, capacity_for(task)) for task in {step.task for step in steps.values()}}
        self._waiting: dict[Task, deque[GraphStep]] = {task: deque() for task in self._pools}
        self._uses = Counter(id for step in steps.values() for id in step.needs)  # how often each value is still needed
        self._values: dict[str, Any] = {}
        self._reasons: dict[str, str] = {}  # failed or skipped step → the failed step that caused it

    def results(self, keep_going: bool) -> Iterator[TaskResult]:
        with InFlight() as running:
            while self._sorter.is_active():
                yield from (skipped := self._queue_ready())
                self._submit_waiting(running)
                if skipped:
                    continue  # other steps may be ready now
                for batch in running.wait():
                    for result in batch.results():
                        self._finish(result)
                        yield reported(batch.pool.task, result, keep_going)

    def _queue_ready(self) -> list[TaskResult]:
        """Queues the steps that are ready. Returns the results of steps that are skipped."""
        skipped = []
        for step in [self._steps[id] for id in self._sorter.get_ready()]:
            reason = next((self._reasons[id] for id in step.needs if id in self._reasons), None)
            if reason is not None:
                self._reasons[step.id] = reason
                self._sorter.done(step.id)
                skipped.append(
                    TaskResult(step.id, error=Unavailable(f"{step.id} did not run, because {reason} failed"))
                )
            else:
                self._waiting[step.task].append(step)
        return skipped

    def _submit_waiting(self, running: InFlight) -> None:
        for task, queue in self._waiting.items():
            pool = self._pools[task]
            while queue and pool.has_room:
                steps = [queue.popleft() for _ in range(min(len(queue), pool.next_calls(len(queue))))]
                calls = [(*step.args, *self._take(step.needs)) for step in steps]
                running.submit(CallBatch(pool, [step.id for step in steps], calls))

    def _take(self, needs: Sequence[str]) -> list[Any]:
        """The values for one step. Drops values that no other step needs."""
        values = [self._values[id] for id in needs]
        self._uses.subtract(needs)
        for id in needs:
            if not self._uses[id]:
                self._values.pop(id, None)
        return values

    def _finish(self, result: TaskResult) -> None:
        if result.error is not None:
            self._reasons[result.item] = result.item
        elif self._uses[result.item]:
            self._values[result.item] = result.value
        self._sorter.done(result.item)
