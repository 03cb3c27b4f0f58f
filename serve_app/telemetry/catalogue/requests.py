"""Metrics of API requests and of the stages of their work."""

from __future__ import annotations

from serve_app.telemetry.catalogue.metric import Counter, Histogram, combined

ROUTES = ("searches", "embeddings", "lookups", "uploads", "other")  # groups of routes with similar traffic
OUTCOMES = ("ok", "rejected", "overloaded", "timeout", "unavailable", "failed", "gone")
LANES = ("interactive", "bulk")

STAGE_SECONDS = Histogram(
    "aidocs_stage_seconds",
    "Time in one stage of a request. tokenize: tokenizing the texts of one call. queue: the wait of one text for its "
    "forward pass. infer: one forward pass. search: one query in the store, with the wait for a batch and the transfer "
    "to the store and back. rerank: reranking the first hits of one search with a cross-encoder, with the wait for a "
    "forward pass. serialise: turning search results or embeddings into JSON",
    labels=("stage", "lane"),
    series=(
        *combined(("queue", "tokenize", "infer", "serialise"), LANES),
        *combined(("search", "rerank"), ("interactive",)),
    ),
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
PASS_TOKENS = Histogram(
    "aidocs_pass_tokens",
    "Tokens in one forward pass. real: tokens of the texts. padded: tokens that are computed, because each text is "
    "padded to the length of the longest or a little more",
    labels=("counted",),
    series=combined(("real", "padded")),
    buckets=(16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536),
)
REQUESTS = Counter(
    "aidocs_requests_total",
    "Completed API requests. rejected: client errors (4xx). overloaded: refused without any work (429). timeout: 504. "
    "unavailable: 503. failed: 500. gone: the client disconnected before the response",
    labels=("route", "outcome"),
    series=combined(ROUTES, OUTCOMES),
)
