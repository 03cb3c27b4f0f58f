"""Documents and collections."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from serve_app.api.schemas.body import Answer, Body
from serve_app.types import Document
from serve_app.validation import ID_PATTERN, MAX_ID_CHARS, MAX_SUBJECT_CHARS, MAX_TITLE_CHARS, MAX_URL_CHARS


class DocumentBody(Body):
    """`subject` names the person the document is about, if any."""

    id: str = Field(
        min_length=1,
        max_length=MAX_ID_CHARS,
        pattern=ID_PATTERN,
        description="Unique in its collection; no control characters",
    )
    text: str
    title: str = Field("", max_length=MAX_TITLE_CHARS)
    url: str = Field("", max_length=MAX_URL_CHARS)
    metadata: dict[str, Any] = Field({}, description="Any JSON; found by filters, counted by facets")
    subject: str = Field("", max_length=MAX_SUBJECT_CHARS)

    def to_document(self) -> Document:
        return Document(self.id, self.text, self.title, self.url, self.metadata, self.subject)


class UploadRequest(Body):
    """A document whose id exists replaces the former one; one that has not changed costs nothing."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "documents": [
                        {
                            "id": "handbook/keys.md",
                            "title": "Rotating keys",
                            "text": "Keys are rotated every 90 days. Run `keys rotate` and restart nothing.",
                            "url": "https://intranet.example/handbook/keys",
                            "metadata": {"team": "platform", "year": 2026},
                        }
                    ]
                }
            ]
        }
    )

    documents: list[DocumentBody] = Field(min_length=1, fail_fast=True)


class FailedDocumentAnswer(Answer):
    id: str
    error: str


class UploadAnswer(Answer):
    """`failed` documents are not in the index; all others are, and are found from now on."""

    indexed: int
    passages: int
    unchanged: int
    failed: list[FailedDocumentAnswer]


class ListedDocumentAnswer(Answer):
    id: str
    title: str
    url: str
    metadata: dict[str, Any]
    subject: str


class DocumentAnswer(ListedDocumentAnswer):
    text: str


class DocumentPageAnswer(Answer):
    """Pass `cursor` to go on; null after the last page."""

    documents: list[ListedDocumentAnswer]
    cursor: str | None


class CollectionAnswer(Answer):
    name: str
    documents: int
    passages: int


class CollectionsAnswer(Answer):
    collections: list[CollectionAnswer]


class DeletedAnswer(Answer):
    """How many documents there were and are no more; 0 where they could not be counted."""

    deleted: int
