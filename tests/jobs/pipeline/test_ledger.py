from __future__ import annotations

from jobs.pipeline.claims import Claim
from jobs.pipeline.ledger import DeadLetter, Ledger, Report, report_of
from jobs.pipeline.rows import PipelineRow, RowOutcome, failed_row
from serve_app.types import Passage

ROWS = [
    PipelineRow(
        RowOutcome.INDEX,
        "a.md",
        "a",
        source_bytes=10,
        replaces=True,
        embedded=1,
        passages=(Passage(0, "x"), Passage(1, "y")),
    ),
    PipelineRow(RowOutcome.UNCHANGED, "b.md", "b"),
    failed_row("c.md", "c", "empty", 5),
    PipelineRow(RowOutcome.END, "c.md", source_bytes=2, source_documents=3),
]


def test_each_document_counts_once() -> None:
    report = report_of(ROWS)
    assert report == Report(
        indexed=1, replaced=1, passages=2, embedded=1, unchanged=1, failed=1, source_bytes=17, announced=3,
        dead_letters=(DeadLetter("c.md", "c", "empty", "c.md"),),
    )  # fmt: skip
    assert report.documents == report.announced == 3


def test_failures_that_name_no_document_are_told_apart() -> None:
    rows = [failed_row("c.jsonl", "", "is no JSON", source="c.jsonl#2"), failed_row("c.jsonl", "7", "empty")]
    report = report_of(rows)
    assert (report.failed, report.unnamed) == (2, 1)
    assert report.dead_letters == (
        DeadLetter("c.jsonl#2", "", "is no JSON", "c.jsonl"),
        DeadLetter("c.jsonl", "7", "empty", "c.jsonl"),
    )


def test_reports_add_up() -> None:
    whole = report_of(ROWS)
    assert report_of(ROWS[:1]) + report_of(ROWS[1:3]) + report_of(ROWS[3:]) + Report() == whole


def test_a_repeated_write_task_counts_once() -> None:
    ledger, report = Ledger(), report_of(ROWS)
    ledger.written("0", report)
    ledger.written("0", report)
    assert ledger.take() == report
    ledger.written("0", report)
    assert ledger.take() == Report()
    ledger.written("1", report)
    assert ledger.take() == report


def test_absent_is_what_no_input_had_not_even_a_broken_one() -> None:
    ledger = Ledger()
    ledger.claim([Claim("1", "a", 0), Claim("2", "a", 0)])
    ledger.written("0", report_of([failed_row("b.md", "b.md", "empty"), failed_row("c.jsonl", "", "is no JSON")]))
    assert ledger.absent(["1", "b.md", "gone", "2", ""]) == ["gone", ""]
