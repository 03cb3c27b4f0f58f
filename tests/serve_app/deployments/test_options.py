"""Every setting of the serving section reaches Serve, under Serve's name and in its unit."""

from __future__ import annotations

from typing import Any

import pytest
from ray import serve
from ray.serve.config import AutoscalingConfig

from serve_app.deployments import options
from serve_app.settings import EmbeddingSettings, ServingSettings, Settings

ELSEWHERE = {"host", "port"}  # of the proxy, not of a deployment
FOR_ONE = {  # all others are for both
    "min_replicas": options.gateway,
    "max_replicas": options.gateway,
    "target_ongoing_requests": options.gateway,
    "gateway_cpus": options.gateway,
    "embedder_cpus": options.embedder,
    "embedder_gpus": options.embedder,
    "embedder_min_replicas": options.embedder,
    "embedder_max_replicas": options.embedder,
    "embedder_target_ongoing_requests": options.embedder,
}


class Plain: ...


def other(field: str) -> ServingSettings:
    """Settings that differ from the default ones in this field."""
    settings = ServingSettings(min_replicas=2, embedder_min_replicas=2, embedder_max_replicas=4)
    value = getattr(settings, field)
    return settings.model_copy(update={field: value + 1 if field != "max_surge_percent" else 25})


@pytest.mark.parametrize("field", [name for name in ServingSettings.model_fields if name not in ELSEWHERE])
def test_every_setting_reaches_the_deployments_that_it_is_for(field: str) -> None:
    default = ServingSettings(min_replicas=2, embedder_min_replicas=2, embedder_max_replicas=4)
    changed = {of for of in (options.gateway, options.embedder) if of(other(field)) != of(default)}
    assert changed == ({FOR_ONE[field]} if field in FOR_ONE else {options.gateway, options.embedder})


@pytest.mark.parametrize("of", [options.gateway, options.embedder])
def test_serve_takes_them(of: Any) -> None:
    """It refuses an unknown option, and one beside another that excludes it."""
    chosen = of(ServingSettings())
    deployment = serve.deployment(**chosen)(Plain)
    assert deployment.name == chosen["name"] == of.__name__
    assert deployment.max_ongoing_requests == ServingSettings().max_ongoing_requests


def test_values_are_the_settings_own() -> None:
    settings = ServingSettings(
        gateway_cpus=0.5, embedder_cpus=2.0, embedder_gpus=1.0, min_replicas=2, max_replicas=3, upscale_delay_s=7.0
    )
    gateway, embedder = options.gateway(settings), options.embedder(settings)
    assert gateway["ray_actor_options"] == {"num_cpus": 0.5}
    assert embedder["ray_actor_options"] == {"num_cpus": 2.0, "num_gpus": 1.0}
    scaling: AutoscalingConfig = gateway["autoscaling_config"]
    assert (scaling.min_replicas, scaling.max_replicas, scaling.upscale_delay_s) == (2, 3, 7.0)
    assert embedder["autoscaling_config"].max_replicas == settings.embedder_max_replicas
    assert gateway["backpressure_config"].status_code == 429
    assert gateway["logging_config"].enable_access_log is False


@pytest.mark.parametrize("upscale_delay_s", [0.0, 1.0, 30.0])
def test_the_look_back_is_longer_than_the_time_between_two_measurements(upscale_delay_s: float) -> None:
    """Else the autoscaler decides on nothing (RAY_NOTES, Autoscaling)."""
    scaling = options.gateway(ServingSettings(upscale_delay_s=upscale_delay_s))["autoscaling_config"]
    assert scaling.look_back_period_s >= max(2 * scaling.metrics_interval_s, upscale_delay_s)


@pytest.mark.parametrize("of", [options.gateway, options.embedder])
def test_more_may_be_at_work_than_the_autoscaler_aims_at(of: Any) -> None:
    """Else a full replica never looks too full, and none is added (RAY_NOTES, Autoscaling)."""
    chosen = of(ServingSettings())
    assert chosen["autoscaling_config"].target_ongoing_requests <= chosen["max_ongoing_requests"] / 2


def test_an_embedder_of_the_pool_computes_on_the_cpus_that_it_reserves() -> None:
    two = Settings(serving=ServingSettings(embedder_cpus=2.5))
    assert options.embedder_threads(two).threads == 2
    assert options.embedder_threads(Settings(serving=ServingSettings(embedder_cpus=0.1))).threads == 1
    assert options.embedder_threads(two.model_copy(update={"embedding": EmbeddingSettings(threads=7)})).threads == 7
