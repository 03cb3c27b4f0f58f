"""How metrics and traces leave the pods: PodMonitors and an OpenTelemetry collector."""

from __future__ import annotations

from typing import Any

import yaml

from cluster.application import QDRANT
from cluster.environment import Environment, PodResources
from cluster.network import ray_components
from cluster.objects import (
    OTLP_PORT,
    Object,
    container_security,
    labels,
    make,
    pod_security,
    requests_and_limits,
    selector,
    service,
)
from cluster.quantities import MIB

COLLECTOR = "otel-collector"
SCRAPED_EVERY = "15s"
COLLECTOR_RESOURCES = PodResources(cpus=0.25, memory_bytes=512 * MIB)
COLLECTOR_USER_ID = 10_001


def objects(env: Environment) -> list[Object]:
    return [*pod_monitors(env), *collector(env)]


def pod_monitors(env: Environment) -> list[Object]:
    """One for each kind of pod. Ray's agent exports the application's metrics beside its own."""
    components = [*ray_components(env, "ray"), *(ray_components(env, "index") if env.index_jobs else [])]
    found = []
    for component in components:
        ports = ["metrics"] if component.endswith("-head") else ["metrics", "haproxy-metrics"]
        found.append(pod_monitor(env, component, [{"port": port, "interval": SCRAPED_EVERY} for port in ports]))
    tls = {"ca": {"secret": {"name": "ai-docs-tls", "key": "ca.crt"}}, "serverName": QDRANT}
    authorization = {"type": "Bearer", "credentials": {"name": "ai-docs-secrets", "key": "qdrant-api-key"}}
    https = {"port": "http", "scheme": "https", "interval": SCRAPED_EVERY, "tlsConfig": tls}
    found.append(pod_monitor(env, QDRANT, [{**https, "authorization": authorization}]))
    return found


def pod_monitor(env: Environment, component: str, endpoints: list[dict[str, Any]]) -> Object:
    spec = {"selector": {"matchLabels": selector(component)}, "podMetricsEndpoints": endpoints}
    return make(env, "monitoring.coreos.com/v1", "PodMonitor", component, "monitoring", spec=spec)


def collector(env: Environment) -> list[Object]:
    """Takes spans by OTLP, batches them, adds where they come from, and hands them to Jaeger."""
    config = {
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"0.0.0.0:{OTLP_PORT}"}}}},
        "processors": {
            "memory_limiter": {"check_interval": "1s", "limit_percentage": 80, "spike_limit_percentage": 20},
            "resource": {"attributes": [{"key": "deployment.environment.name", "value": env.name, "action": "upsert"}]},
            "batch": {},
        },
        "exporters": {"otlp/jaeger": {"endpoint": env.observability.jaeger_endpoint, "tls": {"insecure": True}}},
        "extensions": {"health_check": {"endpoint": "0.0.0.0:13133"}},
        "service": {
            "extensions": ["health_check"],
            "pipelines": {
                "traces": {
                    "receivers": ["otlp"],
                    "processors": ["memory_limiter", "resource", "batch"],
                    "exporters": ["otlp/jaeger"],
                }
            },
        },
    }
    probe = {"httpGet": {"path": "/", "port": "health"}, "periodSeconds": 5}
    container = {
        "name": COLLECTOR,
        "image": env.observability.otel_collector_image,
        "args": ["--config=/etc/otel/config.yaml"],
        "ports": [{"name": "otlp", "containerPort": OTLP_PORT}, {"name": "health", "containerPort": 13_133}],
        "readinessProbe": probe,
        "livenessProbe": probe,
        "resources": requests_and_limits(COLLECTOR_RESOURCES),
        "securityContext": container_security(),
        "volumeMounts": [{"name": "config", "mountPath": "/etc/otel", "readOnly": True}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": pod_security(COLLECTOR_USER_ID),
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": COLLECTOR}}],
    }
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": selector(COLLECTOR)},
        "template": {"metadata": {"labels": labels(COLLECTOR)}, "spec": pod},
    }
    content = {"config.yaml": yaml.safe_dump(config, sort_keys=False)}
    return [
        make(env, "v1", "ConfigMap", COLLECTOR, COLLECTOR, data=content),
        make(env, "apps/v1", "Deployment", COLLECTOR, COLLECTOR, spec=spec),
        service(env, COLLECTOR, COLLECTOR, {"otlp": OTLP_PORT}),
    ]
