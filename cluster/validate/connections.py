"""Checks of the network policies: each connection that the pods' settings imply is allowed at both ends, and nothing is
allowed that nothing uses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.validate.manifests import RAY_CLUSTERS, Finding, Manifests, PodTemplate, at

HOST_AND_PORT = re.compile(r"(?:@|//|^|\s|-h )([a-z][a-z0-9-]*)(?:\.[\w.-]+)?:(\d{2,5})\b")
EVERYTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Connection:
    """A pod opens a connection to a service's pods. path: of the setting that says so."""

    source: PodTemplate
    path: str
    target: PodTemplate
    port: int


def connections(manifests: Manifests) -> Iterator[Finding]:
    for wanted in implied(manifests):
        for end, pod, other in (("egress", wanted.source, wanted.target), ("ingress", wanted.target, wanted.source)):
            if not is_allowed(manifests, pod, other, wanted.port, end):
                names = f"{_component(wanted.source)} → {_component(wanted.target)}:{wanted.port}"
                yield wanted.source.finding(wanted.path, f"{names}: no network policy allows its {end}")
    yield from unused(manifests)


def implied(manifests: Manifests) -> Iterator[Connection]:
    """From every `host:port` in a container's environment, command and arguments that is a service of its namespace,
    and from where a Ray cluster keeps its state."""
    for pod in manifests.pods:
        for number, container in enumerate(pod.containers):
            path = f"spec.containers[{number}]"
            texts = [(f"{path}.env.{one['name']}", str(one.get("value", ""))) for one in container.get("env", ())]
            texts += [(path, str(text)) for text in (*container.get("command", ()), *container.get("args", ()))]
            for where, text in texts:
                yield from _to_services(manifests, pod, where, text)
        yield from _to_state(manifests, pod)


def _to_services(manifests: Manifests, pod: PodTemplate, path: str, text: str) -> Iterator[Connection]:
    for host, port in set(HOST_AND_PORT.findall(text)):
        service = manifests.named("Service", host, pod.manifest.namespace)
        for target in manifests.selected(service.spec["selector"], service.namespace) if service else ():
            yield Connection(pod, path, target, int(port))


def _to_state(manifests: Manifests, pod: PodTemplate) -> Iterator[Connection]:
    if pod.manifest.kind in RAY_CLUSTERS and "headGroupSpec" in pod.path:
        cluster = at(pod.manifest.content, RAY_CLUSTERS[pod.manifest.kind])
        address = str(cluster.get("gcsFaultToleranceOptions", {}).get("redisAddress", ""))
        yield from _to_services(manifests, pod, "gcsFaultToleranceOptions.redisAddress", address)


def is_allowed(manifests: Manifests, pod: PodTemplate, other: PodTemplate, port: int, direction: str) -> bool:
    """direction: `ingress` or `egress` of `pod`. Allowed if no policy of that direction selects it, or if one allows
    it."""
    policies = [
        one
        for one in manifests.of("NetworkPolicy")
        if one.namespace == pod.manifest.namespace
        and direction.capitalize() in one.spec["policyTypes"]
        and _matches(one.spec["podSelector"], pod)
    ]
    rules = [rule for one in policies for rule in one.spec.get(direction, ())]
    peers = "to" if direction == "egress" else "from"
    same = pod.manifest.namespace == other.manifest.namespace
    return not policies or any(
        _has_port(rule, port) and any(same and _is_peer(peer, other) for peer in rule.get(peers, ({},)))
        for rule in rules
    )


def _matches(selector: Mapping[str, Any], pod: PodTemplate) -> bool:
    return selector.get("matchLabels", EVERYTHING).items() <= pod.labels.items()


def _is_peer(peer: Mapping[str, Any], pod: PodTemplate) -> bool:
    return not peer or ("podSelector" in peer and _matches(peer["podSelector"], pod))


def _has_port(rule: Mapping[str, Any], port: int) -> bool:
    return not rule.get("ports") or any(one.get("port") == port for one in rule["ports"])


def unused(manifests: Manifests) -> Iterator[Finding]:
    """Rules for pods that do not exist, and for ports that none of the pods listens on."""
    for one in manifests.of("NetworkPolicy"):
        own = manifests.selected(one.spec["podSelector"], one.namespace)
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for number, rule in enumerate(one.spec.get(direction, ())):
                path = f"spec.{direction}[{number}]"
                chosen = [peer["podSelector"] for peer in rule.get(peers, ()) if "podSelector" in peer]
                for selector in chosen:
                    if not manifests.selected(selector, one.namespace):
                        yield one.finding(f"{path}.{peers}", f"selects no pod: {selector.get('matchLabels')}")
                targets = own if direction == "ingress" else _all(manifests, chosen, one.namespace)
                for port in rule.get("ports", ()):
                    if targets and not any(port["port"] in pod.ports.values() for pod in targets):
                        yield one.finding(f"{path}.ports", f"no pod listens on {port['port']}")


def _all(manifests: Manifests, selectors: list[Mapping[str, Any]], namespace: str) -> list[PodTemplate]:
    return [pod for selector in selectors for pod in manifests.selected(selector, namespace)]


def _component(pod: PodTemplate) -> str:
    return pod.labels.get("app.kubernetes.io/component", pod.manifest.name)
