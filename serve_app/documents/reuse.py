"""Finds stored vectors for passages whose text has not changed, even if they moved within their document. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from serve_app.types import IndexedDocument, Vector

DIGEST_BYTES = 8  # digests distinguish only the passages of one document, not those of a collection


def digest(text: str) -> str:
    """BLAKE2b of an embedded text, as 16 hex digits."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).hexdigest()


def known_vectors(digests: Sequence[str], *stored: IndexedDocument | None) -> list[Vector | None]:
    """For each digest, the vector of that text in one of the document's stored versions; None if the text must be
    embedded. All stored versions must come from the same model."""
    known = {item.digest: item.dense for each in stored if each for item in each.passages}
    return [known.get(one) if one else None for one in digests]
