"""Real text that every machine has: the documents of the demo, tens of thousands of short docstrings, and queries taken
from them."""

from __future__ import annotations

import itertools
import random
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from serve_app.documents.chunking import chunk
from serve_app.documents.docstrings import module_entries
from serve_app.documents.python_packages import python_package_documents
from serve_app.ports import Tokenizer
from serve_app.settings import ChunkingSettings
from serve_app.types import Document

SEED = 20_260_101
ENTRY_CHARS = 400  # longest entry, so that embedding 50,000 takes minutes
SENTENCE_ENDS = re.compile(r"(?<=[.!?:])\s+|\n\s*\n")
SENTENCE_WORDS = (5, 40)


def entries(count: int) -> list[Document]:
    """`count` short documents, each the signature and docstring of a public class or function of an installed
    package. Raises ValueError if the environment has fewer."""
    found: dict[str, Document] = {}
    root = Path(sysconfig.get_paths()["purelib"])
    for path in sorted(root.rglob("*.py")):
        module = path.relative_to(root).with_suffix("")
        for text in module_entries(path):
            if len(found) == count:
                return list(found.values())
            name = text.partition("\n")[0].strip("#` ")
            if text.startswith("#") and len(text) <= ENTRY_CHARS:
                found.setdefault(text, Document(f"{len(found)}:{module}:{name}", text, name))
    raise ValueError(f"the installed packages have {len(found)} short docstrings, not {count}")


def passages(count: int, tokenizer: Tokenizer) -> list[str]:
    """`count` passages as the engine receives them, sampled uniformly from all documents."""
    texts = [
        passage.embedded_text(document.title)
        for document in package_documents()
        for passage in chunk(document.text, title=document.title, tokenizer=tokenizer, settings=ChunkingSettings())
    ]
    return random.Random(SEED).sample(texts, min(count, len(texts)))


def package_documents() -> Iterator[Document]:
    return (found for found in python_package_documents() if isinstance(found, Document))


def excerpts(source: Sequence[Document], count: int, words: tuple[int, int]) -> list[str]:
    """`count` distinct excerpts of the documents. words: shortest and longest length in words."""
    rng = random.Random(SEED)
    least, most = words
    texts = [split for document in source if len(split := document.text.split()) >= most]
    found: dict[str, None] = {}
    while len(found) < count:
        of = rng.choice(texts)
        length = rng.randint(least, most)
        at = rng.randrange(len(of) - length + 1)
        found[" ".join(of[at : at + length])] = None
    return list(found)


def sentences() -> Iterator[Document]:
    """An endless stream of distinct sentences from the docstrings of installed packages, one in each document. After
    all of them (some 360,000 of twelve words) they repeat, with the number of the round appended."""
    root = Path(sysconfig.get_paths()["purelib"])
    least, most = SENTENCE_WORDS
    found: dict[str, None] = {}
    for path in sorted(root.rglob("*.py")):
        for text in module_entries(path):
            for split in map(str.split, SENTENCE_ENDS.split(text)):
                sentence = " ".join(split)
                if least <= len(split) <= most and sentence not in found:
                    found[sentence] = None
                    yield Document(f"1-{len(found)}", sentence)
    for turn in itertools.count(2):
        for number, sentence in enumerate(found, start=1):
            yield Document(f"{turn}-{number}", f"{sentence} ({turn})")
