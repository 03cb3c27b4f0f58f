"""Who may speak to whom: everything is denied, then each arrow is allowed by name. TLS, and the way in from outside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.application import QDRANT, REDIS
from cluster.environment import Environment
from cluster.objects import (
    API_PORT,
    APP,
    DASHBOARD_PORT,
    HAPROXY_METRICS_PORT,
    OTLP_PORT,
    QDRANT_GRPC_PORT,
    QDRANT_HTTP_PORT,
    QDRANT_PEER_PORT,
    RAY_METRICS_PORT,
    REDIS_BUS_PORT,
    REDIS_PORT,
    Object,
    make,
    selector,
)
from cluster.rayservice import GCS_REDIS

CERTIFICATE_DURATION, RENEWED_BEFORE = "2160h", "720h"  # 90 days, and 30 before their end
HTTPS_PORT, DNS_PORT = 443, 53


@dataclass(frozen=True, slots=True)
class Outside:
    """Whatever is not of this namespace. namespace: its pods; "" for any address."""

    namespace: str = ""


Peer = str | Outside  # a component of ours, or somebody outside


@dataclass(frozen=True, slots=True)
class Arrow:
    """source may open connections to target. ports: none for all of them."""

    source: Peer
    target: Peer
    ports: tuple[int, ...]
    why: str


def arrows(env: Environment) -> list[Arrow]:
    """Every connection that the system makes; what is not here is refused."""
    ray, index = ray_components(env, "ray"), ray_components(env, "index") if env.index_jobs else []
    found: list[Arrow] = []
    for cluster in filter(None, (ray, index)):
        found += [
            Arrow(a, b, (), "Ray between its nodes: ports are chosen at run time") for a in cluster for b in cluster
        ]
        found += [Arrow(cluster[0], Outside(), (HTTPS_PORT,), "the autoscaler asks Kubernetes for workers")]
    for one in (*ray, *index):
        found += [*clients(one), *operations(env, one)]
    found += [Arrow(ray[0], GCS_REDIS, (REDIS_PORT,), "state of Ray's head")]
    found += [Arrow(Outside(env.namespaces.ingress), one, (API_PORT,), "users") for one in ray[1:]]
    found += [Arrow(one, Outside(), (HTTPS_PORT,), "sources of documents") for one in index]
    return [*found, *data_tier(env), *telemetry(env)]


def clients(component: str) -> list[Arrow]:
    """What every process of the application calls."""
    return [
        Arrow(component, QDRANT, (QDRANT_GRPC_PORT,), "vectors"),
        Arrow(component, REDIS, (REDIS_PORT,), "cache and control state"),
        Arrow(component, "otel-collector", (OTLP_PORT,), "traces"),
    ]


def operations(env: Environment, component: str) -> list[Arrow]:
    """Who watches and steers a Ray pod."""
    is_head = component.endswith("-head")
    scraped = (RAY_METRICS_PORT,) if is_head else (RAY_METRICS_PORT, HAPROXY_METRICS_PORT)
    steered = (DASHBOARD_PORT,) if is_head else (API_PORT,)
    return [
        Arrow(Outside(env.namespaces.monitoring), component, scraped, "Prometheus"),
        Arrow(Outside(env.namespaces.kuberay), component, steered, "KubeRay deploys and checks"),
    ]


def ray_components(env: Environment, prefix: str) -> list[str]:
    gpu = [f"{prefix}-worker-gpu"] if env.ray.gpu_workers else []
    return [f"{prefix}-head", f"{prefix}-worker-cpu", *gpu]


def data_tier(env: Environment) -> list[Arrow]:
    found = [
        Arrow(REDIS, REDIS, (REDIS_PORT, REDIS_BUS_PORT), "replication and failover"),
        Arrow(f"{REDIS}-create", REDIS, (REDIS_PORT,), "joining the nodes once"),
        Arrow(Outside(env.namespaces.monitoring), QDRANT, (QDRANT_HTTP_PORT,), "Prometheus"),
    ]
    if env.qdrant.nodes > 1:
        found.append(Arrow(QDRANT, QDRANT, (QDRANT_PEER_PORT, QDRANT_GRPC_PORT), "consensus and shard transfer"))
    return found


def telemetry(env: Environment) -> list[Arrow]:
    return [
        Arrow("otel-collector", Outside(env.namespaces.observability), (OTLP_PORT,), "traces to Jaeger"),
    ]


def objects(env: Environment) -> list[Object]:
    return [*policies(env), *certificates(env), *gateway(env)]


def policies(env: Environment) -> Iterator[Object]:
    yield from denial(env)
    yield from component_policies(env, arrows(env))


def denial(env: Environment) -> Iterator[Object]:
    """Nothing but names is allowed to a namespace's pods, until a policy allows it."""
    yield policy(env, "default-deny", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    dns = {
        "ports": [{"port": DNS_PORT, "protocol": name} for name in ("UDP", "TCP")],
        "to": [in_namespace("kube-system")],
    }
    yield policy(env, "allow-dns", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [dns]})


