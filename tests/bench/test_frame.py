"""The bench's own arithmetic and client; the benchmarks themselves are not tests."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.load import run
from tests.bench.rounds import Comparison, Series, interleave

COMPARISON = Comparison("engine", Series("ours", "x/s", (2.0, 6.0, 4.0)), Series("them", "x/s", (1.0, 2.0, 4.0)), 1.5)


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


def test_the_readme_gets_the_table_between_its_markers_and_nothing_else_changes(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    machine = {"cpu": "C", "cpus": 2, "flags": [], "memory_gib": 1}
    report.into_readme(report.markdown([COMPARISON], machine, 3), readme)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| engine | 4 x/s (2–6) | them: 2 x/s (1–4) | 2.00 (1.00–3.00) | ≥ 1.5 |" in text


def test_a_readme_without_markers_is_left_alone(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("mine")
    with pytest.raises(ValueError, match="markers"):
        report.into_readme("table", readme)


def test_the_committed_table_is_that_of_the_committed_figures() -> None:
    root = Path(__file__).parents[2]
    content = json.loads((root / "benchmarks.json").read_text())
    names = list(Comparison.__dataclass_fields__)
    comparisons = [
        Comparison(
            **{k: v for k, v in c.items() if k in names and k not in {"ours", "reference"}},
            ours=Series(**c["ours"] | {"values": tuple(c["ours"]["values"])}),
            reference=Series(**c["reference"] | {"values": tuple(c["reference"]["values"])}),
        )
        for c in content["comparisons"]
    ]
    assert report.markdown(comparisons, content["machine"], content["rounds"]) in (root / "README.md").read_text()


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
