"""A release's name says what answers: the same bundle has the same name everywhere, another bundle another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.search.release import Release
from serve_app.settings import Settings
from serve_app.types import FIRST_INDEX, Lane, Vector, VectorSpace

SPACE = VectorSpace("owner/small-model", "abc", 384)


def name(sections: dict[str, Any] | None = None, space: VectorSpace = SPACE, precision: str = "int8") -> str:
    return Release.of(Settings.model_validate(sections or {}), space, precision).name


def test_it_begins_with_the_models_short_name() -> None:
    short, _, digits = name().rpartition("-")
    assert short == "small-model" and len(digits) == 8 and int(digits, 16) >= 0


@pytest.mark.parametrize(
    "other",
    [
        name(space=replace(SPACE, model="other/small-model")),
        name(space=replace(SPACE, revision="abd")),
        name(space=replace(SPACE, dim=383)),
        name(precision="bf16"),
        name(precision="auto"),
        name({"embedding": {"engine": "torch"}}),
        name({"chunking": {"max_tokens": 128}}),
        name({"chunking": {"overlap_tokens": 8}}),
        name({"search": {"profiles": {"default": {"fusion": "rrf"}}}}),
        name({"search": {"profiles": {"default": {"rrf_k": 61}}}}),
        name({"search": {"profiles": {"default": {"candidates": 99}}}}),
        name({"search": {"profiles": {"default": {"hnsw_ef": 64}}}}),
        name({"search": {"profiles": {"default": {"feedback_passages": 3}}}}),
        name({"search": {"profiles": {"quality": {"smoothing_share": 0.2}}}}),
        name({"search": {"profiles": {"wide": {}}}}),
    ],
)
def test_what_changes_an_answer_changes_the_name(other: str) -> None:
    assert other != name()


def test_what_reranks_is_part_of_it() -> None:
    """Not only its name: a folder's content can change."""
    settings = Settings.model_validate({"search": {"profiles": {"precise": {"rerank_model": "folder"}}}})

    def named(identity: str) -> str:
        return Release.of(settings, SPACE, "int8", {"precise": Reads(identity)}).name

    assert named("folder@1 fp32") == named("folder@1 fp32")
    assert len({named(identity) for identity in ("folder@1 fp32", "folder@2 fp32", "folder@1 bf16")}) == 3


@dataclass(frozen=True)
class Reads:
    identity: str

    async def score(self, query: str, passages: Sequence[str], lane: Lane = Lane.INTERACTIVE) -> Vector:
        return np.zeros(len(passages), np.float32)


def test_the_default_profile_is_part_of_it() -> None:
    search = {"profiles": {"wide": {"candidates": 500}}}
    assert name({"search": search}) != name({"search": search | {"default_profile": "wide"}})


@pytest.mark.parametrize(
    "same",
    [
        {"data_dir": Path("elsewhere")},
        {"serving": {"port": 8001}},
        {"embedding": {"threads": 3, "placement": "pooled"}},  # the precision is given by who knows it
        {"store": {"url": "http://127.0.0.1:6333"}},
    ],
)
def test_where_and_how_fast_it_runs_does_not(same: dict[str, Any]) -> None:
    assert name(same) == name()


def test_the_order_of_profiles_does_not() -> None:
    a, b = ("a", {"candidates": 10}), ("b", {"candidates": 20})
    assert name({"search": {"profiles": dict([a, b])}}) == name({"search": {"profiles": dict([b, a])}})


def test_only_a_later_index_adds_its_name() -> None:
    release = Release.of(Settings(), SPACE, "int8")
    assert release.name_at(FIRST_INDEX) == release.name_at("") == release.name
    assert release.name_at("built-2") == f"{release.name}@built-2"
    assert replace(release, index="built-2").name == f"{release.name}@built-2"


def test_the_active_index_has_a_key_of_its_own() -> None:
    release = Release.of(Settings(), SPACE, "int8")
    assert len({release.key, replace(release, index=FIRST_INDEX).key, replace(release, index="built-2").key}) == 3
