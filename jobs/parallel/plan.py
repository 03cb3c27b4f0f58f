"""Where tasks of one kind run and how many at once: each way's rate is estimated from the profile, the best is taken.

The number of tasks at once that keeps the cores busy is cores ÷ CPU ratio (Goetz et al., Java Concurrency in Practice,
2006, 8.2), where a process whose tasks hold Python's global lock counts as one core. Batches shrink towards the end to
a share of what is left, so that all workers end together (guided self-scheduling: Polychronopoulos and Kuck, IEEE
Transactions on Computers, 1987).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from jobs.parallel.profile import LEAST_S, Profile
from jobs.parallel.task import Place

WAITING_CPU_RATIO = 0.8  # below, more tasks than cores pay, and how many is found while running
FIRST_MOST = 32  # tasks at once to begin with, as Python's own thread pools
MOST = 256  # tasks at once in one place
MOST_THREADS = 32  # in one worker
BATCH_S = 0.1  # of work in a worker's batch: some fifty times what the call costs
WAVES = 10  # of a worker's threads in a batch: at its end they wait for the last
THREAD_BATCH_S = 0.005
MOST_BATCH_TASKS = 2_000
MOST_BATCH_BYTES = 16 * 1024**2
WORKERS_START_S = 0.05  # of workers that Ray has ready
CALL_S = 0.002  # a call of a worker, there and back
BYTES_PER_S = 500e6  # pickled, through the object store and back
WORTH = 1.15  # what a change must promise, or workers instead of threads


@dataclass(frozen=True, slots=True)
class Resources:
    """thread_cpus: of this process. worker_cpus, worker_bytes: of the cluster, free or used by this run; 0 where there
    is no Ray. memory_bytes: what tasks in this process may have besides what it has."""

    thread_cpus: int
    worker_cpus: float
    memory_bytes: int
    worker_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """batch_tasks: in one call. concurrency: tasks at once, to begin with and at most. processes: that they are spread
    over, 1 for threads. rate_per_s: what is expected of it."""

    place: Place
    batch_tasks: int
    concurrency: int
    most: int
    processes: int
    rate_per_s: float

    @property
    def adapts(self) -> bool:
        return self.most > self.concurrency

    def __str__(self) -> str:
        way = "adaptive" if self.adapts else "map"
        batch = f", {self.batch_tasks} in a batch" if self.batch_tasks > 1 else ""
        return f"{way} on {self.place}: {self.concurrency} to {self.most} at once{batch}, {self.rate_per_s:.4g}/s"


def plan(
    profile: Profile,
    resources: Resources,
    left: float,
    *,
    place: Place | None = None,
    current: Place | None = None,
    reached: int = FIRST_MOST,
) -> Plan:
    """left: tasks to come, inf if that is not known. place: the only one allowed. current: where they run now. reached:
    how many at once that is; both ways are compared at this number, for what more would bring is not known."""
    by_threads, by_workers = on_threads(profile, resources, reached), on_workers(profile, resources, reached)
    if place is not None:
        return by_threads if place is Place.THREADS else by_workers
    if not profile.portable or resources.worker_cpus < 1:
        return by_threads
    left = min(left, 1e9)
    threads_s, workers_s = left / by_threads.rate_per_s, left / by_workers.rate_per_s
    if current is Place.WORKERS:
        return by_threads if threads_s * WORTH < workers_s else by_workers
    return by_workers if (workers_s + WORKERS_START_S) * WORTH < threads_s else by_threads


def on_threads(profile: Profile, resources: Resources, reached: int) -> Plan:
    cores = min(resources.thread_cpus, 1 / max(profile.gil_ratio, LEAST_S))
    fitting = resources.memory_bytes // profile.peak_bytes if profile.peak_bytes else MOST
    first, most = at_once(cores, profile.cpu_ratio, min(MOST, max(1, fitting)))
    wall_s, cpu_s = max(profile.wall_s, LEAST_S), max(profile.cpu_s, LEAST_S)
    rate_per_s = min(max(cores, min(reached, most)) / wall_s, cores / cpu_s)
    batch_tasks = max(1, min(MOST_BATCH_TASKS, int(THREAD_BATCH_S / wall_s)))
    return Plan(Place.THREADS, batch_tasks, first, most, 1, rate_per_s)


def on_workers(profile: Profile, resources: Resources, reached: int) -> Plan:
    """Each worker has one core's worth of threads: one, or more where tasks wait."""
    fitting = resources.worker_bytes / profile.peak_bytes if profile.peak_bytes else math.inf
    processes = max(1, int(min(resources.worker_cpus, fitting)))
    first, most = at_once(1, profile.cpu_ratio, int(max(1, min(MOST_THREADS, fitting / processes))))
    wall_s, cpu_s = max(profile.wall_s, LEAST_S), max(profile.cpu_s, LEAST_S)
    moved_bytes = profile.sent_bytes + profile.result_bytes
    lasting_s = max(BATCH_S, WAVES * wall_s) if first > 1 else BATCH_S
    by_size = MOST_BATCH_BYTES // moved_bytes if moved_bytes else MOST_BATCH_TASKS
    batch_tasks = max(1, min(MOST_BATCH_TASKS, by_size, int(lasting_s * first / wall_s)))
    tasks_at_once = max(processes, min(reached, most * processes))
    task_s = max(wall_s / tasks_at_once, cpu_s / processes)
    task_s += (CALL_S / batch_tasks + moved_bytes / BYTES_PER_S) / processes
    return Plan(Place.WORKERS, batch_tasks, first * processes, most * processes, processes, 1 / task_s)


def at_once(cores: float, cpu_ratio: float, fitting: int) -> tuple[int, int]:
    """Tasks at once to begin with, and at most."""
    if cpu_ratio >= WAITING_CPU_RATIO:
        first = most = max(1, round(cores))
    else:
        enough = cores / max(cpu_ratio, LEAST_S)
        first, most = math.ceil(min(FIRST_MOST, enough)), math.ceil(min(MOST, 2 * enough))
    return min(first, fitting), min(most, fitting)


def batch_size(plan: Plan, left: float, slots: int) -> int:
    """Tasks of the next batch, when so many are left for so many batches at once."""
    share = left / (2 * slots)
    return plan.batch_tasks if share >= plan.batch_tasks else max(1, math.ceil(share))
