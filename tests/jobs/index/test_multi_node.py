"""A Ray of several nodes, in a process of its own: this session has its own Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

DOCUMENTS = 400
ROOT = Path(__file__).parents[3]


def test_a_node_that_dies_loses_and_doubles_nothing(model_data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(model_data_dir / "models")
    rows = [{"id": f"d{n}", "text": f"Document {n}. " + "They turn and turn. " * 60} for n in range(DOCUMENTS)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = subprocess.run(
        [sys.executable, "-m", "tests.jobs.index.multi_node_child", str(tmp_path / "rows.jsonl"), "nodes"],
        env={**os.environ, "AIDOCS_DATA_DIR": str(tmp_path)},
        capture_output=True, text=True, timeout=300, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["killed"] and result["nodes"] == 2
    assert (result["indexed"], result["failed"]) == (DOCUMENTS, 0)
    assert result["stored"] == [DOCUMENTS, result["passages"]]
