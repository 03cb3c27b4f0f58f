"""`python -m serve_app.store.edge.optimize_child FOLDER PARENT_PID`: optimise a shard that nobody else uses.

It runs in its own process, because Edge's `optimize` blocks the whole process until it is done. It works on a copy, at
low priority. On Linux it ends with its parent; elsewhere it finishes the copy, which nobody then uses.
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
        raise SystemExit("the parent process has ended")
    os.nice(NICENESS)
    shard = EdgeShard.load(folder)
    shard.optimize()
    shard.flush()
    shard.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
