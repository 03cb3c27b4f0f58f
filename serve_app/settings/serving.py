"""Micro-batches, and what Ray Serve runs."""

from __future__ import annotations

from typing import Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from serve_app.settings.section import Section


class BatchingSettings(Section):
    """Micro-batches at the gateway: what waits when a worker is free goes together, up to these limits."""

    max_embed_texts: PositiveInt = 64  # in one batch to the pool, as the next two; a local engine composes its passes
    max_embed_chars: PositiveInt = 65_536
    embed_concurrency: PositiveInt | None = None  # batches of each lane at once; None = 2 per embedder
    max_queries: PositiveInt = 64
    query_concurrency: PositiveInt = 2  # batches on their way to the store at once
    max_waiting: PositiveInt = 4_096  # texts in each lane, and queries; beyond it: 429


class ServingSettings(Section):
    """Serve's own knobs. Bounds, target and delays of the autoscaling are for each deployment."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65_535)
    min_replicas: PositiveInt = 1
    max_replicas: PositiveInt = 4
    target_ongoing_requests: PositiveFloat = 32.0
    max_ongoing_requests: PositiveInt = 640  # more than the API admits: it is what refuses, and health gets through
    max_queued_requests: PositiveInt = 1_024
    upscale_delay_s: float = Field(5.0, ge=0)
    downscale_delay_s: float = Field(60.0, ge=0)
    max_surge_percent: int = Field(100, ge=1, le=100)
    graceful_shutdown_timeout_s: PositiveFloat = 310.0  # how long a replica may finish what it has begun
    health_check_period_s: PositiveFloat = 5.0
    health_check_timeout_s: PositiveFloat = 10.0
    gateway_cpus: PositiveFloat = 0.1  # what a replica reserves; it uses what is free
    embedder_cpus: PositiveFloat = 1.0
    embedder_gpus: float = Field(0.0, ge=0)
    embedder_min_replicas: PositiveInt = 1
    embedder_max_replicas: PositiveInt = 2
    embedder_target_ongoing_requests: PositiveFloat = 1.5  # batches, not requests

    @model_validator(mode="after")
    def bounds_are_in_order(self) -> Self:
        for least, most in (("min_replicas", "max_replicas"), ("embedder_min_replicas", "embedder_max_replicas")):
            if getattr(self, least) > getattr(self, most):
                raise ValueError(f"{least} is above {most}")
        return self
