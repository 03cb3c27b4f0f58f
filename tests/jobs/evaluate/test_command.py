from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from jobs.evaluate.__main__ import cli
from jobs.evaluate.ir_metrics import MEASURES, mean_measures

DOCUMENTS, EMPTY_ONES, QUERIES = 1_400, 2, 225
SMALL_DOCUMENTS, SMALL_QUERIES = 40, 30
PROFILES = ("default", "rrf")
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
    assert {row["profile"] for row in rows} == {"default"}
    hybrid = mean_measures([row for row in rows if row["mode"] == "hybrid"])
    assert {name: round(value, 4) for name, value in hybrid.items()} == last["hybrid"]
    assert all(len(row["ranking"]) == len(set(row["ranking"])) for row in rows), "a document twice"
    assert not (model_data_dir / "store").exists(), "it has a store of its own"


@pytest.fixture
def small_set(tmp_path: Path) -> Path:
    """Words put together by chance, so that dense and sparse search disagree and their fusion matters."""
    random, folder = Random(1), tmp_path / "small"
    words = [
        "wing",
        "lift",
        "hull",
        "boat",
        "piston",
        "engine",
        "leaf",
        "tree",
        "violin",
        "music",
        "oven",
        "bread",
        "river",
        "glass",
        "letter",
        "market",
    ]
    documents = [{"_id": f"d{i}", "text": " ".join(random.choices(words, k=6))} for i in range(SMALL_DOCUMENTS)]
    queries = [{"_id": f"q{i}", "text": " ".join(random.sample(words, k=3))} for i in range(SMALL_QUERIES)]
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    judged = [f"q{i}\td{j}\t1" for i in range(SMALL_QUERIES) for j in random.sample(range(SMALL_DOCUMENTS), k=3)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(judged) + "\n")
    return folder


def test_two_profiles_are_compared_on_one_index(
    small_set: Path, model_data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIDOCS_DATA_DIR", str(model_data_dir))
    monkeypatch.setenv("AIDOCS_EMBEDDING__PRECISION", "fp32")
    monkeypatch.setenv("AIDOCS_SEARCH__PROFILES__RRF", '{"fusion": "rrf"}')
    per_query, report = tmp_path / "queries.jsonl", tmp_path / "report.html"
    options = ["--compare", "rrf", "--json", str(per_query), "--html", str(report)]
    done = CliRunner().invoke(cli, ["--dataset", str(small_set), *options])
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count(f"indexing: {SMALL_DOCUMENTS} of {SMALL_DOCUMENTS}") == 1, "indexed once"
    last = json.loads(done.stdout.splitlines()[-1])
    assert list(last) == ["dense", "sparse", "hybrid", "comparison"]
    comparison = last["comparison"]
    assert (comparison["baseline"], comparison["candidate"]) == ("default", "rrf")
    assert all(row["ties"] == SMALL_QUERIES for row in comparison["modes"]["dense"].values()), "there is no fusion"
    found = comparison["modes"]["hybrid"]["ndcg@10"]
    assert found["wins"] + found["losses"] > 0, "the profile is used"
    assert found["interval_95"][0] <= found["difference"] <= found["interval_95"][1]

    rows = [json.loads(line) for line in per_query.read_text().splitlines()]
    assert len(rows) == 2 * 3 * SMALL_QUERIES
    hybrid = {name: [row for row in rows if (row["profile"], row["mode"]) == (name, "hybrid")] for name in PROFILES}
    means = {name: round(mean_measures(some)["ndcg@10"], 4) for name, some in hybrid.items()}
    assert means == {"default": last["hybrid"]["ndcg@10"], "rrf": found["candidate"]}
    assert found["baseline"] == means["default"]
    assert "rrf compared with default" in report.read_text()
    figures = [f"{found['difference']:+.4f}", f"{found['wins']}/{found['losses']}/{found['ties']}"]
    assert any(all(figure in line for figure in figures) for line in done.stdout.splitlines()), "a row is on one line"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "."], "corpus.jsonl is missing; a BEIR folder holds"),
        (["--dataset", "none"], "none is not a folder"),
        (["--dataset", ".", "--profile", "best"], "no search profile 'best'; there are: default"),
        (["--dataset", ".", "--compare", "best"], "no search profile 'best'; there are: default"),
        (["--dataset", ".", "--compare", "default"], "--compare default: cannot compare a profile with itself"),
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


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_file_that_cannot_be_written_is_told_before_the_work(option: str, small_set: Path) -> None:
    done = CliRunner().invoke(cli, ["--dataset", str(small_set), option, "/dev/null/file"])
    assert done.exit_code == 2
    assert "/dev/null/file cannot be written: Not a directory" in " ".join(done.stderr.split())
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
    assert "--compare rrf" in done.stdout
