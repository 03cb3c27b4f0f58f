"""A document's text → passages: whole blocks under their headings, packed up to a budget of tokens.

Every passage is a slice of the source text. The one exception is a table that had to be cut: each of its passages
repeats the header. Only white space is lost between passages. The text is tokenised once, and the time is linear.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from serve_app.documents.markdown_blocks import Block, BlockKind, parse_blocks
from serve_app.documents.splitting import Piece, split_block
from serve_app.documents.token_index import TokenIndex
from serve_app.errors import ConfigurationError
from serve_app.ports import Tokenizer
from serve_app.settings import ChunkingSettings
from serve_app.types import Passage

CHUNKER_VERSION = 2  # part of every fingerprint: raise it when the same text is cut into other passages
SPECIAL_TOKENS = 2  # [CLS] and [SEP], or <s> and </s>
MIN_BUDGET_TOKENS = 8
PREFIX_SHARE = 4  # at most a quarter of the budget for the title, and a quarter for the headings
SMALL_SHARE = 4  # a run of less than a quarter of the budget is joined to its neighbour

Path = tuple[str, ...]


def chunk(text: str, *, title: str, tokenizer: Tokenizer, settings: ChunkingSettings) -> list[Passage]:
    """Passages of Markdown or plain text, numbered from 0. An empty document has none; a title alone makes one.

    A passage's embedded text, with special tokens, fits `settings.max_tokens` and the model. Sections that are too
    short to stand alone are joined; the joined passage keeps only the headings that its sections have in common.
    title: as returned by `embedding_title`; a longer title would leave no room for the text.
    Raises ConfigurationError if the budget is too small for any text.
    """
    prefix = Prefix(title, tokenizer, budget_tokens(tokenizer, settings))
    source = text if text.strip() else title
    index = TokenIndex(source, tokenizer)
    runs: list[PassageSpan] = []
    for section in _sections(parse_blocks(source)):
        runs.extend(_pack(section, index, prefix, settings.overlap_tokens))
    bodies = ((run, _body(source, run)) for run in _join_small(runs, index, prefix))
    kept = [(run, body) for run, body in bodies if body]
    return [Passage(number, body, prefix.headings(run.path), run.tokens) for number, (run, body) in enumerate(kept)]


def budget_tokens(tokenizer: Tokenizer, settings: ChunkingSettings) -> int:
    """Tokens for title, headings and text together."""
    budget = min(settings.max_tokens, tokenizer.max_tokens) - SPECIAL_TOKENS
    if budget < MIN_BUDGET_TOKENS:
        raise ConfigurationError(
            f"a passage of {budget + SPECIAL_TOKENS} tokens holds no text: set AIDOCS_CHUNKING__MAX_TOKENS to "
            f"{MIN_BUDGET_TOKENS + SPECIAL_TOKENS} or more, and use a model that accepts as many tokens"
        )
    return budget


def embedding_title(title: str, *, tokenizer: Tokenizer, settings: ChunkingSettings) -> str:
    """The title as it precedes each passage's text: cut to a quarter of the budget if it is longer."""
    return shorten(title, budget_tokens(tokenizer, settings) // PREFIX_SHARE, tokenizer)


def shorten(text: str, limit_tokens: int, tokenizer: Tokenizer) -> str:
    """The longest beginning of `text` with at most `limit_tokens` tokens, cut between words if possible."""
    spans = tokenizer.token_spans(text)
    while len(spans) > limit_tokens:
        cut = spans[limit_tokens][0]
        words = text[:cut] if text[cut - 1 : cut].isspace() else text[:cut].rpartition(" ")[0] or text[:cut]
        text = words.rstrip() if len(words.rstrip()) < len(text) else text[:-1]
        spans = tokenizer.token_spans(text)
    return text


@dataclass(frozen=True, slots=True)
class HeadedSection:
    """The blocks under one heading, up to the next heading. A heading followed directly by a deeper one forms one
    section with it. heading: range of the heading lines; None before the first heading."""

    path: Path
    blocks: tuple[Block, ...]
    heading: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class PassageSpan:
    """The range of a future passage: text[start:end]. lead: a table header to repeat before it."""

    path: Path
    start: int
    end: int
    tokens: int
    lead: str = ""

    def joined(self, other: PassageSpan | Piece, path: Path, index: TokenIndex) -> PassageSpan:
        tokens = index.count_joined(self.start, other.start, other.end, self.tokens + other.tokens)
        return replace(self, path=path, end=other.end, tokens=tokens)


@dataclass
class Prefix:
    """The title and headings before each passage's text, and the number of tokens they leave for the text."""

    title: str
    tokenizer: Tokenizer
    total_tokens: int
    _known: dict[Path, tuple[Path, int]] = field(default_factory=dict)

    def headings(self, path: Path) -> Path:
        """The path, without outermost headings if it is too long. The innermost is cut if it is too long by itself."""
        return self._bounded(path)[0]

    def room(self, path: Path) -> int:
        return self._bounded(path)[1]

    def _bounded(self, path: Path) -> tuple[Path, int]:
        if path not in self._known:
            limit = self.total_tokens // PREFIX_SHARE
            headings = path
            while len(headings) > 1 and self._tokens(" > ".join(headings)) > limit:
                headings = headings[1:]
            headings = tuple(shorten(heading, limit, self.tokenizer) for heading in headings)
            used = self._tokens(Passage(0, "", headings).embedded_text(self.title))
            self._known[path] = headings, max(1, self.total_tokens - used)
        return self._known[path]

    def _tokens(self, text: str) -> int:
        return len(self.tokenizer.token_spans(text))


def _sections(blocks: Iterable[Block]) -> Iterator[HeadedSection]:
    open_headings: list[Block] = []  # the path, as blocks
    heading: tuple[int, int] | None = None
    content: list[Block] = []
    for block in blocks:
        if block.kind is not BlockKind.HEADING:
            content.append(block)
            continue
        deeper = heading is not None and not content and block.level > open_headings[-1].level
        if not deeper and (content or heading):
            yield HeadedSection(_path(open_headings), tuple(content), heading)
        heading = (heading[0] if deeper and heading else block.start), block.end
        content = []
        open_headings = [*(above for above in open_headings if above.level < block.level), block]
    if content or heading:
        yield HeadedSection(_path(open_headings), tuple(content), heading)


def _path(headings: Iterable[Block]) -> Path:
    return tuple(block.heading for block in headings if block.heading)


def _pack(section: HeadedSection, index: TokenIndex, prefix: Prefix, overlap_tokens: int) -> Iterator[PassageSpan]:
    """Runs of one section, each filled with as many whole blocks as fit. The heading stays with the first block."""
    room = prefix.room(section.path)
    run: PassageSpan | None = None
    blocks = section.blocks
    if section.heading:
        tokens = index.count(*section.heading)
        if tokens <= room // 2:
            run = PassageSpan(section.path, *section.heading, tokens)
        else:
            blocks = (Block(BlockKind.PROSE, *section.heading), *blocks)
    reserved = run.tokens if run else 0
    for block in blocks:
        for piece in split_block(index, block, room - reserved, overlap_tokens):
            joined = run.joined(piece, section.path, index) if run and not piece.lead else None
            if joined and joined.tokens <= room:
                run = joined
            else:
                if run:
                    yield run
                run = PassageSpan(section.path, piece.start, piece.end, piece.tokens, piece.lead)
    if run:
        yield run


def _join_small(runs: Iterable[PassageSpan], index: TokenIndex, prefix: Prefix) -> list[PassageSpan]:
    """Join neighbouring runs if either is small and both fit, because one-line passages rank badly."""
    small = prefix.total_tokens // SMALL_SHARE
    result: list[PassageSpan] = []
    for run in runs:
        if result and not run.lead and min(result[-1].tokens, run.tokens) < small:
            shared = _shared(result[-1].path, run.path)
            joined = result[-1].joined(run, shared, index)
            if joined.tokens <= prefix.room(shared):
                result[-1] = joined
                continue
        result.append(run)
    return result


def _shared(one: Path, other: Path) -> Path:
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    return one[:shared]


def _body(source: str, run: PassageSpan) -> str:
    """The slice without blank lines around it; the first line keeps its indentation."""
    text = source[run.start : run.end].rstrip()
    indented = len(text) - len(text.lstrip())
    text = text[text.rfind("\n", 0, indented) + 1 :]
    return f"{run.lead}\n{text}" if run.lead and text else text
