"""Requests of the API, and the stages of their work."""

from __future__ import annotations

from serve_app.telemetry.catalogue.metric import Counter, Histogram, combined

ROUTES = ("searches", "embeddings", "lookups", "uploads", "other")  # by their traffic
OUTCOMES = ("ok", "rejected", "overloaded", "timeout", "unavailable", "failed", "gone")
LANES = ("interactive", "bulk")

STAGE_SECONDS = Histogram(
    "aidocs_stage_seconds",
    "Time in one stage of a request. tokenize: of a call's texts. queue: of a text, until its forward pass begins. "
    "infer: of a forward pass. search: of a query, in the store and on the way there and back, its wait for a batch "
    "included. rerank: of a search's first hits by a cross-encoder, their wait for its passes included. serialise: of "
    "what a search found, or of an answer with embeddings, into JSON",
    labels=("stage", "lane"),
    series=(
        *combined(("queue", "tokenize", "infer", "serialise"), LANES),
        *combined(("search", "rerank"), ("interactive",)),
    ),
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
PASS_TOKENS = Histogram(
    "aidocs_pass_tokens",
    "Tokens of one forward pass. real: the texts' own. padded: what is computed, each text as long as the longest or a "
    "little longer",
    labels=("counted",),
    series=combined(("real", "padded")),
    buckets=(16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536),
)
REQUESTS = Counter(
    "aidocs_requests_total",
    "Requests of the API answered. rejected: the client's fault (4xx). overloaded: refused, nothing was done (429). "
    "timeout: 504. unavailable: 503. failed: 500. gone: the client left before the answer",
    labels=("route", "outcome"),
    series=combined(ROUTES, OUTCOMES),
)
