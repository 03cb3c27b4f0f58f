from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from jobs.parallel.calls import Measured, Ran
from jobs.parallel.plan import CALL_S, MOST, THREAD_BATCH_S, Plan, Resources, batch_size, plan
from jobs.parallel.profile import Profile
from jobs.parallel.sampling import Sample
from jobs.parallel.task import Place

GIB = 1024**3
HERE = Resources(thread_cpus=2, worker_cpus=0, memory_bytes=8 * GIB, worker_bytes=0)
CLUSTER = Resources(thread_cpus=2, worker_cpus=2, memory_bytes=8 * GIB, worker_bytes=8 * GIB)
COMPUTES = Profile(wall_s=0.05, cpu_s=0.05)
WAITS = Profile(wall_s=0.02, cpu_s=0.0002)
BOTH = Profile(wall_s=0.03, cpu_s=0.01)  # as fetch and parse
TINY = Profile(wall_s=20e-6, cpu_s=20e-6)

profiles = st.builds(
    Profile,
    wall_s=st.floats(1e-7, 1e4),
    cpu_s=st.floats(0, 1e4),
    gil_ratio=st.floats(0, 1),
    sent_bytes=st.integers(0, 10**10),
    result_bytes=st.integers(0, 10**10),
    peak_bytes=st.integers(0, 10**12),
    portable=st.booleans(),
)
machines = st.builds(
    Resources, st.integers(1, 256), st.floats(0, 10_000), st.integers(1, 10**13), st.integers(0, 10**15)
)


def test_what_holds_the_lock_goes_to_the_workers() -> None:
    found = plan(COMPUTES, CLUSTER, 1_000)
    assert (found.place, found.concurrency, found.adapts) == (Place.WORKERS, 2, False)
    assert plan(COMPUTES, HERE, 1_000).place is Place.THREADS
    assert plan(replace(COMPUTES, portable=False), CLUSTER, 1_000).place is Place.THREADS
    assert plan(COMPUTES, CLUSTER, 2).place is Place.THREADS, "done before workers are ready"


def test_what_releases_the_lock_computes_in_threads() -> None:
    found = plan(replace(COMPUTES, gil_ratio=0.1), CLUSTER, 1_000)
    assert (found.place, found.concurrency, found.adapts) == (Place.THREADS, 2, False)
    big = replace(CLUSTER, worker_cpus=64)
    assert plan(replace(COMPUTES, gil_ratio=0.1), big, 1_000).place is Place.WORKERS, "the cluster has more cores"


def test_what_waits_is_done_in_threads_and_adapts() -> None:
    found = plan(WAITS, CLUSTER, math.inf)
    assert (found.place, found.concurrency, found.most) == (Place.THREADS, 32, 200)


def test_what_waits_and_computes_goes_to_threads_of_workers() -> None:
    found = plan(BOTH, CLUSTER, 1_000)
    assert (found.place, found.processes, found.concurrency) == (Place.WORKERS, 2, 6)


def test_tiny_tasks_share_a_call() -> None:
    found = plan(TINY, CLUSTER, 10**6)
    assert found.place is Place.WORKERS
    assert found.batch_tasks * TINY.wall_s > 10 * CALL_S, "the call itself does not count"
    assert batch_size(found, 100, slots=2) == 25, "at the end all workers have some"


def test_memory_bounds_how_many_run_at_once() -> None:
    heavy = replace(COMPUTES, gil_ratio=0.0, peak_bytes=4 * GIB)
    sixteen = Resources(16, 16, memory_bytes=13 * GIB, worker_bytes=9 * GIB)
    assert plan(heavy, sixteen, 1_000, place=Place.THREADS).most == 3
    assert plan(heavy, sixteen, 1_000, place=Place.WORKERS).most == 2
    assert plan(replace(WAITS, peak_bytes=GIB), sixteen, 1_000, place=Place.THREADS).most == 13


def test_big_results_stay_where_they_are() -> None:
    assert plan(replace(COMPUTES, result_bytes=GIB), CLUSTER, 1_000).place is Place.THREADS


def test_a_change_must_be_worth_it() -> None:
    even = replace(COMPUTES, gil_ratio=0.5)
    assert plan(even, CLUSTER, 1e6, current=Place.WORKERS).place is Place.WORKERS
    assert plan(even, CLUSTER, 1e6, current=Place.THREADS).place is Place.THREADS


@given(profiles, machines, st.floats(1, 1e12) | st.just(math.inf))
def test_any_profile_has_a_plan_that_can_run(profile: Profile, resources: Resources, left: float) -> None:
    found: Plan = plan(profile, resources, left)
    assert 1 <= found.concurrency <= max(found.most, found.processes) and found.batch_tasks >= 1
    assert found.place is Place.THREADS or (profile.portable and resources.worker_cpus >= 1)
    assert found.most <= MOST or found.place is Place.WORKERS or found.most <= resources.thread_cpus
    assert 1 <= batch_size(found, left, slots=found.processes) <= found.batch_tasks


def test_a_profile_follows_what_is_measured() -> None:
    profile = COMPUTES
    for _ in range(20):
        profile = profile.after(Measured((Ran(None, None, 0.1, 0.01),) * 5, peak_bytes=7))
    assert abs(profile.wall_s - 0.1) < 0.001 and abs(profile.cpu_ratio - 0.1) < 0.01
    assert (profile.tasks, profile.peak_bytes) == (101, 7)
    freed = replace(COMPUTES, gil_ratio=0.0)
    assert freed.after_window(rate_per_s=20, threads=2).gil_ratio == 1, "two threads had one core's worth"
    assert freed.after_window(rate_per_s=38, threads=2).gil_ratio == 0


def test_a_sample_grows_until_it_can_tell() -> None:
    sample, sizes = Sample(), []
    while (found := sample.verdict(held_ratio=1.0)) is None:
        sizes.append(sample.next_size())
        sample = sample.after(Measured((Ran(None, None, 1e-4, 1e-4),) * sizes[-1]))
    assert sizes[:3] == [1, 8, 49]
    assert max(sizes) * 1e-4 <= THREAD_BATCH_S
    assert 300 <= sum(sizes) == found.tasks <= 302, "30 ms of them"
    assert found.gil_ratio == 1.0
    assert Sample().verdict(0.0, running_wall_s=0.05, running_cpu_s=0.01) is None, "it may compute later"
    waits = Sample().verdict(0.0, running_wall_s=0.2, running_cpu_s=0.01)
    assert waits is not None and waits.cpu_ratio < 0.1
