"""Checks that the memory of `jobs.index` does not grow with the number of indexed documents.

Draws a plot and prints, for each kind of process, the memory in the last tenth of the run divided by the memory in the
second tenth.

The documents are sentences of about twelve words from the docstrings of installed packages, one passage each (see
corpus.sentences). This is real text for the configured model but shorter than most passages, so that 500,000 take half
an hour on two cores instead of more than an hour. A run keeps the most state when each document has a single passage.
The store is reported separately: its index grows, a large part of it is mapped files, and its optimiser comes and goes.

Examples:  python -m tests.bench.index_memory  ·  python -m tests.bench.index_memory --source corpus.jsonl --plot c.svg
·  python -m tests.bench.index_memory --passages 20000 --plot small.svg --samples small.json

The last line of stdout is JSON. Exit code: 0 flat, 1 something grows. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import orjson
import psutil
import typer

from serve_app.settings import Settings, load_settings
from tests.bench.corpus import sentences
from tests.bench.process_memory import Role, sampled

PLOT = Path(__file__).parents[2] / "docs" / "images" / "index_memory.svg"
PERIOD_S = 1.0
TIMEOUT_S = 4 * 3_600.0
FILE_DOCUMENTS = 10_000
MAX_RATIO = 1.1
UNBOUND = {Role.STORE, Role.STORE_FILES, Role.OPTIMIZER}  # grow with the stored data
REPORTED = re.compile(r"([\d,]+) passages")
MIB = 2**20

cli = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True)
class Sample:
    """passages: indexed by then, interpolated between the progress lines of the run. sizes_mib: by role."""

    passages: float
    sizes_mib: dict[Role, float]


@dataclass(frozen=True)
class Tenths:
    """Medians of one role, in MiB. ratio: last tenth divided by second tenth."""

    second_mib: float
    last_mib: float
    most_mib: float
    ratio: float


@dataclass
class Run:
    """A running `jobs.index`, and its progress."""

    process: subprocess.Popen[str]
    reports: list[tuple[float, int]] = field(default_factory=list)  # monotonic time in seconds, and passages

    def follow(self, lines: IO[str]) -> None:
        for line in lines:
            print(line, end="", file=sys.stderr, flush=True)
            if found := REPORTED.search(line):
                self.reports.append((time.monotonic(), int(found[1].replace(",", ""))))


def measure(settings: Settings, source: str, data_dir: Path) -> tuple[list[Sample], dict[str, Any]]:
    """Runs `jobs.index`. Returns samples of its memory, and its result."""
    (data_dir / "models").symlink_to(settings.data_dir / "models")
    command = [sys.executable, "-m", "jobs.index", "--source", source, "--collection", "bench", "--address", "local"]
    environ = os.environ | {"AIDOCS_DATA_DIR": str(data_dir)}
    taken: list[tuple[float, dict[Role, int]]] = []
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        run = Run(process)
        follower = threading.Thread(target=run.follow, args=(process.stderr,))
        follower.start()
        try:
            driver, end_s = psutil.Process(process.pid), time.monotonic() + TIMEOUT_S
            while process.poll() is None:
                if time.monotonic() > end_s:
                    raise TimeoutError(f"jobs.index did not end within {TIMEOUT_S:,.0f} s")
                taken.append((time.monotonic(), sampled(driver)))
                time.sleep(PERIOD_S)
        finally:
            process.terminate()  # if it still runs
            follower.join()
        said = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"jobs.index failed with exit code {process.returncode}")
    return whole(taken, run.reports), json.loads(said.splitlines()[-1])


def whole(taken: Sequence[tuple[float, dict[Role, int]]], reports: Sequence[tuple[float, int]]) -> list[Sample]:
    """The samples while documents are written, without the start and the end of the run. Reading ends earlier."""
    times_s, passages = zip(*reports, strict=True)
    return [
        Sample(float(np.interp(at_s, times_s, passages)), {role: size / MIB for role, size in sizes.items()})
        for at_s, sizes in taken
        if {Role.WRITING, Role.STORE} <= sizes.keys()
    ]


def compare(samples: Sequence[Sample]) -> dict[Role, Tenths]:
    """Ignores the first tenth, in which processes start and caches and the object store fill."""
    found = {}
    for role in Role:
        of_role = [(each.passages, each.sizes_mib[role]) for each in samples if role in each.sizes_mib]
        total = max((passages for passages, _ in of_role), default=0)  # when the last process of the role ended
        second = [size for passages, size in of_role if 0.1 * total <= passages < 0.2 * total]
        last = [size for passages, size in of_role if passages >= 0.9 * total]
        if second and last:
            first_mib, last_mib = statistics.median(second), statistics.median(last)
            found[role] = Tenths(first_mib, last_mib, max(size for _, size in of_role), last_mib / first_mib)
    return found


def is_flat(tenths: dict[Role, Tenths]) -> bool:
    judged = set(Role) - UNBOUND
    return judged <= tenths.keys() and all(tenths[role].ratio <= MAX_RATIO for role in judged)


def table(tenths: dict[Role, Tenths]) -> str:
    lines = ["| PSS, MiB | second tenth | last tenth | most | ratio |", "|---|---|---|---|---|"]
    for role, each in tenths.items():
        ratio = f"{each.ratio:.2f}" + ("" if role in UNBOUND or each.ratio <= MAX_RATIO else " (grows)")
        lines.append(f"| {role} | {each.second_mib:.0f} | {each.last_mib:.0f} | {each.most_mib:.0f} | {ratio} |")
    return "\n".join(lines)


def points(samples: Sequence[Sample], role: Role, parts: int = 100) -> tuple[list[float], list[float]]:
    """x: passages, y: MiB. Medians of `parts` equal parts of the run, without parts that have no sample of the role."""
    total = max(sample.passages for sample in samples)
    of_part: dict[int, list[tuple[float, float]]] = {}
    for sample in samples:
        if role in sample.sizes_mib:
            part = min(parts - 1, int(parts * sample.passages / total))
            of_part.setdefault(part, []).append((sample.passages, sample.sizes_mib[role]))
    medians = [tuple(map(statistics.median, zip(*some, strict=True))) for _, some in sorted(of_part.items())]
    return [x for x, _ in medians], [y for _, y in medians]


def plot(samples: Sequence[Sample], title: str, path: Path) -> None:
    """Writes an SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "ai-docs"  # the same file for the same samples
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for role in Role:
        axes.plot(*points(samples, role), label=role.value, linestyle="--" if role in UNBOUND else "-")
    axes.set(xlabel="passages indexed", ylabel="proportional memory (PSS), MiB", title=title)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    figure.legend(fontsize="small", ncols=4, loc="outside lower center")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def write(documents: Iterator[bytes], folder: Path) -> None:
    """Writes several files of JSON lines, like a source with daily exports."""
    folder.mkdir()
    for number in range(1_000_000):
        if not (lines := list(islice(documents, FILE_DOCUMENTS))):
            return
        (folder / f"{number:04}.jsonl").write_bytes(b"\n".join(lines))


