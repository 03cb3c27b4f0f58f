"""Plots as inline SVG for a page, without scripts. The style sheet of the page sets the colours.

Classes: .grid and .axis (lines), .tick (text), .series-0 and .series-1 (bars), .mean and .halo (a line, and the outline
that separates it from bars of the same colour), .gain and .loss (bars), .interval (line and dot). A screen reader reads
the title and description instead of the drawing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from xml.etree.ElementTree import Element, SubElement, tostring

BINS = 10
STEPS = (1, 2, 2.5, 5, 10)  # step of an axis, times a power of ten


@dataclass(frozen=True, slots=True)
class Frame:
    """Size of a drawing and of the margins around its plot, in CSS pixels."""

    width: float
    height: float
    left: float = 40
    right: float = 8
    top: float = 16
    bottom: float = 36

    def x(self, ratio: float) -> float:
        return self.left + ratio * (self.width - self.left - self.right)

    def y(self, ratio: float) -> float:
        """Position of a ratio, where 0 is at the bottom."""
        return self.height - self.bottom - ratio * (self.height - self.top - self.bottom)


HISTOGRAM = Frame(360, 220)
WATERFALL = Frame(1_080, 240)
WHISKER = Frame(160, 18, left=5, right=5, top=0, bottom=0)


def bin_counts(values: Sequence[float]) -> list[int]:
    """Counts of the values, 0..1, in BINS bins of equal width. A bin includes its lower bound, the last one both."""
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, math.floor(round(value * BINS, 9)))] += 1
    return counts


def axis_steps(top: float, about: int = 4) -> list[float]:
    """Round numbers from 0 to at least `top`, in about `about` steps. top: above 0."""
    power = 10.0 ** math.floor(math.log10(top / about))
    step = next(s * power for s in STEPS if s * power >= top / about * (1 - 1e-9))
    return [step * i for i in range(math.ceil(top / step * (1 - 1e-9)) + 1)]


def histogram(key: str, title: str, measure: str, series: Mapping[str, Sequence[float]], most: int) -> str:
    """Number of queries by a measure of 0..1: a bar for each bin and series, and a dashed line at the mean of each.
    most: largest count that the axis must show, so that several drawings have one scale. key: unique in the page."""
    frame, counts = HISTOGRAM, {name: bin_counts(values) for name, values in series.items()}
    means = {name: fmean(values) for name, values in series.items()}
    spread = "; ".join(
        f"{name}: mean {means[name]:.3f}; "
        + ", ".join(f"{i / BINS:.1f} to {(i + 1) / BINS:.1f}: {n}" for i, n in enumerate(row) if n)
        for name, row in counts.items()
    )
    svg = drawing(frame, key, title, f"Number of queries by value. {spread}.")
    ticks = axis_steps(max(most, 4))
    for tick in ticks:
        horizontal(svg, frame, tick / ticks[-1], f"{tick:,.0f}")
    for i in range(0, BINS + 1, 2):
        label(svg, frame.x(i / BINS), frame.y(0) + 16, f"{i / BINS:.1f}", "middle")
    label(svg, frame.x(0.5), frame.height - 4, measure, "middle")
    for n, (name, row) in enumerate(counts.items()):
        bars = [(i, count) for i, count in enumerate(row) if count]
        width = (frame.x(1 / BINS) - frame.x(0) - 4) / len(counts)
        for i, count in bars:
            top = frame.y(count / ticks[-1])
            bar = SubElement(
                svg,
                "rect",
                {"class": f"series-{n}"}
                | numbers(x=frame.x(i / BINS) + 2 + n * width, y=top, width=width - 0.5, height=frame.y(0) - top),
            )
            SubElement(bar, "title").text = f"{name}: {count:,} queries from {i / BINS:.1f} to {(i + 1) / BINS:.1f}"
    for kinds in (["halo"] * len(means), [f"mean series-{n}" for n in range(len(means))]):
        for kind, mean in zip(kinds, means.values(), strict=True):
            line(svg, kind, (frame.x(mean), frame.y(0)), (frame.x(mean), frame.y(1)))
    line(svg, "axis", (frame.x(0), frame.y(0)), (frame.x(1), frame.y(0)))
    return tostring(svg, encoding="unicode")


def waterfall(key: str, title: str, differences: Sequence[float]) -> str:
    """A bar for the difference of each query, from the largest gain to the largest loss; a dashed line at the mean."""
    frame, ordered = WATERFALL, sorted(differences, reverse=True)
    mean, gains, losses = fmean(ordered), sum(d > 0 for d in ordered), sum(d < 0 for d in ordered)
    same = len(ordered) - gains - losses
    summary = (
        f"{gains:,} queries gain, at most {ordered[0]:+.3f}; {losses:,} lose, at most {ordered[-1]:+.3f}"
        if (gains or losses)
        else "No query gains or loses"
    )
    svg = drawing(frame, key, title, f"{summary}; {same:,} stay the same. Mean {mean:+.4f}.")
    ticks = axis_steps(max(abs(ordered[0]), abs(ordered[-1])) or 1.0, about=3)

    def height(value: float) -> float:
        return 0.5 + value / ticks[-1] / 2

    for tick in sorted({*ticks, *(-tick for tick in ticks)}):
        horizontal(svg, frame, height(tick), f"{tick:+.3g}".replace("-", "−") if tick else "0")
    pitch = (frame.x(1) - frame.x(0)) / len(ordered)
    for name, rows in (("gain", ordered[:gains]), ("loss", ordered[len(ordered) - losses :])):
        first = 0 if name == "gain" else len(ordered) - losses
        bars = bar_path(frame, [height(value) for value in rows], first, pitch)
        SubElement(svg, "path", {"class": name, "d": "".join(bars)})
    y = frame.y(height(mean))
    line(svg, "mean", (frame.x(0), y), (frame.x(1), y))
    line(svg, "axis", (frame.x(0), frame.y(0.5)), (frame.x(1), frame.y(0.5)))
    counts = ((0, "start", f"{gains:,} better"), (0.5, "middle", f"{same:,} the same"), (1, "end", f"{losses:,} worse"))
    for ratio, anchor, text in counts:
        label(svg, frame.x(ratio), frame.height - 8, text, anchor)
    return tostring(svg, encoding="unicode")


def whisker(low: float, middle: float, high: float, furthest: float) -> str:
    """An interval on an axis from -furthest to furthest. Screen readers skip it and read the numbers beside it."""
    frame = WHISKER

    def x(value: float) -> float:
        return frame.x(0.5 + value / furthest / 2 if furthest else 0.5)

    svg = Element(
        "svg", {"viewBox": f"0 0 {frame.width:g} {frame.height:g}", "aria-hidden": "true", "class": "whisker"}
    )
    line(svg, "axis", (x(0), 1), (x(0), frame.height - 1))
    line(svg, "interval", (x(low), frame.y(0.5)), (x(high), frame.y(0.5)))
    SubElement(svg, "circle", {"class": "interval"} | numbers(cx=x(middle), cy=frame.y(0.5), r=3.5))
    return tostring(svg, encoding="unicode")


def bar_path(frame: Frame, heights: Sequence[float], first: int, pitch: float) -> Iterator[str]:
    """Bars from the middle line as a single path, so that a page with thousands of queries stays small."""
    middle, width = frame.y(0.5), max(pitch * 0.8, 0.2)
    for i, height in enumerate(heights, start=first):
        x = frame.left + i * pitch + (pitch - width) / 2
        yield f"M{x:.2f} {middle:.1f}V{frame.y(height):.1f}h{width:.2f}V{middle:.1f}z"


def drawing(frame: Frame, key: str, title: str, description: str) -> Element:
    title_id, description_id = f"{key}-title", f"{key}-description"
    attributes = {"role": "img", "aria-labelledby": title_id, "aria-describedby": description_id}
    svg = Element("svg", {"viewBox": f"0 0 {frame.width:g} {frame.height:g}"} | attributes)
    SubElement(svg, "title", id=title_id).text = title
    SubElement(svg, "desc", id=description_id).text = description
    return svg


def horizontal(svg: Element, frame: Frame, ratio: float, text: str) -> None:
    line(svg, "grid", (frame.x(0), frame.y(ratio)), (frame.x(1), frame.y(ratio)))
    label(svg, frame.left - 6, frame.y(ratio) + 4, text, "end")


def line(svg: Element, kind: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    SubElement(svg, "line", {"class": kind} | numbers(x1=start[0], y1=start[1], x2=end[0], y2=end[1]))


def label(svg: Element, x: float, y: float, text: str, anchor: str) -> None:
    SubElement(svg, "text", {"class": "tick", "text-anchor": anchor} | numbers(x=x, y=y)).text = text


def numbers(**values: float) -> dict[str, str]:
    return {name: f"{value:.2f}" for name, value in values.items()}
