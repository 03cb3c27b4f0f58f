from __future__ import annotations

from jobs.ledger import DeadLetter, Ledger, Report, report_of
from jobs.rows import Outcome, Row, failed_row
from serve_app.types import Passage

ROWS = [
    Row(Outcome.INDEX, "a.md", "a", source_bytes=10, passages=(Passage(0, "x"), Passage(1, "y"))),
    Row(Outcome.UNCHANGED, "b.md", "b"),
    failed_row("c.md", "c", "empty", 5),
    Row(Outcome.END, "c.md", source_bytes=2, source_documents=3),
]


def test_each_document_counts_once() -> None:
    report = report_of(ROWS)
    assert report == Report(
        indexed=1, passages=2, unchanged=1, failed=1, source_bytes=17, announced=3,
        dead_letters=(DeadLetter("c.md", "c", "empty"),),
    )  # fmt: skip
    assert report.documents == report.announced == 3


def test_reports_add_up() -> None:
    whole = report_of(ROWS)
    assert report_of(ROWS[:1]) + report_of(ROWS[1:3]) + report_of(ROWS[3:]) + Report() == whole


def test_a_repeated_write_task_counts_once() -> None:
    ledger, report = Ledger(), report_of(ROWS)
    ledger.written(0, report)
    ledger.written(0, report)
    assert ledger.take() == report
    ledger.written(0, report)
    assert ledger.take() == Report()
    ledger.written(1, report)
    assert ledger.take() == report


def test_an_id_is_its_first_sources() -> None:
    ledger = Ledger()
    assert ledger.claim("a", ["1", "2"]) == []
    assert ledger.claim("b", ["2", "3"]) == ["2"]
    assert ledger.claim("a", ["1", "2", "3"]) == ["3"]  # a repeated task keeps what it had
