"""Tasks in, outcomes out: what callers see of the parallel engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from jobs.parallel.checkpoint import Checkpoint, keys_of
from jobs.parallel.graph import Graph, Stream
from jobs.parallel.loop import Run
from jobs.parallel.task import Outcome, Task
from serve_app.errors import InvalidInput


def run(
    tasks: Iterable[Task], *, checkpoint: Checkpoint | None = None, memory_bytes: int | None = None
) -> Iterator[Outcome]:
    """The outcome of every task, in the order in which they end. A failure is an outcome, and takes with it only what
    depends on the task.

    tasks: a list, in which they may depend on each other, or an iterator, of which no more is taken than is about to
    run. What runs is planned by what the first of each kind were measured to take: in threads of this process or, if
    Ray is connected, in its workers; a fixed number at once, or one that is found while they run. Not to read on is
    backpressure; to close the iterator, or an exception such as Ctrl-C, cancels what runs.

    checkpoint: finished tasks of a list are kept in it, and passed over if they are. memory_bytes: what tasks in this
    process may take together; None for half of what is free.

    Raises InvalidInput for ids that are unknown or not unique, and for circles; Unavailable if the checkpoint cannot be
    written.
    """
    if isinstance(tasks, Sequence):
        by_id = {task.id: task for task in tasks}
        if len(by_id) < len(tasks):
            twice = next(id for id, count in Counter(task.id for task in tasks).items() if count > 1)
            raise InvalidInput(f"two tasks have the id {twice}")
        if checkpoint or any(task.follows for task in tasks):
            graph = Graph(by_id)
            keys = keys_of(by_id, graph.order) if checkpoint else {}
            return Run(graph, graph, checkpoint, keys, memory_bytes).outcomes()
    elif checkpoint:
        raise InvalidInput("a checkpoint needs a list of tasks, not a stream")
    return Run(Stream(tasks), None, None, {}, memory_bytes).outcomes()


def run_all(
    tasks: Sequence[Task], *, checkpoint: Checkpoint | None = None, memory_bytes: int | None = None
) -> dict[str, Outcome]:
    """As `run`; by id, in the order of the tasks."""
    found = {outcome.id: outcome for outcome in run(tasks, checkpoint=checkpoint, memory_bytes=memory_bytes)}
    return {task.id: found[task.id] for task in tasks}
