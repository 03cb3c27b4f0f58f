"""Real text that every machine has: the demo's documents, and questions cut out of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from serve_app.documents.chunking import chunk
from serve_app.documents.python_packages import python_package_documents
from serve_app.ports import Tokenizer
from serve_app.settings import ChunkingSettings
from serve_app.types import Document

SEED = 20_260_101


def documents(count: int) -> list[Document]:
    """The first `count`; the order is stable for one environment."""
    return list(itertools.islice(python_package_documents(), count))


def passages(count: int, tokenizer: Tokenizer) -> list[str]:
    """`count` passages as the engine sees them, drawn evenly from all documents, lengths as they come."""
    texts = [
        passage.embedded_text(document.title)
        for document in python_package_documents()
        for passage in chunk(document.text, title=document.title, tokenizer=tokenizer, settings=ChunkingSettings())
    ]
    return random.Random(SEED).sample(texts, min(count, len(texts)))


def queries(source: Sequence[Document], count: int) -> list[str]:
    """Distinct runs of 3 to 9 words of the documents."""
    rng = random.Random(SEED)
    words = [document.text.split() for document in source]
    words = [w for w in words if len(w) >= 9]
    found: dict[str, None] = {}
    while len(found) < count:
        of = rng.choice(words)
        length = rng.randint(3, 9)
        at = rng.randrange(len(of) - length + 1)
        found[" ".join(of[at : at + length])] = None
    return list(found)
