from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.charts import WATERFALL, axis_steps, bin_counts, histogram, waterfall, whisker
from jobs.evaluate.significance import DECIMALS

ratios = st.lists(st.floats(0, 1), min_size=1, max_size=60)


def bars(svg: ET.Element, kind: str) -> list[ET.Element]:
    return [e for e in svg.iter() if e.get("class") == kind and e.tag in ("rect", "path")]


def told(svg: ET.Element) -> tuple[str, str]:
    """What a screen reader has."""
    by_id = {e.get("id"): e.text or "" for e in svg.iter() if e.get("id")}
    return by_id[svg.get("aria-labelledby")], by_id[svg.get("aria-describedby")]


def test_a_part_has_its_lower_bound_and_the_last_both() -> None:
    assert bin_counts([0, 0.05, 0.1, 0.3, 0.99, 1]) == [2, 1, 0, 1, 0, 0, 0, 0, 0, 2]


@given(ratios)
def test_every_value_is_counted_once(values: list[float]) -> None:
    assert sum(bin_counts(values)) == len(values)


@pytest.mark.parametrize(
    ("top", "steps"), [(4, [0, 1, 2, 3, 4]), (97, [0, 25, 50, 75, 100]), (0.3, [0, 0.1, 0.2, 0.3])]
)
def test_axis_steps_by_hand(top: float, steps: list[float]) -> None:
    assert axis_steps(top) == pytest.approx(steps)


@given(st.floats(1e-3, 1e7))
def test_an_axis_ends_at_or_above_what_it_shows(top: float) -> None:
    steps = axis_steps(top)
    assert steps[-1] >= top * (1 - 1e-6)
    assert steps[-2] < top
    assert 3 <= len(steps) <= 6


def test_heights_of_a_histogram_are_numbers_of_queries() -> None:
    svg = ET.fromstring(histogram("k", "ndcg@10, dense", "ndcg@10", {"a": [0, 0.05, 1], "b": [0.5, 0.5, 0.5]}, most=4))
    heights = {name: [float(bar.get("height", 0)) for bar in bars(svg, name)] for name in ("series-0", "series-1")}
    unit = heights["series-0"][1]
    assert heights["series-0"] == pytest.approx([2 * unit, unit])
    assert heights["series-1"] == pytest.approx([3 * unit])
    title, description = told(svg)
    assert title == "ndcg@10, dense"
    assert "a: mean 0.350; 0.0 to 0.1: 2, 0.9 to 1.0: 1" in description


@given(st.lists(st.floats(-1, 1).map(lambda value: round(value, DECIMALS)), min_size=1, max_size=80))
def test_a_waterfall_has_a_bar_for_each_query_that_changed(differences: list[float]) -> None:
    svg = ET.fromstring(waterfall("k", "gain", differences))
    for kind, many in (("gain", sum(d > 0 for d in differences)), ("loss", sum(d < 0 for d in differences))):
        (path,) = bars(svg, kind)
        starts = [float(x) for x in re.findall(r"M(\S+) ", path.get("d", ""))]
        ends = [float(y) for y in re.findall(r"V(\S+?)h", path.get("d", ""))]
        assert len(starts) == len(ends) == many
        assert all(WATERFALL.x(0) - 0.01 <= x <= WATERFALL.x(1) + 0.01 for x in starts)
        assert all(WATERFALL.y(1) - 0.1 <= y <= WATERFALL.y(0) + 0.1 for y in ends)
        assert ends == sorted(ends), "from the largest gain to the largest loss"


def test_a_waterfall_is_told_in_words() -> None:
    title, description = told(ET.fromstring(waterfall("k", "gain", [0.5, -0.25, 0, 0.05])))
    assert title == "gain"
    assert description == "2 queries gain, at most +0.500; 1 lose, at most -0.250; 1 stay the same. Mean +0.0750."
    _, description = told(ET.fromstring(waterfall("k", "gain", [0, 0])))
    assert description == "No query gains or loses; 2 stay the same. Mean +0.0000."


def test_a_whisker_goes_from_low_to_high() -> None:
    svg = ET.fromstring(whisker(-0.1, 0.05, 0.2, furthest=0.2))
    (interval,) = (e for e in svg.iter("line") if e.get("class") == "interval")
    (zero,) = (e for e in svg.iter("line") if e.get("class") == "axis")
    low, middle, high = (float(interval.get("x1", 0)), float(zero.get("x1", 0)), float(interval.get("x2", 0)))
    assert high - middle == pytest.approx(2 * (middle - low), abs=0.02)
    assert svg.get("aria-hidden") == "true"
    ET.fromstring(whisker(0, 0, 0, furthest=0))


def test_text_is_escaped() -> None:
    drawn = histogram("k", "<b>&", "<i>", {'<script>"': [0.5]}, most=1)
    assert "<script>" not in drawn
    assert "<b>" not in drawn
    assert "<i>" not in drawn
    assert told(ET.fromstring(drawn))[0] == "<b>&"
