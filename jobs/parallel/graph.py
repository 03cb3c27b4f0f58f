"""Tasks that depend on each other: which may begin, in which order, and what a failure takes with it.

Order: by upward rank, the longest way in cost from a task to the end (critical path first), as in HEFT (Topcuoglu,
Hariri and Wu, IEEE Transactions on Parallel and Distributed Systems, 2002).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import Protocol

from jobs.parallel.task import Task
from serve_app.errors import InvalidInput


class Source(Protocol):
    """What gives the tasks. left: how many are not done; coming: how many of them can be taken without anything being
    done before. Either is inf if that is not known."""

    @property
    def left(self) -> float: ...
    @property
    def coming(self) -> float: ...
    def take(self, most: int) -> list[Task]: ...  # that may begin
    def done(self, id: str) -> None: ...
    def failed(self, id: str) -> list[Task]: ...  # those that will never begin now
    def rank(self, id: str) -> float: ...  # the greatest first


class Stream:
    """Tasks without dependencies, taken from an iterable as they are wanted."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = iter(tasks)
        self.coming = float(len(tasks)) if isinstance(tasks, Sized) else float("inf")
        self._taken = 0  # and not done

    @property
    def left(self) -> float:
        return self._taken + self.coming

    def take(self, most: int) -> list[Task]:
        """Raises InvalidInput for a task with dependencies: in a stream nobody knows what is still to come."""
        taken = list(islice(self._tasks, most))
        self.coming = 0.0 if len(taken) < most else self.coming - len(taken)
        self._taken += len(taken)
        for task in taken:
            if task.follows:
                raise InvalidInput(f"{task.id} follows {task.follows[0]}: tasks with dependencies are given as a list")
        return taken

    def done(self, id: str) -> None:
        self._taken -= 1

    def failed(self, id: str) -> list[Task]:
        self._taken -= 1
        return []

    def rank(self, id: str) -> float:
        return 0.0


class Graph:
    """Tasks by id, all known beforehand."""

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        """Raises InvalidInput for unknown ids and for a circle."""
        self._tasks = tasks
        self._followers: dict[str, list[str]] = {id: [] for id in tasks}
        for task in tasks.values():
            for id in task.follows:
                if id not in tasks:
                    raise InvalidInput(f"{task.id} follows {id}, and there is no such task")
                self._followers[id].append(task.id)
        self._sorter = TopologicalSorter({task.id: task.follows for task in tasks.values()})
        try:
            self._order = list(TopologicalSorter({task.id: task.follows for task in tasks.values()}).static_order())
            self._sorter.prepare()
        except CycleError as error:
            raise InvalidInput(f"tasks follow each other in a circle: {' ← '.join(error.args[1])}") from error
        self._kinds = Counter(task.kind for task in tasks.values())
        self.coming = 0.0
        self._open = set(tasks)
        self._ready: list[str] = []
        self._ranks: dict[str, float] = {}
        self.rank_by(lambda task: 1.0)

    @property
    def left(self) -> float:
        return float(len(self._open))

    @property
    def order(self) -> Sequence[str]:
        """Each after all that it follows."""
        return self._order

    def take(self, most: int) -> list[Task]:
        """Those of the highest rank among all that may begin."""
        self._ready += self._sorter.get_ready()
        self._ready.sort(key=self.rank)
        cut = max(0, len(self._ready) - most)
        taken, self._ready = self._ready[cut:], self._ready[:cut]
        return [self._tasks[id] for id in reversed(taken)]

    def done(self, id: str) -> None:
        self._open.discard(id)
        self._sorter.done(id)

    def failed(self, id: str) -> list[Task]:
        """Its descendants that were not lost before; the rest of the graph goes on."""
        self._open.discard(id)
        lost = [each for each in self._descendants(id) if each in self._open]
        self._open.difference_update(lost)
        return [self._tasks[each] for each in lost]

    def rank(self, id: str) -> float:
        return self._ranks[id]

    def of_kind(self, kind: tuple[object, ...]) -> int:
        """How many tasks are of that kind."""
        return self._kinds[kind]

    def needs(self) -> Counter[str]:
        """How many tasks take each one's value."""
        return Counter(id for task in self._tasks.values() for id in task.needs)

    def rank_by(self, cost_s: Callable[[Task], float]) -> None:
        for id in reversed(self._order):
            longest = max((self._ranks[each] for each in self._followers[id]), default=0.0)
            self._ranks[id] = cost_s(self._tasks[id]) + longest

    def _descendants(self, id: str) -> Iterator[str]:
        waiting, seen = [id], {id}
        while waiting:
            for each in self._followers[waiting.pop()]:
                if each not in seen:
                    seen.add(each)
                    waiting.append(each)
                    yield each
