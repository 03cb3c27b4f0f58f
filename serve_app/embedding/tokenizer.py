"""The model's tokenizer. The engine uses its truncated ids, the chunker the position of each token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer
from tokenizers.normalizers import Lowercase, Normalizer
from tokenizers.normalizers import Sequence as NormalizerSequence

from serve_app.embedding.artifacts import ensure_artifact, find_artifact
from serve_app.embedding.layout import Layout
from serve_app.embedding.models import Model
from serve_app.errors import ConfigurationError

Ids = npt.NDArray[np.int64]

INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # inputs of a transformer, and fields of TokenBatch
SURROGATE = re.compile("[\ud800-\udfff]")
WORD_END = re.compile(r"(?<=[^ \n])[ \n]")  # every tokenizer treats these as white space
FIRST_CHARS_PER_TOKEN = 10  # length of the first beginning to try; English has 4 to 5


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """Texts of one forward pass, padded to one width. Arrays are (n, width) int64; attention_mask is 1 on tokens."""

    input_ids: Ids
    attention_mask: Ids
    token_type_ids: Ids


class ModelTokenizer:
    """Implements `ports.Tokenizer`. Ids and truncation equal those of sentence-transformers. Thread-safe.

    Lone surrogates, which the library refuses, are read as U+FFFD.
    """

    def __init__(self, file: Path, layout: Layout) -> None:
        self.max_tokens = layout.max_tokens
        self._file = file
        self._layout = layout
        self._truncating = self._read()
        self._truncating.enable_truncation(layout.max_tokens, direction=layout.truncation_side)
        pad = self._truncating.token_to_id(layout.pad_token) if layout.pad_token else None
        self._pad_id = pad or 0

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        encoding = self._complete.encode(_without_surrogates(text), add_special_tokens=False)
        return list(encoding.offsets)

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Ids with special tokens, cut at max_tokens.

        A long text is tokenised only as far as needed: first a beginning that ends after a word, then a longer one if
        it had too few tokens. This changes no id, because words in WordPiece, byte-level BPE and SentencePiece (as
        released) never span white space."""
        clean = [_without_surrogates(text) for text in texts]
        encodings: dict[int, Encoding] = {}
        waiting = list(range(len(texts)))
        head_chars = FIRST_CHARS_PER_TOKEN * self.max_tokens
        while waiting:
            heads = [self._head(clean[i], head_chars) for i in waiting]
            found = self._truncating.encode_batch_fast(heads)
            short = []
            for i, head, encoding in zip(waiting, heads, found, strict=True):
                if len(head) < len(clean[i]) and not encoding.overflowing:
                    short.append(i)
                else:
                    encodings[i] = encoding
            waiting, head_chars = short, head_chars * 4
        return [encodings[i] for i in range(len(texts))]

    def encode_pairs(self, query: str, passages: Sequence[str]) -> list[Encoding]:
        """The query paired with each passage, with the model's special tokens and segments for two texts. A pair longer
        than max_tokens loses the end of its passage, so that all passages are compared with the same query. A query
        longer than half of max_tokens is cut to that length."""
        clean = self._first_tokens(_without_surrogates(query), self.max_tokens // 2)
        return list(self._pairing.encode_batch_fast([(clean, _without_surrogates(passage)) for passage in passages]))

    def pad(self, encodings: Sequence[Encoding], width: int) -> TokenBatch:
        """width: tokens in each row, at least those of the longest text. A text without tokens (empty, with a tokenizer
        that adds no special tokens) becomes one padding token."""
        shape = (len(encodings), width)
        ids = np.full(shape, self._pad_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        types = np.zeros(shape, dtype=np.int64)
        for row, encoding in enumerate(encodings):
            length = len(encoding)
            start = shape[1] - max(1, length) if self._layout.padding_side == "left" else 0
            ids[row, start : start + length] = encoding.ids
            types[row, start : start + length] = encoding.type_ids
            mask[row, start : start + max(1, length)] = 1
        return TokenBatch(ids, mask, types)

    def _head(self, text: str, head_chars: int) -> str:
        if len(text) <= head_chars or self._layout.truncation_side == "left":
            return text
        end = WORD_END.search(text, head_chars)
        return text[: end.start()] if end else text

    def _first_tokens(self, text: str, tokens: int) -> str:
        spans = self.token_spans(text)
        return text[: spans[tokens - 1][1]] if len(spans) > tokens else text

    @cached_property
    def _pairing(self) -> Tokenizer:
        tokenizer = self._read()
        tokenizer.enable_truncation(self.max_tokens, strategy="only_second")
        return tokenizer

    @cached_property
    def _complete(self) -> Tokenizer:
        """A second tokenizer that does not truncate, because truncation is part of the library object's state."""
        return self._read()

    def _read(self) -> Tokenizer:
        try:
            tokenizer = Tokenizer.from_file(str(self._file))
        except Exception as error:  # the library raises bare Exception
            raise ConfigurationError(f"cannot read the tokenizer {self._file}: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if self._layout.do_lower_case:
            before = tokenizer.normalizer
            steps: list[Normalizer] = [Lowercase(), *([before] if before else [])]
            tokenizer.normalizer = NormalizerSequence(steps)
        return tokenizer


def load_tokenizer(model: Model) -> ModelTokenizer:
    """Load the tokenizer from one JSON file. Conversion creates `tokenizer.json` for a model that has none, and this
    function converts the model if necessary.

    Raises ConfigurationError, and EngineUnavailable if the conversion fails."""
    made = find_artifact(model, "fp32")
    if made is None and not (model.read_layout().transformer / "tokenizer.json").is_file():
        made = ensure_artifact(model, "fp32")
    return open_tokenizer(model, made)


def open_tokenizer(model: Model, made: Path | None) -> ModelTokenizer:
    """made: the converted model's folder; its tokenizer.json, if any, replaces the model's own."""
    layout = model.read_layout()
    files = [folder / "tokenizer.json" for folder in (made, layout.transformer) if folder]
    return ModelTokenizer(next((file for file in files if file.is_file()), files[-1]), layout)


def _without_surrogates(text: str) -> str:
    return text if text.isascii() else SURROGATE.sub("\ufffd", text)
