"""Measures latency over offered load, from 10 % to 120 % of saturation, and plots it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.contenders import Contenders

SHARES = (0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
STEP_S = 8.0
SATURATING_CLIENTS, SATURATION_ROUNDS = 32, 3
PERCENTILES = ("p50_ms", "p95_ms", "p99_ms")


def measure(them: Contenders) -> dict[str, Any]:
    """Saturation is the throughput of 32 closed-loop clients. `steps` has one row for each fraction of it."""
    closed = [them.search(SATURATING_CLIENTS, STEP_S)["requests_per_s"] for _ in range(SATURATION_ROUNDS)]
    saturation = statistics.median(closed)
    steps = [{"share": share, **them.offer_searches(share * saturation, STEP_S)} for share in SHARES]
    return {"saturation_per_s": saturation, "steps": steps, "note": them.note}


def markdown(measured: dict[str, Any]) -> str:
    lines = [
        f"Latency of hybrid search over offered load (open loop, Poisson arrivals, one run of "
        f"{STEP_S:g} s for each row, {measured['note']}; saturation "
        f"{measured['saturation_per_s']:.0f} requests/s):",
        "",
        "| offered | p50 ms | p95 ms | p99 ms | refused (429) |",
        "|---|---|---|---|---|",
        *(
            f"| {step['share']:.0%} | " + " | ".join(f"{step[name]:.0f}" for name in PERCENTILES)
            + f" | {step['refused'] / step['sent']:.0%} |"
            for step in measured["steps"]
        ),
    ]  # fmt: skip
    return "\n".join(lines)


def plot(measured: dict[str, Any], path: Path) -> None:
    """Writes an SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "ai-docs"  # the same file for the same results
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    steps: Sequence[dict[str, float]] = measured["steps"]
    shares = [100 * step["share"] for step in steps]
    for name in PERCENTILES:
        axes.plot(shares, [step[name] for step in steps], marker="o", label=name.removesuffix("_ms"))
    axes.set(
        xlabel=f"offered load, % of saturation ({measured['saturation_per_s']:.0f} requests/s)",
        ylabel="latency from when it was due, ms",
        yscale="log",
        title=f"Hybrid search, {measured['note']}, open loop",
    )
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
