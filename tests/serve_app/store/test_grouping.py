from __future__ import annotations

from typing import Any

import pytest

from serve_app.store.grouping import first_of_each, values_at

PAYLOAD: dict[str, Any] = {
    "title": "t",
    "metadata": {
        "year": 2020,
        "free": True,
        "none": None,
        "tags": ["a", "b"],
        "deep": {"a.b": {"c d": 1.5}},
        "authors": [{"name": "x", "ids": [1, 2]}, {"name": "y"}, "plain"],
        "日本": "語",
        "": "empty",
    },
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("title", ["t"]),
        ("metadata.year", [2020]),
        ("metadata.free", [True]),
        ("metadata.none", []),
        ("metadata.absent", []),
        ("metadata.tags", ["a", "b"]),
        ("metadata.tags[]", ["a", "b"]),
        ("metadata.tags[1]", ["b"]),
        ("metadata.tags[7]", []),
        ("metadata.deep", []),
        ('metadata.deep."a.b"."c d"', [1.5]),
        ("metadata.deep.a.b", []),
        ("metadata.authors[].name", ["x", "y"]),
        ("metadata.authors[0].ids[]", [1, 2]),
        ("metadata.authors.name", []),
        ("metadata.year.deeper", []),
        ('metadata."日本"', ["語"]),
    ],
)
def test_values_at(path: str, expected: list[object]) -> None:
    assert values_at(PAYLOAD, path) == expected


def test_first_of_each() -> None:
    assert first_of_each([]) == []
    assert first_of_each([["a"], ["a"], [], ["b"], ["a", "c"], ["c"]]) == [0, 3, 4]
    assert first_of_each([[1], [True], [1.0], ["1"], [1]]) == [0, 1, 2, 3]
