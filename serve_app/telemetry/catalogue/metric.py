"""What a metric is: its name, unit, labels and every series it can have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise, product
from typing import ClassVar

NAME = re.compile(r"aidocs(_[a-z0-9]+)+")
UNITS = ("_seconds", "_tokens", "_ratio")
RAY_PREFIX = "ray_"  # put before every name by Ray's metrics agent


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """labels: their names. series: the values they can have together, each as long as `labels`.
    Raises ValueError if it is not named as Prometheus asks, or its series do not fit its labels."""

    name: str
    description: str
    _: KW_ONLY
    labels: tuple[str, ...] = ()
    series: tuple[tuple[str, ...], ...] = ((),)
    kind: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or not self.name.endswith(self.suffixes):
            raise ValueError(f"{self.name}: a {self.kind} begins with aidocs_ and ends with one of {self.suffixes}")
        if not self.series or any(len(values) != len(self.labels) for values in self.series):
            raise ValueError(f"{self.name}: each series has a value for each of {self.labels}")

    @property
    def exported_name(self) -> str:
        """In Prometheus; a histogram's series add `_bucket`, `_sum` and `_count`."""
        return RAY_PREFIX + self.name


@dataclass(frozen=True, slots=True, eq=False)
class Counter(Metric):
    """Only ever grows, from 0 at the start of its process."""

    kind = "counter"
    suffixes = ("_total",)


@dataclass(frozen=True, slots=True, eq=False)
class Gauge(Metric):
    """As it is now."""

    kind = "gauge"
    suffixes = UNITS


@dataclass(frozen=True, slots=True, eq=False)
class Histogram(Metric):
    """buckets: upper bounds, included, ascending, in the unit of the name; one without a bound is added."""

    _: KW_ONLY
    buckets: tuple[float, ...]
    kind = "histogram"
    suffixes = UNITS

    def __post_init__(self) -> None:
        Metric.__post_init__(self)
        if not self.buckets or any(low >= high for low, high in pairwise(self.buckets)):
            raise ValueError(f"{self.name}: the buckets' bounds do not ascend")


def combined(*values: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Series for every combination."""
    return tuple(product(*values))
