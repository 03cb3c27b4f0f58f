"""A set of manifests as the checks see it: objects with their files, and every pod that they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.objects import Object
from serve_app.errors import ConfigurationError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Where each kind has its pod template.
TEMPLATES: dict[str, tuple[tuple[str, ...], ...]] = {
    "Deployment": (("spec", "template"),),
    "StatefulSet": (("spec", "template"),),
    "DaemonSet": (("spec", "template"),),
    "Job": (("spec", "template"),),
    "CronJob": (("spec", "jobTemplate", "spec", "template"),),
}
RAY_CLUSTERS: dict[str, tuple[str, ...]] = {
    "RayCluster": ("spec",),
    "RayService": ("spec", "rayClusterConfig"),
    "RayJob": ("spec", "rayClusterSpec"),
    "RayCronJob": ("spec", "jobTemplate", "rayClusterSpec"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and where. path: of the value, from the object's root."""

    file: str
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.path}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Manifest:
    file: str
    content: Object

    @property
    def kind(self) -> str:
        return str(self.content["kind"])

    @property
    def name(self) -> str:
        return str(self.content["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.content["metadata"].get("namespace", ""))

    @property
    def spec(self) -> dict[str, Any]:
        return dict(self.content.get("spec") or {})

    def finding(self, path: str, reason: str) -> Finding:
        return Finding(self.file, path, reason)


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """A pod that some object makes. path: of the template in it. replicas: None where that varies."""

    manifest: Manifest
    path: str
    content: dict[str, Any]
    replicas: int | None

    @property
    def labels(self) -> Mapping[str, str]:
        return dict(self.content.get("metadata", {}).get("labels") or {})

    @property
    def spec(self) -> dict[str, Any]:
        return dict(self.content["spec"])

    @property
    def containers(self) -> list[dict[str, Any]]:
        return [*self.spec.get("containers", ()), *self.spec.get("initContainers", ())]

    @property
    def ports(self) -> dict[str, int]:
        """Of all its containers, by name; a port without a name by its number."""
        listed = [port for container in self.containers for port in container.get("ports", ())]
        return {str(port.get("name", port["containerPort"])): int(port["containerPort"]) for port in listed}

    def finding(self, path: str, reason: str) -> Finding:
        return self.manifest.finding(f"{self.path}.{path}", reason)


class Manifests:
    """All objects of one folder."""

    def __init__(self, objects: Mapping[str, Object]) -> None:
        self.all = [Manifest(file, content) for file, content in sorted(objects.items())]
        self.pods = [pod for one in self.all for pod in pod_templates(one)]

    @classmethod
    def read(cls, folder: Path) -> Manifests:
        """Raises ConfigurationError if there are none, or if one is no object."""
        found: dict[str, Object] = {}
        for path in sorted(folder.rglob("*.yaml")):
            file = path.relative_to(folder).as_posix()
            try:
                documents = [one for one in yaml.load_all(path.read_text(encoding="utf-8"), LOADER) if one is not None]
            except (OSError, yaml.YAMLError) as error:
                raise ConfigurationError(f"{path}: cannot be read: {error}") from error
            for number, one in enumerate(documents):
                if not isinstance(one, dict) or "kind" not in one or "name" not in (one.get("metadata") or {}):
                    raise ConfigurationError(f"{path}: is no Kubernetes object: it has no kind or no name")
                found[f"{file}#{number}" if number else file] = one
        if not found:
            raise ConfigurationError(f"{folder} has no manifests: python -m cluster render --env dev --out {folder}")
        return cls(found)

    def of(self, *kinds: str) -> Iterator[Manifest]:
        return (one for one in self.all if one.kind in kinds)

    def named(self, kind: str, name: str, namespace: str) -> Manifest | None:
        matching = (one for one in self.of(kind) if one.name == name and one.namespace == namespace)
        return next(matching, None)

    def selected(self, selector: Mapping[str, Any], namespace: str) -> list[PodTemplate]:
        """The pods of a namespace that have all these labels."""
        wanted = selector.get("matchLabels", selector).items()
        return [pod for pod in self.pods if pod.manifest.namespace == namespace and wanted <= pod.labels.items()]


def pod_templates(one: Manifest) -> Iterator[PodTemplate]:
    for path in TEMPLATES.get(one.kind, ()):
        yield PodTemplate(one, ".".join(path), at(one.content, path), one.spec.get("replicas"))
    if one.kind in RAY_CLUSTERS:
        cluster = at(one.content, RAY_CLUSTERS[one.kind])
        base = ".".join(RAY_CLUSTERS[one.kind])
        yield PodTemplate(one, f"{base}.headGroupSpec.template", cluster["headGroupSpec"]["template"], 1)
        for number, group in enumerate(cluster.get("workerGroupSpecs", ())):
            where = f"{base}.workerGroupSpecs[{number}].template"
            yield PodTemplate(one, where, group["template"], group.get("minReplicas"))


def at(content: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        content = content[step]
    return content
