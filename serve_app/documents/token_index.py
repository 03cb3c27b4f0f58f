"""Records where each token of a text begins, so that the tokens of any range are counted without tokenising again."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from serve_app.ports import Tokenizer

WINDOW_CHARS = 65_536  # tokenised at once: bounds the memory of the spans, and lets other threads run in between
LONG_TOKEN_CHARS = 64  # WordPiece turns an overlong word into one unknown token; no real token is longer than this
CHARS_PER_TOKEN = 4  # assumed in a stretch without tokens


class TokenIndex:
    """Counts the tokens in ranges of `text`: O(n) to build, O(log n) for each count.

    A stretch of more than LONG_TOKEN_CHARS without a token (an overlong word, a run of spaces) counts as one token
    for every CHARS_PER_TOKEN characters, so that a passage is bounded in characters as well.
    """

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        self.text = text
        self._tokenizer = tokenizer
        self._starts = array("q", _starts(text, tokenizer))

    def count(self, start: int, end: int) -> int:
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def count_alone(self, start: int, end: int) -> int:
        """Tokens of text[start:end] tokenised by itself: more than `count` if the range cuts a word."""
        return max(self.count(start, end), len(self._tokenizer.token_spans(self.text[start:end])))

    def count_joined(self, start: int, middle: int, end: int, tokens: int) -> int:
        """Tokens of text[start:end]. tokens: the sum for its two parts, which meet at `middle`. A word cut at `middle`
        may have more tokens as a whole than its parts."""
        within_word = self.text[middle - 1 : middle].isalnum() and self.text[middle : middle + 1].isalnum()
        return max(tokens, self.count_alone(start, end)) if within_word else tokens

    def forward(self, start: int, tokens: int) -> int:
        """The largest end for which text[start:end] has at most `tokens` tokens."""
        first = bisect_left(self._starts, start) + tokens
        return self._starts[first] if first < len(self._starts) else len(self.text)

    def back(self, end: int, tokens: int) -> int:
        """The start of the last `tokens` tokens before `end`."""
        return self._starts[max(0, bisect_left(self._starts, end) - tokens)] if self._starts else 0


def _starts(text: str, tokenizer: Tokenizer) -> Iterator[int]:
    last = 0  # the text before it is already counted
    for begin, end in _windows(text):
        for start, stop in tokenizer.token_spans(text[begin:end]):
            here = max(begin + start, last)
            if stop > start:
                yield from _filled(last, here)
                yield here
                last = here
    yield from _filled(last, len(text))


def _filled(last: int, here: int) -> range:
    return range(last + CHARS_PER_TOKEN, here, CHARS_PER_TOKEN) if here - last > LONG_TOKEN_CHARS else range(0)


def _windows(text: str) -> Iterator[tuple[int, int]]:
    begin = 0
    while begin < len(text):
        end = min(begin + WINDOW_CHARS, len(text))
        if end < len(text):
            space = max(text.rfind(" ", begin + 1, end), text.rfind("\n", begin + 1, end))
            end = space if space > begin else end
        yield begin, end
        begin = end
