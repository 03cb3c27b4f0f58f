from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from random import Random

import pytest

from jobs.evaluate.beir import Dataset
from jobs.evaluate.report import LISTED_QUERIES, SHOWN_CHARS, Setup, page, ranks_text
from jobs.evaluate.scores import Scored, compare_all, score
from serve_app.query_types import FusionMethod
from serve_app.settings import SearchProfile, SearchSettings, Settings
from serve_app.types import Document

QUERIES = 40
HOSTILE = '</title><script>alert("1")</script>'
SETTINGS = Settings(search=SearchSettings(profiles={"rrf": SearchProfile(fusion=FusionMethod.RRF, candidates=50)}))
SETUP = Setup(datetime(2026, 3, 1, 9, 30, tzinfo=UTC), "test", SETTINGS, "some-model", "int8", failed_documents=2)
JUDGED = Dataset(
    HOSTILE,
    tuple(Document(id=f"d{i}", text="lift", title="") for i in range(QUERIES)),
    {f"q{i}<": f"question {i} {HOSTILE}" for i in range(QUERIES)},
    {f"q{i}<": {f"d{i}": 1} for i in range(QUERIES)},
)
VOID = {"meta", "link", "br", "img", "input", "hr"}


def scored(profile: str, places: dict[str, int]) -> Scored:
    """places: how many documents come before the relevant one of a query."""
    found = {query: [*(f"x{i}" for i in range(places[query])), *JUDGED.judgements[query]] for query in JUDGED.queries}
    return score(JUDGED, profile, dict.fromkeys(("dense", "sparse", "hybrid"), found))


def places(seed: int, most: int) -> dict[str, int]:
    random = Random(seed)
    return {query: random.randint(0, most) for query in JUDGED.queries}


BASELINE, BETTER = scored("default", places(1, 12)), scored("rrf", places(2, 2))


class Reader(HTMLParser):
    """Elements that are opened and closed in order; what would be loaded or run; ids; text by element."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        values = dict(attrs)
        self.ids += [str(values["id"])] if "id" in values else []
        self.references += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href") or k.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.parametrize("scores", [[BASELINE], [BASELINE, BETTER]], ids=["alone", "compared"])
def test_a_page_is_whole_loads_nothing_and_runs_nothing(scores: list[Scored]) -> None:
    html = page(SETUP, JUDGED, scores, compare_all(*scores) if len(scores) > 1 else {})
    reader = read(html)
    assert "script" not in reader.seen
    assert reader.references == []
    assert not re.search(r"url\(|@import|https?:", html)
    assert len(reader.ids) == len(set(reader.ids)), "an id twice: a drawing would have another's description"
    assert reader.text.count(HOSTILE) > len(JUDGED.queries) / 2, "hostile text is shown as text"
    assert "undefined" not in html.lower()


def test_alone_it_shows_what_was_run_and_the_worst() -> None:
    reader = read(page(SETUP, JUDGED, [BASELINE], {}))
    shown = " ".join(reader.text.split())
    for fact in (
        "40 documents (2 could not be indexed), 40 queries of split test",
        "some-model",
        "int8, openvino engine",
        "256 tokens a passage, overlap 0",
        "default: all defaults",
        "2026-03-01 09:30 UTC",
    ):
        assert fact in shown
    assert f"{BASELINE.means()['hybrid']['ndcg@10']:.4f}" in shown
    assert reader.seen.count("svg") == 3, "a distribution for each mode"
    assert "Won most" not in shown
    worst = sorted(BASELINE.scores["hybrid"].items(), key=lambda item: item[1]["ndcg@10"])
    assert shown.count("question") == 3 * LISTED_QUERIES
    assert all(JUDGED.queries[query] in shown for query, _ in worst[:LISTED_QUERIES])


def test_compared_it_shows_differences_and_who_won_and_lost() -> None:
    comparisons = compare_all(BASELINE, BETTER)
    reader = read(page(SETUP, JUDGED, [BASELINE, BETTER], comparisons))
    shown = " ".join(reader.text.split())
    found = comparisons["hybrid"]["ndcg@10"]
    assert found.p < 0.001
    assert "This is statistically significant: rrf is better." in shown
    assert f"{found.difference:+.4f}" in shown
    assert f"{found.wins}/{found.losses}/{found.ties}" in shown
    assert "rrf: fusion = rrf, candidates = 50" in shown
    assert reader.seen.count("svg") == 3 + 3 + 9, "distributions, gains, an interval for each row"
    gains = {
        query: BETTER.scores["hybrid"][query]["ndcg@10"] - row["ndcg@10"]
        for query, row in BASELINE.scores["hybrid"].items()
    }
    won = shown.split("Won most")[-1].split("Lost most")
    assert JUDGED.queries[max(gains, key=gains.__getitem__)] in won[0]
    assert JUDGED.queries[min(gains, key=gains.__getitem__)] in won[1]


def test_where_nothing_differs_it_says_so() -> None:
    same = scored("rrf", places(1, 12))
    shown = read(page(SETUP, JUDGED, [BASELINE, same], compare_all(BASELINE, same))).text
    assert shown.count("the same for every query".capitalize()) == 3
    assert "It is the same for every query." in shown
    assert shown.count("No queries.") == 2 * 3


def test_a_long_query_is_cut() -> None:
    judged = Dataset("d", JUDGED.documents, dict.fromkeys(JUDGED.queries, "word " * 500), JUDGED.judgements)
    shown = read(page(SETUP, judged, [BASELINE], {})).text
    assert ("word " * 500)[:SHOWN_CHARS] + "…" in shown
    assert ("word " * 500)[: SHOWN_CHARS + 1] not in shown


@pytest.mark.parametrize(
    ("ranking", "text"),
    [
        (["a", "x", "b"], "1, 3 (2 of 8)"),
        (["x"], "none of 8"),
        (list("abcdefgh"), "1, 2, 3, 4, 5, 6… (8 of 8)"),
    ],
)
def test_ranks_of_the_relevant(ranking: list[str], text: str) -> None:
    shown = ranks_text(ranking, {**dict.fromkeys("abcdefgh", 1), "x": 0})
    assert shown.replace("\N{NO-BREAK SPACE}", " ") == text
