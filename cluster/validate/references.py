"""Checks of what names something else: selectors, ports, secrets, config maps, accounts, services."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cluster.validate.manifests import Finding, Manifest, Manifests, PodTemplate

# Made by operators, so no manifest has them.
KUBERAY_SERVICES = "-serve-svc", "-head-svc"


def selectors(manifests: Manifests) -> Iterator[Finding]:
    """Every selector selects a pod of its namespace."""
    for one in manifests.of("Service", "PodDisruptionBudget", "PodMonitor", "NetworkPolicy"):
        field = "podSelector" if one.kind == "NetworkPolicy" else "selector"
        selector = one.spec.get(field) or {}
        if selector and not manifests.selected(selector, one.namespace):
            yield one.finding(f"spec.{field}", f"selects no pod: {_shown(selector)}")
    for one in manifests.of("Deployment", "StatefulSet", "DaemonSet"):
        labels = one.spec["template"]["metadata"]["labels"]
        if not one.spec["selector"]["matchLabels"].items() <= labels.items():
            yield one.finding("spec.selector", "does not select the object's own pods")
    for pod in manifests.pods:
        for number, constraint in enumerate(pod.spec.get("topologySpreadConstraints", ())):
            if not constraint["labelSelector"]["matchLabels"].items() <= pod.labels.items():
                path = f"spec.topologySpreadConstraints[{number}].labelSelector"
                yield pod.finding(path, "does not select the pod itself")


def _shown(selector: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in selector.get("matchLabels", selector).items())


def ports(manifests: Manifests) -> Iterator[Finding]:
    """Every port that a service, a monitor or a probe names is one that a container listens on."""
    for one in manifests.of("Service"):
        pods = manifests.selected(one.spec.get("selector") or {}, one.namespace)
        for number, port in enumerate(one.spec["ports"]):
            target = str(port.get("targetPort", port["port"]))
            if pods and not any(_listens(pod, target) for pod in pods):
                yield one.finding(f"spec.ports[{number}].targetPort", f"no selected pod listens on {target}")
    for one in manifests.of("PodMonitor"):
        pods = manifests.selected(one.spec["selector"], one.namespace)
        for number, endpoint in enumerate(one.spec["podMetricsEndpoints"]):
            if pods and not any(endpoint["port"] in pod.ports for pod in pods):
                yield one.finding(f"spec.podMetricsEndpoints[{number}].port", f"no pod has a port {endpoint['port']!r}")
    for pod in manifests.pods:
        yield from _probes(pod)
    yield from _routes(manifests)


def _listens(pod: PodTemplate, port: str) -> bool:
    return port in pod.ports or port in map(str, pod.ports.values())


def _probes(pod: PodTemplate) -> Iterator[Finding]:
    for number, container in enumerate(pod.containers):
        own = {str(key) for port in container.get("ports", ()) for key in (port.get("name"), port["containerPort"])}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            if port is not None and str(port) not in own:
                yield pod.finding(f"spec.containers[{number}].{probe}", f"the container has no port {port!r}")


def _routes(manifests: Manifests) -> Iterator[Finding]:
    for one in manifests.of("HTTPRoute"):
        for parent in one.spec.get("parentRefs", ()):
            if manifests.named("Gateway", parent["name"], one.namespace) is None:
                yield one.finding("spec.parentRefs", f"there is no Gateway {parent['name']}")
        for rule in one.spec.get("rules", ()):
            for backend in rule.get("backendRefs", ()):
                name, port = backend["name"], backend.get("port")
                service = manifests.named("Service", name, one.namespace)
                made = any(name == f"{ray.name}{end}" for ray in manifests.of("RayService") for end in KUBERAY_SERVICES)
                if service is None and not made:
                    yield one.finding("spec.rules.backendRefs", f"there is no Service {name}")
                elif service and port not in [each["port"] for each in service.spec["ports"]]:
                    yield one.finding("spec.rules.backendRefs", f"Service {name} has no port {port}")


def sources(manifests: Manifests) -> Iterator[Finding]:
    """Every secret, config map and service account that a pod names exists, with the key that it asks for."""
    for pod in manifests.pods:
        namespace = pod.manifest.namespace
        secrets, maps = secret_keys(manifests, namespace), config_map_keys(manifests, namespace)
        for path, kind, name, key in _uses(pod):
            known = (secrets if kind == "secret" else maps).get(name)
            if known is None:
                yield pod.finding(path, f"there is no {kind} {name}")
            elif key and known and key not in known:
                yield pod.finding(path, f"{kind} {name} has no key {key}")
        account = pod.spec.get("serviceAccountName", "default")
        if account != "default" and manifests.named("ServiceAccount", account, namespace) is None:
            yield pod.finding("spec.serviceAccountName", f"there is no ServiceAccount {account}")
    for one in manifests.of("StatefulSet"):
        name = one.spec["serviceName"]
        service = manifests.named("Service", name, one.namespace)
        if service is None or service.spec.get("clusterIP") != "None":
            yield one.finding("spec.serviceName", f"there is no headless Service {name}")
    yield from _scaled(manifests)


def _scaled(manifests: Manifests) -> Iterator[Finding]:
    for one in manifests.of("ScaledObject", "HorizontalPodAutoscaler"):
        target = one.spec["scaleTargetRef"]
        if manifests.named(target.get("kind", "Deployment"), target["name"], one.namespace) is None:
            yield one.finding("spec.scaleTargetRef", f"there is no {target.get('kind', 'Deployment')} {target['name']}")


def _uses(pod: PodTemplate) -> Iterator[tuple[str, str, str, str]]:
    """Path, `secret` or `config map`, name, key ("" for all of it)."""
    for number, container in enumerate(pod.containers):
        for variable in container.get("env", ()):
            path = f"spec.containers[{number}].env.{variable['name']}"
            for field, kind in (("secretKeyRef", "secret"), ("configMapKeyRef", "config map")):
                if reference := variable.get("valueFrom", {}).get(field):
                    yield path, kind, reference["name"], reference["key"]
    for volume in pod.spec.get("volumes", ()):
        path = f"spec.volumes.{volume['name']}"
        if secret := volume.get("secret"):
            for item in secret.get("items") or [{"key": ""}]:
                yield path, "secret", secret["secretName"], item["key"]
        if config := volume.get("configMap"):
            for item in config.get("items") or [{"key": ""}]:
                yield path, "config map", config["name"], item["key"]


def secret_keys(manifests: Manifests, namespace: str) -> dict[str, set[str]]:
    """The secrets that External Secrets and cert-manager make, with their keys."""
    found: dict[str, set[str]] = {}
    for one in manifests.of("ExternalSecret"):
        if one.namespace == namespace:
            found[one.spec["target"]["name"]] = {entry["secretKey"] for entry in one.spec.get("data", ())}
    for one in manifests.of("Certificate"):
        if one.namespace == namespace:
            found[one.spec["secretName"]] = {"tls.crt", "tls.key", "ca.crt"}
    return found


def config_map_keys(manifests: Manifests, namespace: str) -> dict[str, set[str]]:
    return {one.name: set(_data(one)) for one in manifests.of("ConfigMap") if one.namespace == namespace}


def _data(one: Manifest) -> Mapping[str, str]:
    return one.content.get("data") or {}
