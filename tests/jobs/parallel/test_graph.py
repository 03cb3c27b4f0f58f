from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.parallel.graph import Graph, Stream
from jobs.parallel.task import Task
from serve_app.errors import InvalidInput
from tests.jobs.parallel.work import add


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Task]:
    """Any graph: each task follows some of those before it; given in any order."""
    count = draw(st.integers(1, 14))
    tasks = []
    for number in range(count):
        before = draw(st.lists(st.integers(0, number - 1), unique=True)) if number else []
        cost_s = draw(st.floats(0.1, 9))
        tasks.append(Task(str(number), add, after=tuple(map(str, before)), cost_s=cost_s))
    return {task.id: task for task in draw(st.permutations(tasks))}


def walk(graph: Graph, fails: set[str], seed: int) -> tuple[list[str], dict[str, str]]:
    """Ends what may begin in any order. The ids that were begun, and of each that was lost the one that failed."""
    chance, waiting, begun, lost = random.Random(seed), [], [], {}
    while waiting := [*waiting, *(task.id for task in graph.take(100))]:
        id = waiting.pop(chance.randrange(len(waiting)))
        begun.append(id)
        if id in fails:
            lost |= dict.fromkeys([task.id for task in graph.failed(id)], id)
        else:
            graph.done(id)
    return begun, lost


@given(graphs(), st.sets(st.integers(0, 13)), st.integers())
def test_failures_take_their_descendants_and_nothing_else(tasks: dict[str, Task], failing: set[int], seed: int) -> None:
    graph, fails = Graph(tasks), {str(number) for number in failing}
    begun, lost = walk(graph, fails, seed)
    doomed: set[str] = set()
    for number in range(len(tasks)):
        follows = tasks[str(number)].after
        doomed |= {str(number)} if any(id in doomed or id in fails for id in follows) else set()
    assert sorted(begun) == sorted(tasks.keys() - doomed), "each once"
    assert lost.keys() == doomed
    assert all(begun.index(before) < begun.index(id) for id in begun for before in tasks[id].after)
    assert graph.left == len(set(begun) & fails & set()) == 0


@given(graphs())
def test_the_longest_way_goes_first(tasks: dict[str, Task]) -> None:
    graph = Graph(tasks)
    graph.rank_by(lambda task: task.cost_s or 0)
    for task in tasks.values():
        followers = [graph.rank(each.id) for each in tasks.values() if task.id in each.after]
        assert graph.rank(task.id) == pytest.approx((task.cost_s or 0) + max(followers, default=0))
    first = graph.take(2)
    ready = [graph.rank(task.id) for task in (*first, *graph.take(100))]
    assert ready[: len(first)] == sorted(ready, reverse=True)[: len(first)]


def test_what_cannot_be_ordered_is_told() -> None:
    with pytest.raises(InvalidInput, match="b follows c, and there is no such task"):
        Graph({"a": Task("a", add), "b": Task("b", add, needs=("a", "c"))})
    with pytest.raises(InvalidInput, match=r"in a circle: (a ← b ← a|b ← a ← b)"):
        Graph({"a": Task("a", add, after=("b",)), "b": Task("b", add, after=("a",))})
    with pytest.raises(InvalidInput, match="given as a list"):
        Stream(iter([Task("a", add, after=("b",))])).take(1)


def test_a_stream_knows_what_is_left_when_it_can() -> None:
    known, unknown = Stream([Task(str(n), add) for n in range(5)]), Stream(Task(str(n), add) for n in range(5))
    assert (known.left, unknown.left) == (5, float("inf"))
    for stream in (known, unknown):
        assert [task.id for task in stream.take(3)] == ["0", "1", "2"]
        stream.done("0")
        assert stream.failed("1") == []
        assert len(stream.take(3)) == 2
        assert (stream.left, stream.coming) == (3, 0)
