from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from jobs.index.progress import ProgressDisplay, clock, done_ratio, eta_s, percent, summary
from jobs.pipeline.ledger import Report
from jobs.runtime.steps import LINE_PERIOD_S, Steps


def test_summary_leaves_out_what_is_zero() -> None:
    assert summary(Report(), 0) == "0 documents · 0 passages"
    report = Report(indexed=1200, passages=4800, unchanged=3, failed=2)
    assert summary(report, 50) == "1,205 documents · 4,800 passages · 96/s · 3 unchanged · 2 failed"


@pytest.mark.parametrize(("seconds", "text"), [(None, "-:--"), (0.2, "0:00"), (61, "1:01"), (3_725.4, "1:02:05")])
def test_clock(seconds: float | None, text: str) -> None:
    assert clock(seconds) == text


@given(st.floats(0.001, 1), st.floats(0.001, 1e6))
def test_at_a_steady_pace_the_end_stays_where_it_is(ratio: float, total_s: float) -> None:
    left = eta_s(ratio, total_s * ratio)
    assert left is not None
    assert left + total_s * ratio == pytest.approx(total_s)


def test_nothing_known_yet() -> None:
    assert eta_s(0, 10) is None
    assert done_ratio(Report(), 0) == 0


def test_plain_lines_where_there_is_no_terminal() -> None:
    out, now = io.StringIO(), [0.0]
    with ProgressDisplay("Indexing demo", 100, Console(file=out), lambda: now[0]) as display:
        display.show(Report())
        assert out.getvalue() == ""
        for now[0], report in [
            (1, Report()),
            (5, Report(indexed=2, passages=10, source_bytes=25)),
            (5.9, Report(indexed=3, passages=11, source_bytes=26)),
            (61, Report(indexed=3, passages=11, source_bytes=50)),
            (65, Report(indexed=4, passages=12, source_bytes=60)),
        ]:
            display.show(report)
    assert out.getvalue().splitlines() == [
        "Indexing demo: starting, 0:01",
        "Indexing demo: 25% · 2 documents · 10 passages · 2/s · ETA 0:15",
        "Indexing demo: 50% · 3 documents · 11 passages · 0/s · ETA 1:01",
    ]


def test_a_beginning_is_not_nothing() -> None:
    assert (percent(0.001), percent(0.01), percent(1)) == ("<1%", "1%", "100%")


def test_a_bar_on_a_terminal() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with ProgressDisplay("Indexing demo", 100, console) as display:
        display.show(Report(indexed=2, passages=10, source_bytes=50))
    assert "50%" in out.getvalue()
    assert "2 documents" in out.getvalue()


def test_steps_are_lines_where_there_is_no_terminal() -> None:
    out, now = io.StringIO(), [0.0]
    with Steps(Console(file=out), lambda: now[0]) as steps:
        steps.advance("indexing", 64, 2_000)
        assert out.getvalue() == ""
        now[0] = LINE_PERIOD_S
        steps.advance("indexing", 128, 2_000)
        steps.advance("indexing", 192, 2_000)
        steps.advance("searching [a]", 3, 3)
    assert out.getvalue() == "indexing: 128 of 2,000\nsearching [a]: 3 of 3\n"


def test_steps_are_bars_on_a_terminal() -> None:
    out = io.StringIO()
    with Steps(Console(file=out, force_terminal=True, width=120)) as steps:
        steps.advance("searching [a]", 2, 3)
    assert "searching [a]" in out.getvalue()
    assert "2/3" in out.getvalue()
