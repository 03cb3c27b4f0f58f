"""Types of metrics. A metric declares its name, unit, labels and every series it can have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise, product
from typing import ClassVar

NAME = re.compile(r"aidocs(_[a-z0-9]+)+")
UNITS = ("_seconds", "_tokens", "_ratio")
RAY_PREFIX = "ray_"  # Ray's metrics agent puts it before every name


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """labels: names. series: every combination of label values that can occur, each as long as `labels`.
    Raises ValueError if the name breaks Prometheus' conventions, or if a series does not match the labels."""

    name: str
    description: str
    _: KW_ONLY
    labels: tuple[str, ...] = ()
    series: tuple[tuple[str, ...], ...] = ((),)
    kind: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or not self.name.endswith(self.suffixes):
            raise ValueError(
                f"{self.name}: the name of a {self.kind} begins with aidocs_ and ends with one of {self.suffixes}"
            )
        if not self.series or any(len(values) != len(self.labels) for values in self.series):
            raise ValueError(f"{self.name}: each series needs a value for each of {self.labels}")

    @property
    def exported_name(self) -> str:
        """The name in Prometheus. A histogram's series add `_bucket`, `_sum` and `_count`."""
        return RAY_PREFIX + self.name


@dataclass(frozen=True, slots=True, eq=False)
class Counter(Metric):
    """Starts at 0 with its process and only grows."""

    kind = "counter"
    suffixes = ("_total",)


@dataclass(frozen=True, slots=True, eq=False)
class Gauge(Metric):
    """A current value, which can go up and down."""

    kind = "gauge"
    suffixes = UNITS


@dataclass(frozen=True, slots=True, eq=False)
class Histogram(Metric):
    """buckets: inclusive upper bounds, ascending, in the unit of the name. A bucket without a bound is added."""

    _: KW_ONLY
    buckets: tuple[float, ...]
    kind = "histogram"
    suffixes = UNITS

    def __post_init__(self) -> None:
        Metric.__post_init__(self)
        if not self.buckets or any(low >= high for low, high in pairwise(self.buckets)):
            raise ValueError(f"{self.name}: the bucket bounds must ascend")


def combined(*values: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """A series for every combination of the values."""
    return tuple(product(*values))
