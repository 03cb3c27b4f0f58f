from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from serve_app.embedding.layout import Layout, read_layout
from serve_app.embedding.models import Model
from serve_app.embedding.tokenizer import ModelTokenizer, load_tokenizer
from serve_app.errors import ConfigurationError

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=400)  # surrogates, controls and all
WORDS = st.lists(st.sampled_from(["a", "word", "🙂", "漢字", "x" * 120, "e\u0301", ".", "\n", "  "]), max_size=300)


@pytest.fixture(scope="module")
def layout(default_model: Model) -> Layout:
    return read_layout(default_model.path)


@pytest.fixture(scope="module")
def file(default_model: Model) -> Path:
    return default_model.path / "tokenizer.json"


@pytest.fixture(scope="module")
def short(file: Path, layout: Layout) -> ModelTokenizer:
    return ModelTokenizer(file, replace(layout, max_tokens=8))


@pytest.fixture(scope="module")
def plain(file: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(8)
    return tokenizer


@given(WORDS)
def test_a_text_read_in_part_gives_the_same_ids(short: ModelTokenizer, plain: Tokenizer, words: list[str]) -> None:
    for text in (" ".join(words), "".join(words)):
        assert short.encode([text])[0].ids == plain.encode(text).ids


@given(ANY_TEXT)
def test_spans_lie_in_the_text_in_order(short: ModelTokenizer, text: str) -> None:
    spans = short.token_spans(text)
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)


@given(ANY_TEXT)
def test_any_text_has_ids(short: ModelTokenizer, text: str) -> None:
    assert 2 <= len(short.encode([text])[0].ids) <= 8


def test_spans_name_the_tokens(default_model: Model) -> None:
    text = "Hello, wörld 🙂 unbelievably"
    assert [text[a:b] for a, b in load_tokenizer(default_model).token_spans(text)] == [
        "Hello", ",", "wörld", "🙂", "un", "bel", "ie", "va", "bly",
    ]  # fmt: skip


def test_lone_surrogate_is_read_as_the_replacement_character(short: ModelTokenizer) -> None:
    broken, replaced = short.encode(["a \ud800 b", "a \ufffd b"])
    assert broken.ids == replaced.ids
    assert short.token_spans("a \ud83d b")[-1] == (4, 5)


def test_many_texts_of_which_some_need_a_longer_look(short: ModelTokenizer, plain: Tokenizer) -> None:
    texts = ["word " * 500, " " * 5_000 + "late words come after space", "", "x" * 3_000 + " end " * 50]
    assert [encoding.ids for encoding in short.encode(texts)] == [plain.encode(text).ids for text in texts]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_truncation_follow_the_model(file: Path, layout: Layout, side: str) -> None:
    changed = replace(layout, max_tokens=4, truncation_side=side, padding_side=side)  # type: ignore[arg-type]
    tokenizer = ModelTokenizer(file, changed)
    batch = tokenizer.pad(tokenizer.encode(["a b c d e " * 50, "z"]), 4)
    letters = [[tokenizer._complete.id_to_token(i) for i in row] for row in batch.input_ids.tolist()]
    assert letters[0] == (["[CLS]", "d", "e", "[SEP]"] if side == "left" else ["[CLS]", "a", "b", "[SEP]"])
    assert batch.attention_mask[1].tolist() == ([0, 1, 1, 1] if side == "left" else [1, 1, 1, 0])
    assert letters[1].index("[PAD]") == (0 if side == "left" else 3)


def test_text_without_tokens_becomes_one_padding_token(file: Path, layout: Layout) -> None:
    tokenizer = ModelTokenizer(file, layout)
    nothing = tokenizer._truncating.encode("", add_special_tokens=False)
    assert nothing.ids == []
    np.testing.assert_array_equal(tokenizer.pad([nothing], 4).attention_mask, [[1, 0, 0, 0]])


def test_lower_casing_of_the_sentence_config(default_model: Model, layout: Layout, tmp_path: Path) -> None:
    cased = Tokenizer.from_file(str(default_model.path / "tokenizer.json"))
    cased.normalizer.lowercase = False  # type: ignore[union-attr]
    cased.save(str(tmp_path / "tokenizer.json"))
    texts = ["HELLO World", "hello world"]
    plain, lower = (
        ModelTokenizer(tmp_path / "tokenizer.json", replace(layout, do_lower_case=flag)).encode(texts)
        for flag in (False, True)
    )
    assert plain[0].ids != plain[1].ids
    assert lower[0].ids == lower[1].ids == plain[1].ids


def test_unreadable_tokenizer_is_named(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"tokenizer\.json"):
        ModelTokenizer(tmp_path / "tokenizer.json", layout)
