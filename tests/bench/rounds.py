"""Medians of interleaved rounds, and ratios of two series that were measured in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Series:
    """The rounds of one contender, in `unit`. Higher is better for rates, lower for times."""

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        return f"{shown(self.median)} {self.unit} ({shown(min(self.values))}–{shown(max(self.values))})"


def shown(value: float) -> str:
    """Four significant digits, or all digits before the decimal point."""
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


@dataclass(frozen=True)
class Comparison:
    """Ours divided by the reference, or the reverse if less is better. target: smallest acceptable ratio, or None.

    The ratio is the median of the ratios of the rounds. Both halves of a round run one after the other, so whatever
    slows the machine for a minute slows both."""

    figure: str
    ours: Series
    reference: Series
    target: float | None = None
    note: str = ""
    less_is_better: bool = False

    @property
    def ratios(self) -> tuple[float, ...]:
        pairs = zip(self.ours.values, self.reference.values, strict=True)
        return tuple(theirs / ours if self.less_is_better else ours / theirs for ours, theirs in pairs)

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Comparison:
        """Reads what `to_json` wrote and ignores derived values."""
        ours, reference = (
            Series(**content[name] | {"values": tuple(content[name]["values"])}) for name in ("ours", "reference")
        )
        rest = {name: content[name] for name in ("figure", "target", "note", "less_is_better")}
        return cls(ours=ours, reference=reference, **rest)

    def to_json(self) -> dict[str, object]:
        return asdict(self) | {
            "ratio": self.ratio,
            "ratio_min": min(self.ratios),
            "ratio_max": max(self.ratios),
            "ours_median": self.ours.median,
            "reference_median": self.reference.median,
        }


def interleave(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, tuple[float, ...]]:
    """Run the contenders in turn: one warm-up of each that is not counted, then `rounds` rounds."""
    for run in contenders.values():
        run()
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders.items())
        for name, run in order if number % 2 == 0 else reversed(order):  # so that none always goes first
            values[name].append(run())
    return {name: tuple(series) for name, series in values.items()}
