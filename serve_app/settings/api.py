"""Settings of the API: limits."""

from __future__ import annotations

from typing import Self

from pydantic import PositiveFloat, PositiveInt, model_validator

from serve_app.settings.section import MIB, Section

ADAPTIVE_KINDS = (
    3  # searches, embedding requests and lookups: each kind of request has its own limit of max_concurrency
)


class ApiSettings(Section):
    """Limits of one request, and of the requests that a replica works on at once. A request beyond a limit gets an
    error; nothing is truncated."""

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
    """Largest `limit` of a search."""
    max_offset: PositiveInt = 10_000
    """Largest `offset` of a search."""
    max_facets: PositiveInt = 10
    """Most facet fields in one search."""
    max_filter_depth: PositiveInt = 8
    """Deepest nesting of a filter."""
    max_filter_conditions: PositiveInt = 256
    """Most conditions in one filter."""
    max_metadata_bytes: PositiveInt = 64 * 1024
    """Largest metadata of one document, as JSON."""
    request_timeout_s: PositiveFloat = 30.0
    """Longest that a request other than an upload may take. A client can shorten it with `X-Request-Timeout-Ms`."""
    upload_timeout_s: PositiveFloat = 300.0
    """Longest that an upload may take."""
    health_timeout_s: PositiveFloat = 3.0
    """Longest that `/health/ready` waits for each component it checks."""
    min_concurrency: PositiveInt = 64
    """Concurrent requests of each kind (searches, embedding requests, lookups) that a replica always admits. It should
    be enough to fill a micro-batch."""
    max_concurrency: PositiveInt = 192
    """Highest value of that limit, which grows while latency stays low. Requests beyond it are refused with 429."""
    max_concurrent_uploads: PositiveInt = 4
    """Most concurrent uploads in a replica."""
    texts_per_slot: PositiveInt = 64
    """Number of texts in one embedding request that counts as one request towards the limit."""
    queries_per_slot: PositiveInt = 4
    """Number of queries in one `search:batch` that counts as one search towards the limit."""

    @model_validator(mode="after")
    def concurrency_is_in_order(self) -> Self:
        if self.min_concurrency > self.max_concurrency:
            raise ValueError("min_concurrency is above max_concurrency")
        return self

    @property
    def most_admitted(self) -> int:
        """Most concurrent requests of all kinds: those with an adaptive limit, and uploads."""
        return ADAPTIVE_KINDS * self.max_concurrency + self.max_concurrent_uploads
