"""Cuts a block that is too long into pieces that fit, at the most natural places."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from serve_app.documents.markdown_blocks import Block, BlockKind
from serve_app.documents.token_index import TokenIndex

LINE_END = re.compile(r"\r\n?|\n")
# After ., ! or ? (and closing quotes) if a sentence can begin next; after the full stops of Chinese and Japanese.
SENTENCE_END = re.compile(r"""[.!?…]['")\]’”]*\s+(?=[^\W_a-z]|['"(\[“‘])|[。！？]\s*""")

Cuts = Callable[[int, int], Iterable[int]]


@dataclass(frozen=True, slots=True)
class Piece:
    """text[start:end] of the source. lead: a table header to repeat before it. tokens: with those of the lead."""

    start: int
    end: int
    tokens: int
    lead: str = ""


def split_block(index: TokenIndex, block: Block, budget_tokens: int, overlap_tokens: int) -> list[Piece]:
    """The block in pieces of at most `budget_tokens`, in order; a single piece if it fits.

    Prose is cut after sentences, lists before items, code and tables after lines. A piece that is still too long is
    cut after lines, then words, then characters.
    overlap_tokens: tokens at the end of a piece of prose that the next piece repeats.
    """
    tokens = index.count(block.start, block.end)
    if tokens <= budget_tokens:
        return [Piece(block.start, block.end, tokens)]
    match block.kind:
        case BlockKind.TABLE:
            return _split_table(index, block, budget_tokens)
        case BlockKind.CODE:
            return _pieces(index, block.start, block.end, [_matches(index, LINE_END)], budget_tokens)
        case BlockKind.LIST:
            levels = [_given(block.cuts), _matches(index, SENTENCE_END), _matches(index, LINE_END)]
            return _pieces(index, block.start, block.end, levels, budget_tokens)
        case _:
            levels = [_matches(index, SENTENCE_END), _matches(index, LINE_END)]
            overlap = min(overlap_tokens, budget_tokens // 2)
            pieces = _pieces(index, block.start, block.end, levels, budget_tokens - overlap)
            return _overlapping(index, pieces, overlap) if overlap else pieces


def _split_table(index: TokenIndex, block: Block, budget_tokens: int) -> list[Piece]:
    header_tokens = index.count(block.start, block.header_end)
    repeated = header_tokens <= budget_tokens // 2
    budget = budget_tokens - header_tokens if repeated else budget_tokens
    lead = index.text[block.start : block.header_end].rstrip() if repeated else ""
    if not repeated:
        return _pieces(index, block.start, block.end, [_matches(index, LINE_END)], budget)
    first, *rest = _pieces(index, block.header_end, block.end, [_matches(index, LINE_END)], budget)
    whole = Piece(block.start, first.end, first.tokens + header_tokens)
    return [whole, *(Piece(piece.start, piece.end, piece.tokens + header_tokens, lead) for piece in rest)]


def _given(cuts: Iterable[int]) -> Cuts:
    return lambda start, end: (cut for cut in cuts if start < cut < end)


def _matches(index: TokenIndex, pattern: re.Pattern[str]) -> Cuts:
    return lambda start, end: (match.end() for match in pattern.finditer(index.text, start, end) if match.end() < end)


def _pieces(index: TokenIndex, start: int, end: int, levels: list[Cuts], budget: int) -> list[Piece]:
    """Ranges that fit, each joined with its neighbours as far as the budget allows."""
    pieces: list[Piece] = []
    for part in _fitting(index, start, end, levels, budget):
        last = pieces[-1] if pieces else part
        tokens = index.count_joined(last.start, part.start, part.end, last.tokens + part.tokens)
        if pieces and tokens <= budget:
            pieces[-1] = Piece(last.start, part.end, tokens)
        else:
            pieces.append(part)
    return pieces


def _fitting(index: TokenIndex, start: int, end: int, levels: list[Cuts], budget: int) -> Iterator[Piece]:
    tokens = index.count(start, end)
    if tokens <= budget:
        yield Piece(start, end, tokens)
    elif levels:
        for here, there in pairwise([start, *levels[0](start, end), end]):
            yield from _fitting(index, here, there, levels[1:], budget)
    else:
        yield from _at_words(index, start, end, budget)


def _at_words(index: TokenIndex, start: int, end: int, budget: int) -> Iterator[Piece]:
    inside_word = False  # whether the previous piece ended inside a word
    while start < end:
        cut = limit = min(max(index.forward(start, budget), start + 1), end)
        while limit < end and cut > start and not index.text[cut - 1].isspace():
            cut -= 1
        cut, began_inside, inside_word = (cut, inside_word, False) if cut > start else (limit, inside_word, True)
        if began_inside or inside_word:  # part of a word may have more tokens than it had within the whole word
            while (tokens := index.count_alone(start, cut)) > budget and cut - start > 1:
                cut, inside_word = start + (cut - start) // 2, True
        else:
            tokens = index.count(start, cut)
        yield Piece(start, cut, tokens)
        start = cut


def _overlapping(index: TokenIndex, pieces: list[Piece], overlap_tokens: int) -> list[Piece]:
    """Each piece after the first begins some words earlier, but not before the start of the previous piece. A piece
    that begins inside a word gets no overlap."""
    result = pieces[:1]
    for before, piece in pairwise(pieces):
        start = max(before.start, index.back(piece.start, overlap_tokens))
        while start < piece.start and not index.text[start - 1 : start].isspace():
            start += 1
        if not index.text[piece.start - 1].isspace():
            start = piece.start
        result.append(Piece(start, piece.end, piece.tokens + index.count(start, piece.start)))
    return result
