from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.evaluate import cli
from jobs.ir_metrics import MEASURES, mean_measures

DOCUMENTS, EMPTY_ONES, QUERIES = 1_400, 2, 225
LEAST_NDCG = 0.55  # of hybrid search with the default model, on the whole set


def test_measures_what_is_served_and_hybrid_search_ranks_cranfield_well(
    cranfield: Path, model_data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole set, indexed once: a part of it would be easier."""
    monkeypatch.setenv("AIDOCS_DATA_DIR", str(model_data_dir))
    monkeypatch.setenv("AIDOCS_EMBEDDING__PRECISION", "fp32")
    per_query = tmp_path / "queries.jsonl"
    done = CliRunner().invoke(cli, ["--dataset", str(cranfield), "--json", str(per_query)])
    assert done.exit_code == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert list(last) == ["dense", "sparse", "hybrid"]
    assert all(list(values) == list(MEASURES) for values in last.values())
    assert last["hybrid"]["ndcg@10"] >= LEAST_NDCG, last
    assert all(values["ndcg@10"] < last["hybrid"]["ndcg@10"] for mode, values in last.items() if mode != "hybrid"), last
    assert f"{EMPTY_ONES} documents could not be indexed: 471" in done.stderr
    assert f"indexing: {DOCUMENTS:,} of {DOCUMENTS:,}" in done.stderr

    rows = [json.loads(line) for line in per_query.read_text().splitlines()]
    assert len(rows) == 3 * QUERIES
    hybrid = mean_measures([row for row in rows if row["mode"] == "hybrid"])
    assert {name: round(value, 4) for name, value in hybrid.items()} == last["hybrid"]
    assert all(len(row["ranking"]) == len(set(row["ranking"])) for row in rows), "a document twice"
    assert not (model_data_dir / "store").exists(), "it has a store of its own"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "."], "corpus.jsonl is missing; a BEIR folder holds"),
        (["--dataset", "none"], "none is not a folder"),
        (["--dataset", ".", "--profile", "best"], "no search profile 'best'; there are: default"),
    ],
)
def test_wrong_use_says_what_to_do(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""


def test_a_file_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "text": "lift"}')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "lift"}')
    (tmp_path / "qrels" / "test.tsv").write_text("q\td\t1\n")
    done = CliRunner().invoke(cli, ["--dataset", str(tmp_path), "--json", "/dev/null/rows.jsonl"])
    assert done.exit_code == 2
    assert "/dev/null/rows.jsonl cannot be written: Not a directory" in " ".join(done.stderr.split())
    assert "indexing" not in done.stderr


def test_a_run_that_is_told_to_end_takes_its_store_away(cranfield: Path, model_data_dir: Path, tmp_path: Path) -> None:
    environ = os.environ | {"AIDOCS_DATA_DIR": str(model_data_dir), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "jobs.evaluate", "--dataset", str(cranfield)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        try:
            assert run.stderr is not None
            assert "indexing: " in run.stderr.readline()  # some seconds in
            assert list(tmp_path.glob("ai-docs-evaluate-*"))
            run.terminate()
            assert run.wait(timeout=60) != 0
        finally:
            run.kill()
    assert not list(tmp_path.glob("ai-docs-evaluate-*"))


def test_help_has_examples() -> None:
    done = CliRunner().invoke(cli, ["--help"])
    assert done.exit_code == 0
    assert "python -m jobs.evaluate --dataset" in done.stdout
