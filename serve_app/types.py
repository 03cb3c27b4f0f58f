"""The data types that all packages use (DESIGN §2). Types of a search are in query_types. All are frozen and do no
I/O. This module imports nothing of ours but errors."""

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
POINT_NAMESPACE = uuid.UUID("5c1d3c0e-6f0b-5a57-9d3e-8f1f7b1f2a11")  # never change it: all stored ids depend on it


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request. Every request has a principal; in development mode it is `LOCAL_PRINCIPAL`."""

    tenant: str
    subject: str
    roles: frozenset[str] = frozenset()

    def scope(self, collection: str) -> Scope:
        """The tenant's collection of that name. Every store method takes a Scope instead of a collection's name, so
        no code can forget the tenant."""
        return Scope(self.tenant, collection)


LOCAL_PRINCIPAL = Principal("local", "developer", frozenset({"admin"}))


def job_principal(tenant: str, job: str) -> Principal:
    """The principal of a batch job, with all rights in one tenant. job: its module, for example `jobs.index`."""
    return Principal(tenant, job, frozenset({"admin"}))


class Lane(StrEnum):
    """The priority of a text. A user waits for an interactive text; nobody waits for a text of a bulk upload."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Scope:
    """A collection of a tenant. Each name has 1 to 63 letters, digits, `.`, `_` or `-` and begins with a letter or
    digit, so it is safe as a folder's name. Raises InvalidInput for any other name.

    index: the name of an index of the collection; "" means the active index, as in every request. Each store turns ""
    into a name in one place, and all code below that place requires a name."""

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
        """The scope of this index of the collection; "" means the active index."""
        return Scope(self.tenant, self.collection, index)


@dataclass(frozen=True, slots=True)
class Document:
    """What a user puts in. `id` is unique in its collection. `subject` names the person that the document is about;
    it may be empty."""

    id: str
    text: str
    title: str = ""
    url: str = ""
    metadata: JsonObject = field(default_factory=dict)
    subject: str = ""

    @property
    def metadata_bytes(self) -> int:
        """Size of the metadata as JSON; 0 if it is not JSON and so cannot be stored."""
        try:
            return len(orjson.dumps(dict(self.metadata)))
        except orjson.JSONEncodeError:
            return 0


@dataclass(frozen=True, slots=True)
class ListedDocument:
    """A document without its text, which can be megabytes long."""

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
        """The input of the engine and of BM25: the title, the path of headings and the text, each on its own line."""
        path = " > ".join(heading for heading in self.headings if heading != title)
        return "\n".join(part for part in (title, path, self.text) if part)


@dataclass(frozen=True, slots=True, eq=False)
class SparseVector:
    """Non-zero entries only. indices: (k,) uint32, unique; values: (k,) float32."""

    indices: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """vectors: (n, dim) float32, unit length; tokens: (n,) int32, tokens of each text after truncation."""

    vectors: Vector
    tokens: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class VectorSpace:
    """Two vectors can be compared if they are of the same space. A collection keeps the space that it was made with. A
    write or query with another space raises Conflict. Precision is not part of it: int8 and fp32 vectors of one model
    can be compared."""

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
    """How the vectors of an index are made. max_tokens and overlap_tokens are those of the chunking. They and precision
    are None in an index that its first write made; then the settings of each writer apply."""

    space: VectorSpace
    max_tokens: int | None = None
    overlap_tokens: int | None = None
    precision: str | None = None

    @property
    def index_name(self) -> str:
        """The model's short name and 8 hex digits of a hash of the recipe. Equal recipes have equal names."""
        short = re.sub(r"[^A-Za-z0-9._-]|^[^A-Za-z0-9]+", "", self.space.model.rsplit("/", 1)[-1])[:40]
        digest = hashlib.blake2b(json.dumps(asdict(self), sort_keys=True).encode(), digest_size=4)
        return f"{short}-{digest.hexdigest()}".lstrip("-")


class Quantization(StrEnum):
    """Compressed vectors that a store searches before it reads the float32 vectors: 8 bits (INT8), 1 bit (BINARY) or
    4 bits (TURBO) a dimension.

    TurboQuant rotates vectors at random, so that every dimension has the same known distribution, and uses the best
    quantiser for that distribution. Source: Zandieh et al., TurboQuant, 2025 (arXiv 2504.19874)."""

    NONE = "none"
    INT8 = "int8"
    BINARY = "binary"
    TURBO = "turbo"


FIRST_INDEX = "first"  # the index that a collection's first write makes


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index of a collection. scope: includes the index's name."""

    scope: Scope
    recipe: Recipe
    is_active: bool


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """Which version of a document is stored. fingerprint: None while the document is being written, or if the write was
    interrupted. passages: upper bound of the passages that are stored."""

    document_id: str
    fingerprint: str | None
    passages: int


@dataclass(frozen=True, slots=True)
class InventoryPage:
    """One page of an inventory. `cursor` is None on the last page."""

    documents: tuple[StoredVersion, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True, eq=False)
class IndexedPassage:
    """A passage with its vectors. dense: (dim,) float32; digest: hash of the text that was embedded
    (`documents.reuse.digest`), "" if it is not known."""

    passage: Passage
    dense: Vector
    sparse: SparseVector
    digest: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class IndexedDocument:
    """A document with its passages and vectors, ready to be stored. `fingerprint` changes if and only if storing the
    document again would change the index."""

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
    """One page of a listing. `cursor` is None on the last page."""

    documents: tuple[ListedDocument, ...]
    cursor: str | None