@cli.command(help=__doc__)
def main(
    passages: Annotated[int, typer.Option(min=10_000, help="Number of sentences to index.")] = 500_000,
    source: Annotated[str | None, typer.Option(help="Source for jobs.index instead of sentences.")] = None,
    plot_to: Annotated[Path, typer.Option("--plot", help="File for the plot, SVG.")] = PLOT,
    samples_to: Annotated[Path | None, typer.Option("--samples", help="File for all samples, JSON.")] = None,
) -> None:
    settings = load_settings()
    with tempfile.TemporaryDirectory(prefix="ai-docs-bench-") as name:
        documents, data_dir = Path(name, "documents"), Path(name, "data")
        data_dir.mkdir()
        if source is None:
            write(map(orjson.dumps, islice(sentences(), passages)), documents)
        samples, run = measure(settings, source or str(documents), data_dir)
    if samples_to:
        samples_to.write_text(json.dumps([asdict(each) for each in samples]))
    tenths = compare(samples)
    plot(samples, f"Memory of jobs.index, {run['passages']:,} passages of {source or 'one sentence'}", plot_to)
    print(table(tenths))
    roles = {
        role.value: {name: round(value, 3) for name, value in asdict(each).items()} for role, each in tenths.items()
    }
    flat = is_flat(tenths)
    result = {"passages": run["passages"], "failed": run["failed"], "seconds": run["seconds"], "flat": flat}
    print(json.dumps(result | {"roles": roles}), flush=True)
    raise typer.Exit(0 if flat else 1)


if __name__ == "__main__":
    cli()
