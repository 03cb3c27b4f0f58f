"""Reads the counts of a meter, for tests."""

from __future__ import annotations

from collections.abc import Mapping

from serve_app.telemetry.meter import Meter


def counted(meter: Meter, name: str, **labels: str) -> Mapping[str, float]:
    """By `le`, or "" for a series without; `labels` name one series."""
    return {
        sample.labels.get("le", ""): sample.value
        for sample in meter.samples()
        if sample.name == name and labels.items() <= sample.labels.items()
    }


def nonzero(meter: Meter, name: str) -> dict[tuple[str, ...], float]:
    """The series of a counter or gauge that are not at zero, by their labels' values."""
    return {tuple(s.labels.values()): s.value for s in meter.samples() if s.name == name and s.value}
