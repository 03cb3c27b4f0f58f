"""Real functions, really measured; only against each other, for the machine may be busy."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

from jobs.parallel.clocks import CallClock, ThreadClock
from jobs.parallel.sampling import GilProbe
from tests.jobs.parallel.work import press, spin, wait


def held_ratio(function: object, argument: object) -> float:
    probe = GilProbe().start()
    ended_s = time.monotonic() + 0.3
    while time.monotonic() < ended_s:
        function(argument)  # type: ignore[operator]
    probe.end()
    return probe.held_ratio


def test_who_holds_the_lock_is_seen() -> None:
    holds = held_ratio(spin, 100_000)
    assert holds > 0.7
    assert held_ratio(press, os.urandom(400_000)) < holds
    assert held_ratio(wait, 0.01) < holds


def test_who_computes_and_who_waits_is_seen_from_outside() -> None:
    """However busy the machine is: what did not get a CPU has not waited."""
    stop = threading.Event()
    threads = [threading.Thread(target=target) for target in (stop.wait, lambda: spin_until(stop))]
    for thread in threads:
        thread.start()
    waits, computes = (ThreadClock(thread.native_id or 0) for thread in threads)
    deadline_s = time.monotonic() + 60
    while computes.read()[1] < 0.3 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    (waits_s, waits_cpu_s), (computes_s, computes_cpu_s) = waits.read(), computes.read()
    stop.set()
    for thread in threads:
        thread.join()
    assert waits_cpu_s / waits_s < 0.2
    assert computes_cpu_s / computes_s > 0.6


def spin_until(stop: threading.Event) -> None:
    while not stop.is_set():
        spin(1_000)


def test_a_call_is_measured_as_on_a_machine_that_is_free() -> None:
    """Four processes' worth of threads compete for the cores here: CPU time and time do not drift apart."""
    pool = [multiprocessing.get_context("spawn").Process(target=spin, args=(10**9,), daemon=True) for _ in range(4)]
    for process in pool:
        process.start()
    try:
        clock = CallClock()
        started = clock.start()
        spin(3_000_000)
        wall_s, cpu_s = clock.stop(started)
    finally:
        for process in pool:
            process.kill()
            process.join()
    assert wall_s < 1.25 * cpu_s
