"""A passage whose text was embedded before keeps its vector, wherever in its document it is now. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from serve_app.types import IndexedDocument, Vector

DIGEST_BYTES = 8  # the passages of one document are told apart by it, not those of a collection


def digest(text: str) -> str:
    """16 hex digits (BLAKE2b) of a text that is embedded."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).hexdigest()


def known_vectors(digests: Sequence[str], *stored: IndexedDocument | None) -> list[Vector | None]:
    """For each digest the vector that one of the document's stored versions has of this text, all of one model; None
    where it must be embedded."""
    known = {item.digest: item.dense for each in stored if each for item in each.passages}
    return [known.get(one) if one else None for one in digests]
