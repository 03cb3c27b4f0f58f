"""Keys of entries: 32-byte BLAKE2b digests of everything that can change the payload. Pure.

Each part is preceded by its length, so two different lists of parts never give the same bytes. The kind of entry is
BLAKE2b's `person` parameter, so keys of different kinds never collide.
"""

from __future__ import annotations

import hashlib

from serve_app.types import Scope, VectorSpace

KEY_BYTES = 32
# At most 16 bytes. Increase the number when a payload's format or the engine's arithmetic changes.
EMBEDDING = b"aidocs-embed-2"
RESULT = b"aidocs-result-3"
VERSION = b"aidocs-version1"


def embedding_key(space: VectorSpace, arithmetic: str, text: str) -> bytes:
    """Key of the vector of `text`. It depends on the text and the model only, so all tenants share the entry.
    arithmetic: the engine's name and precision."""
    return digest(EMBEDDING, space.model, space.revision, str(space.dim), arithmetic, text)


def result_key(scope: Scope, request: bytes, release: str, version: bytes) -> bytes:
    """Key of the answer to one search. It contains the tenant, so no two tenants share an entry.

    request: canonical bytes of the whole request. release: key of the release that answers. version: the collection's
    version. Every write changes it, so answers from before the write are not found any more."""
    return digest(RESULT, scope.tenant, scope.collection, request, release, version)


def version_key(scope: Scope) -> bytes:
    """Key of an index's version in Redis. It does not reveal the tenant's name."""
    return digest(VERSION, scope.tenant, scope.collection, scope.index)


def digest(person: bytes, *parts: str | bytes) -> bytes:
    joined = hashlib.blake2b(digest_size=KEY_BYTES, person=person)
    for part in parts:  # surrogatepass: a text may contain a lone surrogate
        content = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        joined.update(len(content).to_bytes(8, "little"))
        joined.update(content)
    return joined.digest()
