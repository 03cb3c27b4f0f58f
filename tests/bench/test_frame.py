"""Arithmetic, reports and HTTP clients of the benchmarks. The benchmarks themselves are not tests."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import latency, open_loop, report
from tests.bench.load import run
from tests.bench.open_loop import arrivals
from tests.bench.rounds import Comparison, Series, interleave

COMPARISON = Comparison("engine", Series("ours", "x/s", (2.0, 6.0, 4.0)), Series("them", "x/s", (1.0, 2.0, 4.0)), 1.5)

STEP = {"share": 0.5, "offered_per_s": 50, "sent": 40, "refused": 10, "p50_ms": 5.0, "p95_ms": 9.0, "p99_ms": 12.0}
RESULTS = report.Results(
    {"cpu": "C", "cpus": 2, "flags": [], "memory_gib": 1},
    3,
    [COMPARISON],
    {"saturation_per_s": 100.0, "note": "7 passages", "steps": [STEP]},
)


def test_the_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    assert COMPARISON.ratios == (2.0, 3.0, 1.0)
    assert COMPARISON.ratio == 2.0


def test_interleave_measures_each_as_often_and_leaves_out_the_warm_up() -> None:
    calls: list[str] = []

    def run(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    values = interleave({name: lambda name=name: run(name) for name in "ab"}, rounds=2)
    assert "".join(calls) == "ababba"
    assert values == {"a": (3.0, 6.0), "b": (4.0, 5.0)}


def test_a_page_gets_the_table_between_its_markers_and_nothing_else_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.into_page(RESULTS.markdown(), page)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| 50% | 5 | 9 | 12 | 25% |" in text
    assert "| engine | 4 x/s (2–6) | them: 2 x/s (1–4) | 2.00 (1.00–3.00) | ≥ 1.5 |" in text


def test_a_missed_target_is_marked() -> None:
    assert report.target_of(replace(COMPARISON, target=2.5)) == "≥ 2.5, **missed**"
    assert report.target_of(replace(COMPARISON, target=None)) == "–"


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("mine")
    with pytest.raises(ValueError, match="markers"):
        report.into_page("table", page)
    assert page.read_text() == "mine"


def test_the_committed_tables_are_those_of_the_committed_figures() -> None:
    root = Path(__file__).parents[2]
    results = report.Results.from_json((root / "benchmarks.json").read_text())
    for page, content in (("docs/performance.md", results.markdown()), ("README.md", results.chosen())):
        assert f"{report.BEGIN}\n{content}\n{report.END}" in (root / page).read_text()


def test_results_survive_json() -> None:
    assert report.Results.from_json(RESULTS.to_json()) == RESULTS


def test_less_may_be_better() -> None:
    times = Series("ours", "ms", (2.0,)), Series("theirs", "ms", (8.0,))
    assert Comparison("p50", *times, less_is_better=True).ratio == 4.0


def test_the_plot_is_the_same_for_the_same_figures(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        latency.plot(RESULTS.latency, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@given(rate=st.floats(1, 500), seconds=st.floats(0.1, 20), seed=st.integers(0, 9))
def test_arrivals_are_in_order_and_as_many_as_the_rate_says(rate: float, seconds: float, seed: int) -> None:
    times_s = arrivals(rate, seconds, seed)
    assert times_s == sorted(times_s) and all(0 < at_s < seconds for at_s in times_s)
    expected = rate * seconds
    assert abs(len(times_s) - expected) <= 6 * math.sqrt(expected) + 6


async def test_an_open_loop_counts_the_wait_of_what_was_due() -> None:
    """A server that answers one at a time, 20 ms each, and is offered twice that."""
    turn = asyncio.Lock()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while header := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(header.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                async with turn:
                    await asyncio.sleep(0.02)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
    result = await open_loop.run(url, [b"{}"] * 200, rate=100, seconds=1)
    server.close()
    assert result["sent"] == len(arrivals(100, 1, 0)) and result["refused"] == 0
    assert result["p95_ms"] > 5 * 20, "a closed loop would not have seen it"


async def test_the_client_counts_answers_and_errors() -> None:
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while header := await reader.readuntil(b"\r\n\r\n"):
                length = int(header.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                seen.append(await reader.readexactly(length))
                status = b"500 Bad" if len(seen) == 3 else b"200 OK"
                body = b"content-length: 2\r\n\r\nok" if len(seen) % 2 else b"x: y\r\n\r\n2\r\nok\r\n0\r\n\r\n"
                writer.write(b"HTTP/1.1 " + status + b"\r\n" + body)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bodies = [str(i).encode() for i in range(10)]
    result = await run(f"http://127.0.0.1:{port}/x", bodies, clients=2, seconds=20)
    server.close()
    assert result["requests"] == 10
    assert result["errors"] == 1
    assert sorted(seen) == bodies, "each once, and none for those that are left out"
    assert 0 < result["p50_ms"] <= result["p99_ms"]


async def test_the_client_connects_anew_where_an_answer_says_that_it_was_the_last() -> None:
    connections = 0

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if await reader.read(1):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(answer_once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    result = await run(f"http://127.0.0.1:{port}/x", [b"{}"] * 5, clients=1, seconds=20)
    server.close()
    assert (result["requests"], result["errors"], connections) == (5, 0, 5)
