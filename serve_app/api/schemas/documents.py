"""Bodies of documents and collections."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from serve_app.api.schemas.body import Answer, Body
from serve_app.types import Document
from serve_app.validation import ID_PATTERN, MAX_ID_CHARS, MAX_SUBJECT_CHARS, MAX_TITLE_CHARS, MAX_URL_CHARS


class DocumentBody(Body):
    """One document."""

    id: str = Field(
        min_length=1,
        max_length=MAX_ID_CHARS,
        pattern=ID_PATTERN,
        description="Unique in its collection; no control characters",
    )
    text: str = Field(description="Markdown or plain text")
    title: str = Field("", max_length=MAX_TITLE_CHARS, description="Embedded with each passage")
    url: str = Field("", max_length=MAX_URL_CHARS, description="Where people find the document; returned with each hit")
    metadata: dict[str, Any] = Field({}, description="Any JSON object, for filters, facets and grouping")
    subject: str = Field("", max_length=MAX_SUBJECT_CHARS, description="The person whom the document is about, if any")

    def to_document(self) -> Document:
        return Document(self.id, self.text, self.title, self.url, self.metadata, self.subject)


class UploadRequest(Body):
    """A document replaces the stored one with the same id. An unchanged document is skipped."""

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
    """All documents except the failed ones can be searched now."""

    indexed: int = Field(description="Documents that were new or had changed")
    passages: int = Field(description="Passages of these")
    unchanged: int = Field(description="Documents that were stored already")
    failed: list[FailedDocumentAnswer] = Field(description="Documents that could not be indexed, with the reason")


class ListedDocumentAnswer(Answer):
    id: str
    title: str
    url: str
    metadata: dict[str, Any]
    subject: str


class DocumentAnswer(ListedDocumentAnswer):
    text: str


class DocumentPageAnswer(Answer):
    """One page of documents. Pass `cursor` for the next one; it is null after the last page."""

    documents: list[ListedDocumentAnswer]
    cursor: str | None


class CollectionAnswer(Answer):
    name: str
    documents: int
    passages: int


class CollectionsAnswer(Answer):
    collections: list[CollectionAnswer]


class DeletedAnswer(Answer):
    """How many documents were deleted; 0 if they could not be counted."""

    deleted: int
