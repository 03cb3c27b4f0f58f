"""Settings of micro-batches and of Ray Serve."""

from __future__ import annotations

from typing import Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from serve_app.settings.section import Section


class BatchingSettings(Section):
    """Micro-batches in the gateway. Requests waiting when a worker becomes free form one batch, up to these limits."""

    max_embed_texts: PositiveInt = 64
    """Most texts in one batch to the embedder pool. An engine in the gateway composes its own forward passes."""
    max_embed_chars: PositiveInt = 65_536
    """Most characters in one batch to the embedder pool."""
    embed_concurrency: PositiveInt | None = None
    """Concurrent batches to the embedder pool, for interactive and bulk texts each. Unset: 2 for each embedder."""
    max_queries: PositiveInt = 64
    """Most queries in one batch to the store."""
    query_concurrency: PositiveInt = 2
    """Concurrent batches to the store."""
    max_waiting: PositiveInt = 4_096
    """Most texts of each lane (interactive, bulk), and most queries, that may wait for a batch. Requests beyond it are
    refused with 429."""


class ServingSettings(Section):
    """Ray Serve. Delays, queue limits, health checks and the rolling update apply to every deployment."""

    host: str = "127.0.0.1"
    """Address that the API listens on."""
    port: int = Field(8000, ge=1, le=65_535)
    """Port that the API listens on."""
    min_replicas: PositiveInt = 1
    """Fewest gateway replicas."""
    max_replicas: PositiveInt = 4
    """Most gateway replicas."""
    target_ongoing_requests: PositiveFloat = 32.0
    """Ongoing requests in each gateway replica that autoscaling aims for."""
    max_ongoing_requests: PositiveInt = 640
    """Most concurrent requests that Serve sends to a gateway replica. It must exceed what the API admits, so that the
    replica itself refuses the excess and health checks still get through."""
    max_queued_requests: PositiveInt = 1_024
    """Most requests that may wait in Serve for a replica."""
    upscale_delay_s: float = Field(5.0, ge=0)
    """How long load must be high before replicas are added."""
    downscale_delay_s: float = Field(60.0, ge=0)
    """How long load must be low before replicas are removed."""
    max_surge_percent: int = Field(100, ge=1, le=100)
    """Extra replicas during a rolling update, in percent of the running ones."""
    graceful_shutdown_timeout_s: PositiveFloat = 310.0
    """How long a replica may take to finish its requests before it is stopped. It must exceed both request timeouts."""
    health_check_period_s: PositiveFloat = 5.0
    """Time between Serve's health checks of a replica."""
    health_check_timeout_s: PositiveFloat = 10.0
    """How long Serve waits for a health check."""
    gateway_cpus: PositiveFloat = 0.1
    """CPUs that Ray reserves for a gateway replica. It can use more if they are free."""
    embedder_cpus: PositiveFloat = 1.0
    """CPUs of each embedder in the pool, and threads of its engine."""
    embedder_gpus: float = Field(0.0, ge=0)
    """GPUs of each embedder in the pool."""
    embedder_min_replicas: PositiveInt = 1
    """Fewest embedders in the pool."""
    embedder_max_replicas: PositiveInt = 2
    """Most embedders in the pool."""
    embedder_target_ongoing_requests: PositiveFloat = 1.5
    """Ongoing batches in each embedder that autoscaling aims for."""

    @model_validator(mode="after")
    def bounds_are_in_order(self) -> Self:
        for least, most in (("min_replicas", "max_replicas"), ("embedder_min_replicas", "embedder_max_replicas")):
            if getattr(self, least) > getattr(self, most):
                raise ValueError(f"{least} is above {most}")
        return self
