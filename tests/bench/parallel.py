"""Compares the parallel engine with a plain thread pool and plain Ray tasks, on workloads of each profile.

Each row shows the faster of the two references for its workload. The engine knows only the declared profile of a task.
"""

from __future__ import annotations

import logging
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from graphlib import TopologicalSorter
from typing import Any

import ray

from jobs.parallel.graph import GraphStep, run_graph
from jobs.parallel.map import map_items
from jobs.parallel.task import Task, TaskProfile
from serve_app.deployments.environment import QUIET
from tests.bench.child import Child
from tests.bench.parallel_work import (
    AT_ONCE,
    LATENCY_S,
    fetch,
    fetch_and_parse,
    graph,
    parse,
    parse_fetched,
    parse_line,
    transform,
)
from tests.bench.rounds import Comparison, Series, interleave

NOT_WORSE, BETTER = 0.95, 1.0
OURS, POOL, RAY_TASKS = "jobs.parallel", "thread pool", "Ray tasks"


@dataclass(frozen=True)
class Workload:
    """steps: run by the references, and by the engine unless `ours` declares the same work as different steps."""

    name: str
    steps: Sequence[GraphStep]
    target: float
    note: str
    ours: Sequence[GraphStep] = ()


def workloads(port: int) -> list[Workload]:
    requests = [(port, number) for number in range(300)]
    computing = steps_of(parse, TaskProfile.CPU, [4] * 120)
    fetching = steps_of(fetch, TaskProfile.IO, requests)
    mixed = [step for some in zip(computing[:50], *[iter(fetching[:200])] * 4, strict=True) for step in some]
    in_each = steps_of(fetch_and_parse, TaskProfile.IO, requests[:200])
    parsing = Task(parse_fetched, TaskProfile.CPU)
    parsed = [GraphStep(f"parse {step.id}", parsing, needs=(step.id,)) for step in fetching[:200]]
    waits = f"{LATENCY_S * 1000:g} ms, {AT_ONCE} at once"
    tiny = steps_of(parse_line, TaskProfile.CPU, range(4_000))
    arrays = steps_of(transform, TaskProfile.MEMORY, range(40))
    return [
        Workload("CPU", computing, NOT_WORSE, "Markdown parser"),
        Workload("CPU, tiny", tiny, NOT_WORSE, "Markdown parser, some 0.2 ms a task"),
        Workload("I/O", fetching, NOT_WORSE, f"a server of {waits}"),
        Workload("memory", arrays, NOT_WORSE, "arrays of 48 MiB, 2 MiB come back"),
        Workload("DAG", graph(180), NOT_WORSE, "some 190 steps of 1 to 6 units, a chain beside"),
        Workload("mixed tasks", mixed, BETTER, "one of CPU to four of I/O"),
        Workload("mixed in each task", in_each, BETTER, f"fetch ({waits}), then parse", [*fetching[:200], *parsed]),
    ]


def steps_of(function: Callable[[Any], Any], profile: TaskProfile, items: Iterable[Any]) -> list[GraphStep]:
    task = Task(function, profile)
    return [GraphStep(f"{task.name} {number}", task, (item,)) for number, item in enumerate(items)]


def compare(rounds: int) -> Iterator[Comparison]:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with Child("tests.bench.parallel_work") as server:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        try:
            for workload in workloads(server.ask("port")):
                yield compare_workload(workload, rounds)
        finally:
            ray.shutdown()


def compare_workload(workload: Workload, rounds: int) -> Comparison:
    runners = {OURS: ours, POOL: in_pool, RAY_TASKS: in_ray}
    steps = dict.fromkeys(runners, workload.steps) | {OURS: workload.ours or workload.steps}
    count = len(workload.steps)
    rates = interleave({name: partial(rate, run, steps[name], count) for name, run in runners.items()}, rounds)
    best, other = sorted((POOL, RAY_TASKS), key=lambda name: -statistics.median(rates[name]))
    series = {name: Series(name, "tasks/s", values) for name, values in rates.items()}
    note = f"{workload.note}; {other} {series[other].median:,.4g}"
    return Comparison(f"parallel, {workload.name}", series[OURS], series[best], workload.target, note)


def rate(run: Callable[[Sequence[GraphStep]], None], steps: Sequence[GraphStep], count: int) -> float:
    started_s = time.perf_counter()
    run(steps)
    return count / (time.perf_counter() - started_s)


def ours(steps: Sequence[GraphStep]) -> None:
    """Runs a map if all steps are calls of one task with one item each, else a graph."""
    tasks = {step.task for step in steps}
    if len(tasks) == 1 and not any(step.needs for step in steps):
        results = map_items(tasks.pop(), [step.args[0] for step in steps])
    else:
        results = run_graph(steps)
    assert sum(1 for _ in results) == len(steps)


def in_pool(steps: Sequence[GraphStep]) -> None:
    """Runs the steps in a ThreadPoolExecutor of default size."""
    if not any(step.needs for step in steps):
        with ThreadPoolExecutor() as pool:
            for future in [pool.submit(step.task.function, *step.args) for step in steps]:
                future.result()
        return
    values: dict[str, Any] = {}
    by_id = {step.id: step for step in steps}
    sorter = TopologicalSorter({step.id: step.needs for step in steps})
    sorter.prepare()
    with ThreadPoolExecutor() as pool:
        running: dict[Future[Any], str] = {}
        while sorter.is_active():
            for id in sorter.get_ready():
                step = by_id[id]
                running[pool.submit(step.task.function, *step.args, *(values[each] for each in step.needs))] = id
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                id = running.pop(future)
                values[id] = future.result()
                sorter.done(id)


def in_ray(steps: Sequence[GraphStep]) -> None:
    """Submits all steps at once; Ray starts each when its inputs are ready."""
    remote: dict[Callable[..., Any], Any] = {step.task.function: ray.remote(step.task.function) for step in steps}
    by_id = {step.id: step for step in steps}
    refs: dict[str, Any] = {}
    for id in TopologicalSorter({step.id: step.needs for step in steps}).static_order():
        step = by_id[id]
        refs[id] = remote[step.task.function].remote(*step.args, *(refs[each] for each in step.needs))
    ray.get(list(refs.values()))
