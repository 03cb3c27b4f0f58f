"""What a thread has had: CPU time, and time in which it was ready to run and all CPUs were taken. A task that did not
run is not one that waited: on a busy machine only the second tells them apart.

Format: `/proc/PID/task/TID/schedstat` in the kernel's Documentation/scheduler/sched-stats.rst: nanoseconds on a CPU,
nanoseconds on a run queue, number of turns.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

OWN = Path("/proc/thread-self/schedstat")
WORTH_READING_S = 0.001  # of work: a reading takes some 10 µs


def read_schedstat(path: Path) -> tuple[float, float] | None:
    """CPU seconds and seconds on a run queue; None where the system does not tell."""
    try:
        cpu_ns, queued_ns, _ = path.read_text().split()
    except (OSError, ValueError):
        return None
    return int(cpu_ns) / 1e9, int(queued_ns) / 1e9


class ThreadClock:
    """Of another thread of this process, from now on. Where the system does not tell (macOS), it seems to compute all
    the time."""

    def __init__(self, thread_id: int) -> None:
        """thread_id: the system's, `threading.get_native_id`."""
        self._path = Path(f"/proc/self/task/{thread_id}/schedstat")
        self._began_s = time.perf_counter()
        self._first = read_schedstat(self._path)

    def read(self) -> tuple[float, float]:
        """Seconds, without those on a run queue, and CPU seconds."""
        wall_s = time.perf_counter() - self._began_s
        now = read_schedstat(self._path)
        if self._first is None or now is None:
            return wall_s, wall_s
        return wall_s - (now[1] - self._first[1]), now[0] - self._first[0]


class CallClock(threading.local):
    """Measures calls of the thread that uses it, one after another."""

    def __init__(self) -> None:
        self._queued_s = (read_schedstat(OWN) or (0.0, 0.0))[1]

    def start(self) -> tuple[float, float]:
        return time.perf_counter(), time.thread_time()

    def stop(self, started: tuple[float, float]) -> tuple[float, float]:
        """Seconds, without those on a run queue, and CPU seconds."""
        wall_s, cpu_s = time.perf_counter() - started[0], time.thread_time() - started[1]
        if wall_s < WORTH_READING_S:
            return wall_s, cpu_s
        queued_s = (read_schedstat(OWN) or (0.0, 0.0))[1]
        waited_s, self._queued_s = queued_s - self._queued_s, queued_s
        return max(cpu_s, wall_s - waited_s), cpu_s
