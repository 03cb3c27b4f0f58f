"""What a meter has counted, for tests."""

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
