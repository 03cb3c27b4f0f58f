"""`run_graph` in threads and on a real Ray."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from jobs.parallel.graph import GraphStep, run_graph
from jobs.parallel.task import Task, TaskProfile, TaskResult
from serve_app.errors import InvalidInput, Unavailable
from tests.jobs.parallel import work

IO, CPU, MEMORY = TaskProfile.IO, TaskProfile.CPU, TaskProfile.MEMORY
ADD = {profile: Task(work.add, profile) for profile in TaskProfile}


def by_id(steps: list[GraphStep], keep_going: bool = False) -> dict[str, TaskResult]:
    return {result.item: result for result in run_graph(steps, keep_going=keep_going)}


@st.composite
def graphs(draw: st.DrawFn) -> list[GraphStep]:
    """Any graph: each step needs some of those before it; given in any order."""
    steps = []
    for number in range(draw(st.integers(1, 14))):
        needs = draw(st.lists(st.integers(0, number - 1), unique=True)) if number else []
        steps.append(GraphStep(str(number), ADD[IO], (1,), tuple(map(str, needs))))
    return draw(st.permutations(steps))


@given(graphs())
def test_values_flow_in_any_graph(steps: list[GraphStep]) -> None:
    expected: dict[str, int] = {}
    for step in sorted(steps, key=lambda step: int(step.id)):
        expected[step.id] = 1 + sum(expected[id] for id in step.needs)
    found = by_id(steps)
    assert {id: result.get() for id, result in found.items()} == expected
    order = list(found)
    assert all(order.index(need) < order.index(step.id) for step in steps for need in step.needs)


@given(graphs(), st.sets(st.integers(0, 13)))
def test_a_failure_skips_what_needs_it_and_nothing_else(steps: list[GraphStep], failing: set[int]) -> None:
    fail = Task(work.fail, IO)
    tasks = {step.id: fail if int(step.id) in failing else step.task for step in steps}
    found = by_id([GraphStep(step.id, tasks[step.id], step.args, step.needs) for step in steps], keep_going=True)
    assert len(found) == len(steps)
    broken: set[str] = set()
    for step in sorted(steps, key=lambda step: int(step.id)):
        error = found[step.id].error
        if broken.intersection(step.needs):
            assert isinstance(error, Unavailable) and f"{step.id} did not run, because" in str(error)
        else:
            assert isinstance(error, ValueError) if int(step.id) in failing else error is None
        broken |= {step.id} if error else set()


@pytest.mark.parametrize("last", [IO, CPU])
def test_values_flow_between_threads_and_workers(ray_cluster: str, last: TaskProfile) -> None:
    found = by_id(
        [
            GraphStep("sum", ADD[last], (1_000,), needs=("io", "cpu", "memory", "cpu")),
            GraphStep("io", ADD[IO], (1,)),
            GraphStep("cpu", ADD[CPU], (10,), needs=("io",)),
            GraphStep("memory", ADD[MEMORY], (100,), needs=("cpu", "io")),
        ]
    )
    assert {id: result.get() for id, result in found.items()} == {"io": 1, "cpu": 11, "memory": 112, "sum": 1_135}


def test_arguments_keep_their_order(ray_cluster: str) -> None:
    join = {profile: Task(partial(joined, "first"), profile) for profile in (IO, CPU)}
    steps = [GraphStep("b", join[IO], ("b",)), GraphStep("a", join[CPU], ("a",))]
    found = by_id([*steps, GraphStep("all", join[CPU], ("x",), ("a", "b"))])
    assert found["all"].value == "first x first a first b"


def joined(*words: str) -> str:
    return " ".join(words)


def test_large_values_are_passed_on(ray_cluster: str) -> None:
    steps = [GraphStep("ones", Task(ones, MEMORY), (1_000_000,)), GraphStep("sum", Task(total, CPU), needs=("ones",))]
    assert by_id(steps)["sum"].value == 1_000_000


def ones(count: int) -> NDArray[np.float64]:
    return np.ones(count)


def total(values: NDArray[np.float64]) -> float:
    return float(values.sum())


@pytest.mark.parametrize("profile", [IO, CPU])
def test_a_failure_is_raised_with_its_step(ray_cluster: str, profile: TaskProfile) -> None:
    steps = [GraphStep("a", ADD[profile], (1,)), GraphStep("b", Task(work.fail, profile), needs=("a",))]
    with pytest.raises(ValueError, match="on purpose") as raised:
        by_id([*steps, GraphStep("c", ADD[profile], needs=("b",))])
    assert raised.value.__notes__[-1] == "fail failed for 'b'"


def test_a_worker_that_dies_gets_what_it_needs_again(ray_cluster: str, tmp_path: Path) -> None:
    steps = [GraphStep("one", ADD[CPU], (1,)), GraphStep("two", Task(die_first_and_add, CPU), (tmp_path,), ("one",))]
    assert by_id(steps)["two"].value == 2


def die_first_and_add(folder: Path, number: int) -> int:
    return int(bool(work.die_first((folder, "step", 1)))) + number


def test_a_value_is_let_go_when_no_step_needs_it_any_more() -> None:
    make, use = Task(Value, IO), Task(use_value, IO)
    steps = [GraphStep("0", make), *(GraphStep(str(n), use, needs=(str(n - 1),)) for n in range(1, 4))]
    alive: list[weakref.ref[Value]] = []
    for result in run_graph(steps):
        alive.append(weakref.ref(result.value))
        del result
        gc.collect()
        assert sum(ref() is not None for ref in alive[:-2]) == 0, "only the last value and the one it came from"


class Value:
    pass


def use_value(_: Value) -> Value:
    return Value()


def test_what_cannot_be_run_is_refused_before_anything_runs() -> None:
    with pytest.raises(InvalidInput, match="two steps have the id a"):
        run_graph([GraphStep("a", ADD[IO]), GraphStep("a", ADD[IO])])
    with pytest.raises(InvalidInput, match="a needs b, but there is no such step"):
        run_graph([GraphStep("a", ADD[IO], needs=("b",))])
    with pytest.raises(InvalidInput, match=r"in a cycle: (a ← b ← a|b ← a ← b)"):
        run_graph([GraphStep("a", ADD[IO], needs=("b",)), GraphStep("b", ADD[IO], needs=("a",))])
    assert list(run_graph([])) == []
