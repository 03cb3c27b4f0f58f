"""What an entry is found by: 32-byte BLAKE2b digests of everything that can change the payload. Pure.

Parts are joined each behind its length, so that no two different lists of parts give the same bytes; the kind of
entry is BLAKE2b's `person`, so that keys of different kinds never meet.
"""

from __future__ import annotations

import hashlib

from serve_app.types import Scope, VectorSpace

KEY_BYTES = 32
EMBEDDING = b"aidocs-embed-2"  # at most 16 bytes; count up when a payload's format or the engine's arithmetic changes
RESULT = b"aidocs-result-3"
VERSION = b"aidocs-version1"


def embedding_key(space: VectorSpace, arithmetic: str, text: str) -> bytes:
    """The vector of `text`. Content-addressed: whoever asks for the same text by the same model shares it.
    arithmetic: the engine's name and precision."""
    return digest(EMBEDDING, space.model, space.revision, str(space.dim), arithmetic, text)


def result_key(scope: Scope, request: bytes, release: str, version: bytes) -> bytes:
    """The answer to one search. The tenant is part of it, so no two tenants share an entry.

    request: canonical bytes of all that the request asks for. release: name of the process's own. version: the
    collection's, which every write changes, so that an answer from before a write is not found after it."""
    return digest(RESULT, scope.tenant, scope.collection, request, release, version)


def version_key(scope: Scope) -> bytes:
    """Where processes look up a collection's version. Shows no tenant's name."""
    return digest(VERSION, scope.tenant, scope.collection, scope.index)


def digest(person: bytes, *parts: str | bytes) -> bytes:
    joined = hashlib.blake2b(digest_size=KEY_BYTES, person=person)
    for part in parts:  # a lone surrogate is a text like any other
        content = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        joined.update(len(content).to_bytes(8, "little"))
        joined.update(content)
    return joined.digest()
