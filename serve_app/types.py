"""The nouns of ai-docs (DESIGN §2); those of a search are in query_types. Plain frozen data: no I/O, nothing of ours
imported but errors."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import orjson

from serve_app.errors import Conflict, InvalidInput

JsonScalar = str | int | float | bool | None
JsonValue = JsonScalar | list["JsonValue"] | dict[str, "JsonValue"]
JsonObject = Mapping[str, JsonValue]
Vector = npt.NDArray[np.float32]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
POINT_NAMESPACE = uuid.UUID("5c1d3c0e-6f0b-5a57-9d3e-8f1f7b1f2a11")  # ours; never change: ids depend on it


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. Every request has one; in development mode it is `LOCAL_PRINCIPAL`."""

    tenant: str
    subject: str
    roles: frozenset[str] = frozenset()

    def scope(self, collection: str) -> Scope:
        """The tenant's own collection of that name. The only way from a request to stored data, so that the
        tenant cannot be forgotten: every store method takes a Scope and none takes a collection's name."""
        return Scope(self.tenant, collection)


LOCAL_PRINCIPAL = Principal("local", "developer", frozenset({"admin"}))


def job_principal(tenant: str, job: str) -> Principal:
    """A batch job's own principal, with all rights in one tenant. job: as `jobs.index`."""
    return Principal(tenant, job, frozenset({"admin"}))


class Lane(StrEnum):
    """Whom the engine serves first: somebody waits for an interactive text, nobody for one of a bulk upload."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Scope:
    """One tenant's one collection. Raises InvalidInput if a name has other than 1–63 letters, digits, `.`, `_`,
    `-`, or does not begin with a letter or digit (so it is safe as a folder's name).

    index: the name of one of the collection's indexes, active or not; "" for the active index, as in every request.
    Each store turns "" into a name in one place, and all code below that place requires a name."""

    tenant: str
    collection: str
    index: str = ""

    def __post_init__(self) -> None:
        names = {"tenant": self.tenant, "collection": self.collection} | ({"index": self.index} if self.index else {})
        for kind, name in names.items():
            if not NAME.fullmatch(name):
                raise InvalidInput(
                    f"{name[:80]!r} is not a {kind} name: 1 to 63 letters, digits, '.', '_' or '-', "
                    "the first a letter or digit"
                )

    def at(self, index: str) -> Scope:
        """This index of the collection; "" for the active one."""
        return Scope(self.tenant, self.collection, index)


@dataclass(frozen=True, slots=True)
class Document:
    """What a user puts in. `id` is unique in its collection; `subject` names the person it is about, if any."""

    id: str
    text: str
    title: str = ""
    url: str = ""
    metadata: JsonObject = field(default_factory=dict)
    subject: str = ""

    @property
    def metadata_bytes(self) -> int:
        """As JSON; 0 for what cannot be stored at all."""
        try:
            return len(orjson.dumps(dict(self.metadata)))
        except orjson.JSONEncodeError:
            return 0


@dataclass(frozen=True, slots=True)
class ListedDocument:
    """A document without its text, which can have megabytes."""

    id: str
    title: str
    url: str
    metadata: JsonObject
    subject: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document, the unit of embedding and search. `number` counts from 0 within the document."""

    number: int
    text: str
    headings: tuple[str, ...] = ()
    tokens: int = 0

    def embedded_text(self, title: str) -> str:
        """What the engine and BM25 see: the title, the path of headings, then the text, a line each."""
        path = " > ".join(heading for heading in self.headings if heading != title)
        return "\n".join(part for part in (title, path, self.text) if part)


@dataclass(frozen=True, slots=True, eq=False)
class SparseVector:
    """Non-zero entries only. indices: (k,) uint32, unique; values: (k,) float32."""

    indices: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """vectors: (n, dim) float32, unit length; tokens: (n,) int32, what each text cost after truncation."""

    vectors: Vector
    tokens: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class VectorSpace:
    """What makes two vectors comparable. A collection keeps the space it was made with; a write or a query from
    another one raises Conflict. Precision is not in it: int8 and fp32 of one model are comparable."""

    model: str
    revision: str
    dim: int


def not_served(space: VectorSpace) -> Conflict:
    return Conflict(
        f"the index was made with model {space.model} (revision {space.revision}, {space.dim} dimensions), which is "
        "not loaded here: add it to AIDOCS_EMBEDDING__FURTHER_MODELS, reindex the collection (python -m jobs.reindex), "
        "or use another collection"
    )


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an index is made with. max_tokens, overlap_tokens (of the chunking) and precision are None in an index that
    was made by its first write: there the writer's settings apply."""

    space: VectorSpace
    max_tokens: int | None = None
    overlap_tokens: int | None = None
    precision: str | None = None

    @property
    def index_name(self) -> str:
        """The model's short name and 8 hex digits of all: the same recipe, the same name."""
        short = re.sub(r"[^A-Za-z0-9._-]|^[^A-Za-z0-9]+", "", self.space.model.rsplit("/", 1)[-1])[:40]
        digest = hashlib.blake2b(json.dumps(asdict(self), sort_keys=True).encode(), digest_size=4)
        return f"{short}-{digest.hexdigest()}".lstrip("-")


class Quantization(StrEnum):
    """Codes that a store keeps beside the float32 vectors and searches first: 8 bits, 1 bit or 4 bits a dimension.

    TurboQuant rotates at random, so that each dimension has one and the same known distribution, and takes the
    quantiser that is best for it. Source: Zandieh et al., TurboQuant, 2025 (arXiv 2504.19874)."""

    NONE = "none"
    INT8 = "int8"
    BINARY = "binary"
    TURBO = "turbo"


FIRST_INDEX = "first"  # of every collection, made by its first write


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """One index of a collection. scope: with its name."""

    scope: Scope
    recipe: Recipe
    is_active: bool


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """Which version of a document is stored. fingerprint: None while it is being written, or if that was cut off.
    passages: at most so many are stored."""

    document_id: str
    fingerprint: str | None
    passages: int


@dataclass(frozen=True, slots=True)
class InventoryPage:
    """One page of an inventory. `cursor` is None on the last."""

    documents: tuple[StoredVersion, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True, eq=False)
class IndexedPassage:
    """A passage with its vectors. dense: (dim,) float32; digest: of the text that it was made of
    (`documents.reuse.digest`), "" where that is not known."""

    passage: Passage
    dense: Vector
    sparse: SparseVector
    digest: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class IndexedDocument:
    """A document ready to be stored. `fingerprint` changes if and only if storing it again would change the index."""

    document: Document
    fingerprint: str
    passages: tuple[IndexedPassage, ...]


def document_point_id(scope: Scope, document_id: str) -> str:
    """UUIDv5 of tenant, collection and document: the same input gives the same id on every machine."""
    return str(uuid.uuid5(POINT_NAMESPACE, "\x1f".join((scope.tenant, scope.collection, document_id))))


def passage_point_id(scope: Scope, document_id: str, number: int) -> str:
    """UUIDv5 of tenant, collection, document and the passage's number."""
    return str(uuid.uuid5(POINT_NAMESPACE, "\x1f".join((scope.tenant, scope.collection, document_id, str(number)))))


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    name: str
    documents: int
    passages: int
    space: VectorSpace


@dataclass(frozen=True, slots=True)
class ListingPage:
    """One page of a listing. `cursor` is None on the last."""

    documents: tuple[ListedDocument, ...]
    cursor: str | None
