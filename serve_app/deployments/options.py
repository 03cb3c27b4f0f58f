"""Serve's options for each deployment, derived from the settings."""

from __future__ import annotations

from typing import Any

from ray.serve.config import AutoscalingConfig, BackpressureConfig
from ray.serve.schema import LoggingConfig

from serve_app.settings import EmbeddingSettings, ServingSettings, Settings


def shared(settings: ServingSettings) -> dict[str, Any]:
    """Options that all deployments have in common: queues, draining, health checks and surge during rollouts."""
    return {
        "max_ongoing_requests": settings.max_ongoing_requests,
        "max_queued_requests": settings.max_queued_requests,
        "backpressure_config": BackpressureConfig(status_code=429, retry_after_s=1),
        "graceful_shutdown_timeout_s": settings.graceful_shutdown_timeout_s,
        "health_check_period_s": settings.health_check_period_s,
        "health_check_timeout_s": settings.health_check_timeout_s,
        "max_surge_percent": settings.max_surge_percent,  # a rollout starts new replicas before it stops old ones
        "logging_config": LoggingConfig(enable_access_log=False),
    }


def autoscaling(settings: ServingSettings, least: int, most: int, target_ongoing_requests: float) -> AutoscalingConfig:
    return AutoscalingConfig(
        min_replicas=least,
        max_replicas=most,
        target_ongoing_requests=target_ongoing_requests,
        upscale_delay_s=settings.upscale_delay_s,
        downscale_delay_s=settings.downscale_delay_s,
        metrics_interval_s=1.0,
        look_back_period_s=max(2.0, settings.upscale_delay_s),
    )


def gateway(settings: ServingSettings) -> dict[str, Any]:
    return {
        "name": "gateway",
        "ray_actor_options": {"num_cpus": settings.gateway_cpus},
        "autoscaling_config": autoscaling(
            settings, settings.min_replicas, settings.max_replicas, settings.target_ongoing_requests
        ),
        **shared(settings),
    }


def embedder_threads(settings: Settings) -> EmbeddingSettings:
    """Settings for the engine in a pool's replica. By default it uses as many threads as the replica reserves CPUs,
    because other replicas may run on the same machine."""
    threads = settings.embedding.threads or max(1, int(settings.serving.embedder_cpus))
    return settings.embedding.model_copy(update={"threads": threads})


def embedder(settings: ServingSettings, number: int = 0) -> dict[str, Any]:
    """number: position of the model in the settings, from 0."""
    return {
        "name": f"embedder-{number}" if number else "embedder",
        "ray_actor_options": {"num_cpus": settings.embedder_cpus, "num_gpus": settings.embedder_gpus},
        "autoscaling_config": autoscaling(
            settings,
            settings.embedder_min_replicas,
            settings.embedder_max_replicas,
            settings.embedder_target_ongoing_requests,
        ),
        **shared(settings),
    }
