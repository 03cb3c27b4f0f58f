"""Limits of one request."""

from __future__ import annotations

from typing import Self

from pydantic import PositiveFloat, PositiveInt, model_validator

from serve_app.settings.section import MIB, Section

ADAPTIVE_KINDS = 3  # of requests, each with a limit of max_concurrency: searches, embedding requests, lookups


class ApiSettings(Section):
    """Limits of one request, and how many requests a replica works on at once. A request beyond a limit gets a clear
    error; nothing is ever truncated."""

    max_body_bytes: PositiveInt = 16 * MIB
    """Largest request body."""
    max_body_values: PositiveInt = 200_000
    """Most JSON values in one body, nested ones included. Parsing them occupies the event loop."""
    max_texts: PositiveInt = 2_048
    """Most texts in one call of `/v1/embeddings`."""
    max_documents: PositiveInt = 1_000
    """Most documents in one upload."""
    max_document_chars: PositiveInt = 4_000_000
    """Longest text of one document, in characters."""
    max_text_chars: PositiveInt = 100_000
    """Longest text in a call of `/v1/embeddings`, in characters."""
    max_query_chars: PositiveInt = 8_192
    """Longest search query, in characters."""
    max_queries: PositiveInt = 100
    """Most queries in one call of `search:batch`."""
    max_limit: PositiveInt = 200
    """Most hits that one search may ask for."""
    max_offset: PositiveInt = 10_000
    """Largest `offset` of a search."""
    max_facets: PositiveInt = 10
    """Most fields that one search may ask facets of."""
    max_filter_depth: PositiveInt = 8
    """Deepest nesting of a filter."""
    max_filter_conditions: PositiveInt = 256
    """Most conditions in one filter."""
    max_metadata_bytes: PositiveInt = 64 * 1024
    """Largest metadata of one document, as JSON."""
    request_timeout_s: PositiveFloat = 30.0
    """Longest that a request may take, uploads excepted. A client may ask for less with `X-Request-Timeout-Ms`."""
    upload_timeout_s: PositiveFloat = 300.0
    """Longest that an upload may take."""
    health_timeout_s: PositiveFloat = 3.0
    """Longest that `/health/ready` waits for each part that it checks."""
    min_concurrency: PositiveInt = 64
    """Requests of each kind (searches, embedding requests, lookups) that a replica always admits at once. It should be
    enough to fill a micro-batch."""
    max_concurrency: PositiveInt = 192
    """How far that limit may grow while latency stays low. Requests beyond it are refused with 429."""
    max_concurrent_uploads: PositiveInt = 4
    """Uploads that a replica works on at once."""
    texts_per_slot: PositiveInt = 64
    """Texts of one embedding request that count as one request towards the limit."""
    queries_per_slot: PositiveInt = 4
    """Queries of one `search:batch` that count as one search towards the limit."""

    @model_validator(mode="after")
    def concurrency_is_in_order(self) -> Self:
        if self.min_concurrency > self.max_concurrency:
            raise ValueError("min_concurrency is above max_concurrency")
        return self

    @property
    def most_admitted(self) -> int:
        """Requests at work at once, of all kinds: adaptive ones, which have a limit each, and uploads."""
        return ADAPTIVE_KINDS * self.max_concurrency + self.max_concurrent_uploads
