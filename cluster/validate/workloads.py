"""Checks of what runs: KubeRay's late enums, bounds, images, sizes, and that a disruption can be survived."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from cluster.validate.manifests import RAY_CLUSTERS, Finding, Manifest, Manifests, at

UPGRADES = ("NewCluster", "NewClusterWithIncrementalUpgrade", "None")
SUBMISSIONS = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
IMAGE = re.compile(r"^(?P<name>[^@]+?)(?::(?P<tag>[\w][\w.-]*))?(?P<digest>@sha256:[0-9a-f]{64})?$")
SUFFIXES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "m": 1e-3}


def quantity(text: str | float) -> float:
    """A Kubernetes quantity as a number: bytes, or CPUs."""
    match = re.fullmatch(r"([\d.]+)([A-Za-z]*)", str(text))
    if match is None or (match[2] and match[2] not in SUFFIXES):
        raise ValueError(f"{text!r} is no quantity")
    return float(match[1]) * SUFFIXES.get(match[2], 1)


def late_enums(manifests: Manifests) -> Iterator[Finding]:
    """Values that KubeRay's schema takes and its operator refuses."""
    for one in manifests.of("RayService"):
        strategy = one.spec.get("upgradeStrategy") or {}
        kind, options = strategy.get("type", "NewCluster"), strategy.get("clusterUpgradeOptions") or {}
        path = "spec.upgradeStrategy"
        if kind not in UPGRADES:
            yield one.finding(f"{path}.type", f"{kind!r} is none of {', '.join(UPGRADES)}")
        if kind == "NewClusterWithIncrementalUpgrade":
            yield from _incremental(one, options)
        yield from _serve_config(one)
    for one in manifests.of("RayJob", "RayCronJob"):
        job, path = (one.spec, "spec") if one.kind == "RayJob" else (one.spec["jobTemplate"], "spec.jobTemplate")
        mode = job.get("submissionMode", "K8sJobMode")
        if mode not in SUBMISSIONS:
            yield one.finding(f"{path}.submissionMode", f"{mode!r} is none of {', '.join(SUBMISSIONS)}")


def _incremental(one: Manifest, options: Mapping[str, Any]) -> Iterator[Finding]:
    path = "spec.upgradeStrategy.clusterUpgradeOptions"
    if not options.get("gatewayClassName"):
        yield one.finding(f"{path}.gatewayClassName", "must be given: a gateway splits the traffic")
    step, surge = options.get("stepSizePercent"), options.get("maxSurgePercent", 100)
    if step is None or not 1 <= step <= 100:
        yield one.finding(f"{path}.stepSizePercent", f"must be 1 to 100, not {step}")
    elif step > surge:
        yield one.finding(f"{path}.stepSizePercent", f"{step} is above maxSurgePercent {surge}")
    if options.get("intervalSeconds") is None:
        yield one.finding(f"{path}.intervalSeconds", "must be given for an incremental upgrade")


def _serve_config(one: Manifest) -> Iterator[Finding]:
    path = "spec.serveConfigV2"
    try:
        config = yaml.safe_load(one.spec.get("serveConfigV2", ""))
    except yaml.YAMLError as error:
        yield one.finding(path, f"is not YAML: {error}")
        return
    applications = config.get("applications") if isinstance(config, dict) else None
    if not applications:
        yield one.finding(path, "has no applications")
    for number, application in enumerate(applications or ()):
        if ":" not in str(application.get("import_path", "")):
            yield one.finding(f"{path}.applications[{number}].import_path", "must be module:attribute")


def bounds(manifests: Manifests) -> Iterator[Finding]:
    """Every minimum is at most its maximum."""
    for one in manifests.of(*RAY_CLUSTERS):
        path = RAY_CLUSTERS[one.kind]
        for number, group in enumerate(at(one.content, path).get("workerGroupSpecs", ())):
            least, most = group["minReplicas"], group["maxReplicas"]
            if not least <= group.get("replicas", least) <= most:
                where = f"{'.'.join(path)}.workerGroupSpecs[{number}]"
                yield one.finding(where, f"replicas must be between minReplicas {least} and maxReplicas {most}")
    for kind, low, high in (
        ("HorizontalPodAutoscaler", "minReplicas", "maxReplicas"),
        ("ScaledObject", "minReplicaCount", "maxReplicaCount"),
    ):
        for one in manifests.of(kind):
            least, most = one.spec.get(low, 0), one.spec.get(high, 100)
            if least > most:
                yield one.finding(f"spec.{low}", f"{least} is above {high} {most}")


def images(manifests: Manifests) -> Iterator[Finding]:
    """Every image names one version."""
    for pod in manifests.pods:
        for number, container in enumerate(pod.containers):
            found = IMAGE.fullmatch(str(container.get("image", "")))
            path = f"spec.containers[{number}].image"
            if found is None or not (found["tag"] or found["digest"]):
                yield pod.finding(path, f"{container.get('image')!r} has no tag: name a version")
            elif found["tag"] == "latest" and not found["digest"]:
                yield pod.finding(path, "latest is another image tomorrow: name a version")


def sizes(manifests: Manifests) -> Iterator[Finding]:
    """Every pod fits on a node, whose size its namespace notes."""
    nodes = {one.name: one.content["metadata"].get("annotations") or {} for one in manifests.of("Namespace")}
    for pod in manifests.pods:
        notes = nodes.get(pod.manifest.namespace, {})
        limits = {
            "cpu": float(notes.get("ai-docs/node-cpus", "inf")),
            "memory": float(notes.get("ai-docs/node-memory-bytes", "inf")),
        }
        for name, most in limits.items():
            requests = [quantity(c.get("resources", {}).get("requests", {}).get(name, 0)) for c in pod.containers]
            if sum(requests) > most:
                yield pod.finding("spec.containers", f"requests {sum(requests):g} of {name}, a node has {most:g}")
        for number, container in enumerate(pod.containers):
            if "memory" not in container.get("resources", {}).get("limits", {}):
                yield pod.finding(f"spec.containers[{number}].resources.limits", "has no memory limit")


def disruptions(manifests: Manifests) -> Iterator[Finding]:
    """Every disruption budget lets a node be drained."""
    for one in manifests.of("PodDisruptionBudget"):
        pods = manifests.selected(one.spec["selector"], one.namespace)
        counts = [pod.replicas for pod in pods if pod.replicas is not None]
        if not counts:
            continue  # `selectors` says that it selects nothing
        least = one.spec.get("minAvailable")
        if isinstance(least, int) and least >= min(counts):
            yield one.finding("spec.minAvailable", f"{least} of {min(counts)} pods: no node could ever be drained")
        if one.spec.get("maxUnavailable") in (0, "0%"):
            yield one.finding("spec.maxUnavailable", "0: no node could ever be drained")
        if min(counts) < 2:
            yield one.finding("spec", f"covers {min(counts)} pod: a drain would wait for ever or end all of it")
