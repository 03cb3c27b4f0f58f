"""The parallel engine against a plain thread pool and plain Ray tasks, on work of each sort. Every figure is against
that of the two which is better at it: nobody told the engine which that is."""

from __future__ import annotations

import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from graphlib import TopologicalSorter
from typing import Any

import ray

from jobs.parallel.run import run_all
from jobs.parallel.task import Task
from serve_app.local.run import QUIET
from tests.bench.child import Child
from tests.bench.parallel_work import AT_ONCE, LATENCY_S, fetch, fetch_and_parse, graph, parse, parse_line, transform
from tests.bench.rounds import Comparison, Series, interleave

NOT_WORSE, BETTER = 0.95, 1.0
OURS, POOL, RAY_TASKS = "jobs.parallel", "thread pool", "Ray tasks"


@dataclass(frozen=True)
class Workload:
    name: str
    tasks: Sequence[Task]
    target: float
    note: str = ""


def workloads(port: int) -> list[Workload]:
    def many(function: Callable[..., Any], count: int, *first: object) -> list[Task]:
        return [Task(f"{function.__name__} {number}", function, (*first, number)) for number in range(count)]

    computing = [Task(f"parse {number}", parse, (4,)) for number in range(120)]
    mixed = [task for some in zip(computing[:50], *[iter(many(fetch, 200, port))] * 4, strict=True) for task in some]
    waits = f"{LATENCY_S * 1000:g} ms, {AT_ONCE} at once"
    return [
        Workload("CPU", computing, NOT_WORSE, "Markdown parser"),
        Workload("CPU, tiny", many(parse_line, 4_000), NOT_WORSE, "Markdown parser, some 0.2 ms a task"),
        Workload("I/O", many(fetch, 300, port), NOT_WORSE, f"a server of {waits}"),
        Workload("memory", many(transform, 40), NOT_WORSE, "arrays of 48 MiB, 2 MiB come back"),
        Workload("DAG", graph(180), NOT_WORSE, "some 190 steps of 1 to 6 units, a chain beside"),
        Workload("mixed tasks", mixed, BETTER, "one of CPU to four of I/O"),
        Workload("mixed in each task", many(fetch_and_parse, 200, port), BETTER, f"fetch ({waits}) and parse"),
    ]


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
    ways = {OURS: ours, POOL: in_pool, RAY_TASKS: in_ray}
    rates = interleave({name: partial(rate, way, workload.tasks) for name, way in ways.items()}, rounds)
    best, other = sorted((POOL, RAY_TASKS), key=lambda name: -statistics.median(rates[name]))
    series = {name: Series(name, "tasks/s", values) for name, values in rates.items()}
    note = f"{workload.note}; {other} {series[other].median:,.4g}"
    return Comparison(f"parallel, {workload.name}", series[OURS], series[best], workload.target, note)


def rate(way: Callable[[Sequence[Task]], None], tasks: Sequence[Task]) -> float:
    started_s = time.perf_counter()
    way(tasks)
    return len(tasks) / (time.perf_counter() - started_s)


def ours(tasks: Sequence[Task]) -> None:
    for outcome in run_all(tasks).values():
        outcome.result()


def in_pool(tasks: Sequence[Task]) -> None:
    """With as many threads as Python takes."""
    if not any(task.needs for task in tasks):
        with ThreadPoolExecutor() as pool:
            for future in [pool.submit(task.function, *task.args) for task in tasks]:
                future.result()
        return
    values: dict[str, Any] = {}
    by_id = {task.id: task for task in tasks}
    sorter = TopologicalSorter({task.id: task.needs for task in tasks})
    sorter.prepare()
    with ThreadPoolExecutor() as pool:
        running: dict[Future[Any], str] = {}
        while sorter.is_active():
            for id in sorter.get_ready():
                task = by_id[id]
                running[pool.submit(task.function, *task.args, *(values[each] for each in task.needs))] = id
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                id = running.pop(future)
                values[id] = future.result()
                sorter.done(id)


def in_ray(tasks: Sequence[Task]) -> None:
    """All at once; Ray begins each when what it needs is there."""
    remote: dict[Callable[..., Any], Any] = {task.function: ray.remote(task.function) for task in tasks}
    by_id = {task.id: task for task in tasks}
    refs: dict[str, Any] = {}
    for id in TopologicalSorter({task.id: task.needs for task in tasks}).static_order():
        task = by_id[id]
        refs[id] = remote[task.function].remote(*task.args, *(refs[each] for each in task.needs))
    ray.get(list(refs.values()))