def component_policies(env: Environment, every: Sequence[Arrow], prefix: str = "") -> Iterator[Object]:
    """prefix: of the policies' names, where others are for the same components. Policies add up."""
    for component in sorted({end for arrow in every for end in (arrow.source, arrow.target) if isinstance(end, str)}):
        yield policy(env, prefix + component, rules(component, every))


def policy(env: Environment, name: str, spec: dict[str, Any]) -> Object:
    return make(env, "networking.k8s.io/v1", "NetworkPolicy", name, "network", spec=spec)


def rules(component: str, every: Sequence[Arrow]) -> dict[str, Any]:
    """Both ends of an arrow allow it: one for who sends, one for who receives."""
    incoming = [{"from": [peer(a.source)], **ports(a)} for a in every if a.target == component]
    outgoing = [{"to": [peer(a.target)], **ports(a)} for a in every if a.source == component]
    spec: dict[str, Any] = {"podSelector": {"matchLabels": selector(component)}, "policyTypes": ["Ingress", "Egress"]}
    return spec | ({"ingress": incoming} if incoming else {}) | ({"egress": outgoing} if outgoing else {})


def ports(arrow: Arrow) -> dict[str, Any]:
    return {"ports": [{"port": port, "protocol": "TCP"} for port in arrow.ports]} if arrow.ports else {}


def peer(end: Peer) -> dict[str, Any]:
    if isinstance(end, str):
        return {"podSelector": {"matchLabels": selector(end)}}
    return in_namespace(end.namespace) if end.namespace else {"ipBlock": {"cidr": "0.0.0.0/0"}}


def in_namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def certificates(env: Environment) -> list[Object]:
    """One certificate for the data tier, from an authority of the namespace's own, and the public one."""
    authority = {"name": "ai-docs-ca", "kind": "Issuer", "group": "cert-manager.io"}
    names = [QDRANT, REDIS, *(f"*.{name}-headless" for name in (QDRANT, REDIS))]
    times = {"duration": CERTIFICATE_DURATION, "renewBefore": RENEWED_BEFORE}
    internal = {
        **times,
        "secretName": "ai-docs-tls",
        "dnsNames": [*names, *(f"{name}.{env.namespace}.svc" for name in names)],
        "usages": ["digital signature", "key encipherment", "server auth", "client auth"],
        "issuerRef": authority,
    }
    ca = {
        **times,
        "isCA": True,
        "commonName": "ai-docs-ca",
        "secretName": "ai-docs-ca",
        "privateKey": {"algorithm": "ECDSA", "size": 256},
        "issuerRef": {"name": "ai-docs-self-signed", "kind": "Issuer", "group": "cert-manager.io"},
    }
    public = {
        **times,
        "secretName": "ai-docs-public-tls",
        "dnsNames": [env.host],
        "issuerRef": {"name": env.cluster_issuer, "kind": "ClusterIssuer", "group": "cert-manager.io"},
    }

    def manager(kind: str, name: str, spec: dict[str, Any]) -> Object:
        return make(env, "cert-manager.io/v1", kind, name, "tls", spec=spec)

    return [
        manager("Issuer", "ai-docs-self-signed", {"selfSigned": {}}),
        manager("Certificate", "ai-docs-ca", ca),
        manager("Issuer", "ai-docs-ca", {"ca": {"secretName": "ai-docs-ca"}}),
        manager("Certificate", "ai-docs-tls", internal),
        manager("Certificate", "ai-docs-public-tls", public),
    ]


def gateway(env: Environment) -> list[Object]:
    """The way in. During an upgrade KubeRay splits the traffic by a gateway of its own; this one ends TLS before it."""
    certificate = {"kind": "Secret", "group": "", "name": "ai-docs-public-tls"}
    listener = {
        "name": "https",
        "hostname": env.host,
        "port": HTTPS_PORT,
        "protocol": "HTTPS",
        "tls": {"mode": "Terminate", "certificateRefs": [certificate]},
        "allowedRoutes": {"namespaces": {"from": "Same"}},
    }
    route = {
        "parentRefs": [{"name": APP, "sectionName": "https"}],
        "hostnames": [env.host],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [{"name": f"{APP}-serve-svc", "port": API_PORT}],  # KubeRay makes it
            }
        ],
    }
    spec = {"gatewayClassName": env.gateway_class, "listeners": [listener]}
    return [
        make(env, "gateway.networking.k8s.io/v1", "Gateway", APP, "network", spec=spec),
        make(env, "gateway.networking.k8s.io/v1", "HTTPRoute", APP, "network", spec=route),
    ]
