"""Limits of one request."""

from __future__ import annotations

from typing import Self

from pydantic import PositiveFloat, PositiveInt, model_validator

from serve_app.settings.section import MIB, Section

ADAPTIVE_KINDS = 3  # of requests, each with a limit of max_concurrency: searches, embedding requests, lookups


class ApiSettings(Section):
    """Limits of one request; beyond them a clear error, never a truncation."""

    max_body_bytes: PositiveInt = 16 * MIB
    max_body_values: PositiveInt = 200_000  # JSON values in one body, the nested ones too: parsing them takes the loop
    max_texts: PositiveInt = 2_048  # in one /v1/embeddings call
    max_documents: PositiveInt = 1_000  # in one upload
    max_document_chars: PositiveInt = 4_000_000
    max_text_chars: PositiveInt = 100_000  # of one text to embed
    max_query_chars: PositiveInt = 8_192
    max_queries: PositiveInt = 100  # in one search:batch
    max_limit: PositiveInt = 200  # hits of one search
    max_offset: PositiveInt = 10_000
    max_facets: PositiveInt = 10
    max_filter_depth: PositiveInt = 8
    max_filter_conditions: PositiveInt = 256
    max_metadata_bytes: PositiveInt = 64 * 1024  # of one document, as JSON
    request_timeout_s: PositiveFloat = 30.0
    upload_timeout_s: PositiveFloat = 300.0
    health_timeout_s: PositiveFloat = 3.0  # for each part that /health/ready asks
    min_concurrency: PositiveInt = 64  # of searches, embedding requests, lookups each: fills a micro-batch
    max_concurrency: PositiveInt = 192  # how far that grows while latency stays low; beyond it 429
    max_concurrent_uploads: PositiveInt = 4
    texts_per_slot: PositiveInt = 64  # of one embedding request that weigh as much as a request of one
    queries_per_slot: PositiveInt = 4  # of one search:batch that weigh as much as one search

    @model_validator(mode="after")
    def concurrency_is_in_order(self) -> Self:
        if self.min_concurrency > self.max_concurrency:
            raise ValueError("min_concurrency is above max_concurrency")
        return self

    @property
    def most_admitted(self) -> int:
        """Requests at work at once, of all kinds: adaptive ones, which have a limit each, and uploads."""
        return ADAPTIVE_KINDS * self.max_concurrency + self.max_concurrent_uploads
