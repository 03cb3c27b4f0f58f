"""Bodies of `/v1/embeddings` and `/v1/models`: OpenAI's fields and our additions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from serve_app.api.schemas.body import Answer, Body


def text_or_texts(value: Any) -> Any:
    """A list of texts. Refuses token ids, which OpenAI accepts: they refer to OpenAI's tokenizers, not to ours."""
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, int) or (isinstance(first, list) and first and isinstance(first[0], int)):
        raise PydanticCustomError("token_ids", "Token ids are not supported; send the text itself")
    return [value] if isinstance(value, str) else value


Texts = Annotated[
    list[str],
    Field(min_length=1, fail_fast=True),
    BeforeValidator(text_or_texts, json_schema_input_type=str | Annotated[list[str], Field(min_length=1)]),
]


class EmbeddingsRequest(Body):
    """OpenAI's request with two more fields, `sparse` and `output_dtype`.

    `output_dtype` int8: each component times 127, rounded. binary: one bit per dimension, 1 if it is positive, 8 bits
    in a byte, the first in the highest bit, zeros after the last. With `encoding_format` base64, an embedding is one
    string that encodes the vector's bytes (float32 little-endian, int8 or uint8).
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "all-MiniLM-L6-v2", "input": ["How do I rotate keys?"]}]}
    )

    input: Texts
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(
        None, ge=1, description="Return only the first dimensions, scaled to unit length again"
    )
    user: str | None = Field(None, description="Accepted for compatibility with OpenAI, not used")
    sparse: bool = Field(False, description="Add BM25 weights")
    output_dtype: Literal["float32", "int8", "binary"] = "float32"


class SparseWeights(Answer):
    indices: list[int]
    values: list[float]


class EmbeddingItem(Answer):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    sparse: SparseWeights | None = None


class TokenUsage(Answer):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(Answer):
    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: TokenUsage


class ModelAnswer(Answer):
    """`created`: start of this replica, in seconds since 1970."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsAnswer(Answer):
    object: Literal["list"]
    data: list[ModelAnswer]
