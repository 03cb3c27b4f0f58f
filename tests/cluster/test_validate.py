"""Each check passes what is rendered, and refuses a manifest that is broken in the way that it is about."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import yaml

from cluster.environment import ENVIRONMENTS, load_environment
from cluster.render import render
from cluster.validate.manifests import LOADER, Manifests
from cluster.validate.run import CHECKS, validate
from cluster.validate.workloads import quantity

Objects = dict[str, Any]
Break = Callable[[Objects], object]


@cache
def parsed(name: str) -> Objects:
    return {file: yaml.load(content, LOADER) for file, content in render(load_environment(name)).items()}


def rendered(name: str = "production") -> Objects:
    return copy.deepcopy(parsed(name))


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_is_rendered_has_no_findings(name: str) -> None:
    assert validate(Manifests(rendered(name))) == []


def service(objects: Objects) -> Any:
    return objects["rayservice-ai-docs.yaml"]["spec"]


def worker(objects: Objects) -> Any:
    return service(objects)["rayClusterConfig"]["workerGroupSpecs"][0]


def qdrant(objects: Objects) -> Any:
    return objects["statefulset-qdrant.yaml"]["spec"]


def container(objects: Objects) -> Any:
    return qdrant(objects)["template"]["spec"]["containers"][0]


BROKEN: dict[str, tuple[Break, str]] = {
    "upgrade type": (lambda o: service(o)["upgradeStrategy"].update(type="Rolling"), "'Rolling' is none of"),
    "no gateway class": (
        lambda o: service(o)["upgradeStrategy"]["clusterUpgradeOptions"].pop("gatewayClassName"),
        "a gateway splits the traffic",
    ),
    "step above surge": (
        lambda o: service(o)["upgradeStrategy"]["clusterUpgradeOptions"].update(stepSizePercent=50, maxSurgePercent=20),
        "50 is above maxSurgePercent 20",
    ),
    "no interval": (
        lambda o: service(o)["upgradeStrategy"]["clusterUpgradeOptions"].pop("intervalSeconds"),
        "must be given for an incremental upgrade",
    ),
    "serve config": (lambda o: service(o).update(serveConfigV2="applications: []"), "has no applications"),
    "serve config is no YAML": (lambda o: service(o).update(serveConfigV2="a: ["), "is not YAML"),
    "import path": (
        lambda o: service(o).update(serveConfigV2="applications: [{import_path: main}]"),
        "must be module:attribute",
    ),
    "submission mode": (
        lambda o: o["rayjob-index-handbook.yaml"]["spec"].update(submissionMode="K8s"),
        "'K8s' is none of",
    ),
    "replicas": (lambda o: worker(o).update(minReplicas=60), "must be between minReplicas 60 and maxReplicas 50"),
    "autoscaler": (
        lambda o: o["plain/horizontalpodautoscaler-ai-docs-gateway.yaml"]["spec"].update(minReplicas=200),
        "200 is above maxReplicas 100",
    ),
    "latest": (lambda o: container(o).update(image="qdrant/qdrant:latest"), "latest is another image tomorrow"),
    "no tag": (lambda o: container(o).update(image="registry:5000/qdrant/qdrant"), "has no tag"),
    "larger than a node": (
        lambda o: container(o)["resources"]["requests"].update(memory="500Gi"),
        "requests 5.36871e+11 of memory, a node has",
    ),
    "no memory limit": (lambda o: container(o)["resources"].pop("limits"), "has no memory limit"),
    "undrainable": (
        lambda o: o["poddisruptionbudget-qdrant.yaml"]["spec"].update(maxUnavailable=0),
        "no node could ever be drained",
    ),
    "undrainable by minimum": (
        lambda o: o["poddisruptionbudget-qdrant.yaml"]["spec"].update(minAvailable=3),
        "3 of 3 pods",
    ),
    "a budget of one pod": (lambda o: qdrant(o).update(replicas=1), "covers 1 pod"),
    "a service that selects nothing": (
        lambda o: o["service-qdrant.yaml"]["spec"]["selector"].update({"app.kubernetes.io/component": "qdrnt"}),
        "selects no pod",
    ),
    "a set that does not select its pods": (
        lambda o: qdrant(o)["selector"]["matchLabels"].update(app="x"),
        "does not select the object's own pods",
    ),
    "a spread over others": (
        lambda o: qdrant(o)["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].update(
            app="x"
        ),
        "does not select the pod itself",
    ),
    "a port that nobody listens on": (
        lambda o: o["service-qdrant.yaml"]["spec"]["ports"][0].update(targetPort=1234),
        "no selected pod listens on 1234",
    ),
    "a monitor's port": (
        lambda o: o["podmonitor-ray-head.yaml"]["spec"]["podMetricsEndpoints"][0].update(port="metric"),
        "no pod has a port 'metric'",
    ),
    "a probe's port": (
        lambda o: container(o)["readinessProbe"]["httpGet"].update(port="https"),
        "the container has no port 'https'",
    ),
    "a route to nowhere": (
        lambda o: o["httproute-ai-docs.yaml"]["spec"]["rules"][0]["backendRefs"][0].update(name="search"),
        "there is no Service search",
    ),
    "a route's port": (
        lambda o: o["httproute-ai-docs.yaml"]["spec"]["rules"][0]["backendRefs"][0].update(name="qdrant", port=1),
        "Service qdrant has no port 1",
    ),
    "a route without its gateway": (lambda o: o.pop("gateway-ai-docs.yaml"), "there is no Gateway ai-docs"),
    "a secret": (lambda o: o.pop("externalsecret-ai-docs-secrets.yaml"), "there is no secret ai-docs-secrets"),
    "a secret's key": (
        lambda o: o["externalsecret-ai-docs-secrets.yaml"]["spec"]["data"].pop(),
        "secret ai-docs-secrets has no key gcs-redis-password",
    ),
    "a config map": (lambda o: o.pop("configmap-otel-collector.yaml"), "there is no config map otel-collector"),
    "an account": (lambda o: o.pop("serviceaccount-ai-docs.yaml"), "there is no ServiceAccount ai-docs"),
    "a headless service": (lambda o: o.pop("service-qdrant-headless.yaml"), "there is no headless Service"),
    "a scaled set": (
        lambda o: o["plain/horizontalpodautoscaler-ai-docs-gateway.yaml"]["spec"]["scaleTargetRef"].update(name="x"),
        "there is no Deployment x",
    ),
    "no way out": (
        lambda o: o["networkpolicy-ray-worker-cpu.yaml"]["spec"].pop("egress"),
        "ray-worker-cpu → qdrant:6334: no network policy allows its egress",
    ),
    "no way in": (
        lambda o: o["networkpolicy-qdrant.yaml"]["spec"].pop("ingress"),
        "→ qdrant:6334: no network policy allows its ingress",
    ),
    "no way to the head's state": (
        lambda o: o["networkpolicy-gcs-redis.yaml"]["spec"].pop("ingress"),
        "ray-head → gcs-redis:6379: no network policy allows its ingress",
    ),
    "a way that nothing uses": (
        lambda o: o["networkpolicy-qdrant.yaml"]["spec"]["ingress"][0]["ports"].append(
            {"port": 9999, "protocol": "TCP"}
        ),
        "no pod listens on 9999",
    ),
    "a way to nobody": (
        lambda o: o["networkpolicy-qdrant.yaml"]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"].update(
            app="x"
        ),
        "selects no pod",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_refused(kind: str) -> None:
    objects = rendered()
    damage, reason = BROKEN[kind]
    damage(objects)
    findings = validate(Manifests(objects))
    assert any(reason in finding.reason for finding in findings), [*map(str, findings)]
    assert all(finding.path and finding.file in parsed("production") for finding in findings)


def test_no_check_is_idle() -> None:
    """Each finds something in one of the broken sets."""
    idle = set(CHECKS)
    for damage, _ in BROKEN.values():
        objects = rendered()
        damage(objects)
        idle -= {check for check in idle if any(check(Manifests(objects)))}
    assert idle == set()


@pytest.mark.parametrize(("text", "value"), [("16Gi", 16 * 2**30), ("500m", 0.5), (4, 4.0), ("1.5", 1.5), ("2k", 2000)])
def test_quantities(text: str | int, value: float) -> None:
    assert quantity(text) == value


def test_a_quantity_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no quantity"):
        quantity("16 gigabytes")
