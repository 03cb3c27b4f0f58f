"""`python -m serve_app.store.edge.optimize_child FOLDER PARENT_PID`: index a shard that nobody else uses.

A process of its own, because Edge's `optimize` keeps the whole process waiting until it is done. It works on a copy,
at low priority, and ends with its parent (Linux; elsewhere it finishes the copy, which then counts for nothing).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from qdrant_edge import EdgeShard

PR_SET_PDEATHSIG = 1
NICENESS = 5  # searches go first


def main(folder: str, parent_pid: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise SystemExit("the parent has gone")
    os.nice(NICENESS)
    shard = EdgeShard.load(folder)
    shard.optimize()
    shard.flush()
    shard.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
