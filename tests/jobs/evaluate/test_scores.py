from __future__ import annotations

import io
import json

from rich.console import Console

from jobs.evaluate.beir import Dataset
from jobs.evaluate.ir_metrics import MEASURES
from jobs.evaluate.scores import Scored, compare_all, per_query_rows, result, score
from jobs.evaluate.tables import difference_table, mean_table
from serve_app.types import Document

JUDGED = Dataset(
    "wings",
    tuple(Document(id=f"d{i}", text="lift", title="") for i in range(4)),
    {"q1": "what is <lift>", "q2": "what is drag"},
    {"q1": {"d1": 1}, "q2": {"d2": 1, "d3": 1}},
)


def scored(profile: str, first: list[str], second: list[str]) -> Scored:
    return score(JUDGED, profile, {mode: {"q1": first, "q2": second} for mode in ("dense", "sparse", "hybrid")})


BASELINE = scored("default", ["d0", "d1"], ["d2", "d3"])
CANDIDATE = scored("rrf", ["d1", "d0"], ["d2", "d3"])


def test_alone_the_last_line_is_the_means() -> None:
    row = {"ndcg@10": 0.8155, "recall@100": 1.0, "mrr@10": 0.75}
    assert json.dumps(result(BASELINE, None, {})) == json.dumps({"dense": row, "sparse": row, "hybrid": row})


def test_a_comparison_is_one_more_key() -> None:
    alone = result(BASELINE, None, {})
    both = result(BASELINE, CANDIDATE, compare_all(BASELINE, CANDIDATE))
    assert list(both) == [*alone, "comparison"]
    assert {mode: both[mode] for mode in alone} == alone
    comparison = json.loads(json.dumps(both))["comparison"]
    assert list(comparison) == ["baseline", "candidate", "modes"]
    assert (comparison["baseline"], comparison["candidate"]) == ("default", "rrf")
    assert list(comparison["modes"]) == list(alone)
    assert all(list(row) == list(MEASURES) for row in comparison["modes"].values())
    assert comparison["modes"]["hybrid"]["mrr@10"] == {
        "baseline": 0.75,
        "candidate": 1.0,
        "difference": 0.25,
        "interval_95": [0.0, 0.5],
        "p": 1.0,
        "wins": 1,
        "losses": 0,
        "ties": 1,
    }


def test_rows_say_which_profile_found_what() -> None:
    rows = list(per_query_rows(JUDGED, CANDIDATE))
    assert len(rows) == 3 * len(JUDGED.queries)
    assert rows[0] == {
        "profile": "rrf",
        "mode": "dense",
        "query": "q1",
        "text": "what is <lift>",
        "ndcg@10": 1.0,
        "recall@100": 1.0,
        "mrr@10": 1.0,
        "ranking": ["d1", "d0"],
    }


def printed(table: object, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(table)
    return out.getvalue()


def test_tables_for_people() -> None:
    comparisons = compare_all(BASELINE, CANDIDATE)
    means = printed(mean_table(JUDGED, [BASELINE, CANDIDATE]), 120)
    assert "wings: 4 documents, 2 queries" in means
    assert means.count("default") == means.count("rrf") == 3
    assert "profile" not in printed(mean_table(JUDGED, [BASELINE]), 120)
    differences = printed(difference_table(BASELINE, CANDIDATE, comparisons), 120)
    row = next(line for line in differences.splitlines() if "mrr@10" in line)
    for cell in ("0.7500", "1.0000", "+0.2500", "+0.0000 to +0.5000", "1/0/1"):
        assert cell in row
