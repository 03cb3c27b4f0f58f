"""What differs between environments: one typed model, and a YAML file for each environment with its differences.

The defaults are production's. `environments/dev.yaml`, `staging.yaml` and `production.yaml` say only what is different;
`--set KEY=VALUE` overrides one value for one rendering.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, Field, PositiveInt, StringConstraints, ValidationError, field_validator, model_validator

from cluster.quantities import GIB
from serve_app.errors import ConfigurationError

FOLDER = Path(__file__).parent / "environments"
ENVIRONMENTS = ("dev", "staging", "production")

DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
DnsName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
Clock = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class Part(BaseModel, frozen=True, extra="forbid"):
    """One group of values."""


class Image(Part):
    repository: str = "ghcr.io/ai-docs/ai-docs"
    tag: Annotated[str, StringConstraints(pattern=r"^\w[\w.-]{0,127}$")] = "0.1.0"

    @field_validator("tag")
    @classmethod
    def names_one_version(cls, value: str) -> str:
        if value == "latest":
            raise ValueError("latest is another image tomorrow: name a version")
        return value

    @property
    def reference(self) -> str:
        return f"{self.repository}:{self.tag}"


class PodResources(Part):
    """Requests of one pod. Its memory limit is its request, so that a node never runs out; it may use idle CPUs."""

    cpus: float = Field(gt=0)
    memory_bytes: PositiveInt


def require_in_order(bounds: Any) -> Any:
    if bounds.min_replicas > bounds.max_replicas:
        raise ValueError(f"min_replicas {bounds.min_replicas} is above max_replicas {bounds.max_replicas}")
    return bounds


class WorkerGroup(Part):
    """One group of Ray workers. cpus and memory_bytes: of each."""

    min_replicas: int = Field(ge=0)
    max_replicas: PositiveInt
    resources: PodResources
    gpus: int = Field(0, ge=0)
    node_selector: dict[str, str] = {}

    @model_validator(mode="after")
    def bounds_are_in_order(self) -> Self:
        return require_in_order(self)


class Gateway(Part):
    """Replicas of the gateway deployment, wherever Ray places them."""

    min_replicas: PositiveInt = 5
    max_replicas: PositiveInt = 100

    @model_validator(mode="after")
    def bounds_are_in_order(self) -> Self:
        return require_in_order(self)


class Ray(Part):
    version: str = "2.60.0"
    head: PodResources = PodResources(cpus=2, memory_bytes=8 * GIB)
    cpu_workers: WorkerGroup = WorkerGroup(
        min_replicas=3, max_replicas=50, resources=PodResources(cpus=8, memory_bytes=16 * GIB)
    )
    gpu_workers: WorkerGroup | None = WorkerGroup(
        min_replicas=0,
        max_replicas=8,
        gpus=1,
        resources=PodResources(cpus=8, memory_bytes=32 * GIB),
        node_selector={"nvidia.com/gpu.present": "true"},
    )


class Qdrant(Part):
    """replication_factor 3 with majority reads survives the loss of one node with no failed read. With 2, a majority of
    2 is 2, so that reads must ask one replica only and may be stale: it saves a third of the disk."""

    image: str = "qdrant/qdrant:v1.18.1"
    nodes: PositiveInt = 3
    replication_factor: PositiveInt = 3
    shards: PositiveInt = 6
    resources: PodResources = PodResources(cpus=4, memory_bytes=16 * GIB)
    disk_bytes: PositiveInt = 200 * GIB

    @model_validator(mode="after")
    def copies_fit_the_nodes(self) -> Self:
        if self.replication_factor > self.nodes:
            raise ValueError(f"replication_factor {self.replication_factor} needs as many nodes, not {self.nodes}")
        return self


class RedisCache(Part):
    """Redis Cluster needs three masters: with two no majority can decide a failover, and Redis refuses to make one."""

    image: str = "redis:8.4.0"
    masters: int = Field(3, ge=3)
    replicas_of_each: int = Field(1, ge=0)
    resources: PodResources = PodResources(cpus=1, memory_bytes=12 * GIB)


class GcsRedis(Part):
    """Of Ray's head, so that a new head finds the cluster's state. Never the cache: its eviction would lose it."""

    image: str = "redis:8.4.0"
    resources: PodResources = PodResources(cpus=0.5, memory_bytes=1 * GIB)
    disk_bytes: PositiveInt = 8 * GIB


class IndexJob(Part):
    """A source that is indexed on a schedule (five fields of cron, in `time_zone`)."""

    name: DnsLabel
    source: str
    collection: str
    schedule: Annotated[str, StringConstraints(pattern=r"^(\S+ ){4}\S+$")] = "0 2 * * *"


class OffHours(Part):
    """Every day from `stop` to `start` nothing runs. None in production."""

    stop: Clock = "18:00"
    start: Clock = "08:00"


class Observability(Part):
    trace_sampling_ratio: float = Field(0.1, ge=0, le=1)
    otel_collector_image: str = "otel/opentelemetry-collector-contrib:0.140.0"
    log_agent_image: str = "fluent/fluent-bit:4.2.0"
    jaeger_endpoint: str = "jaeger-collector.observability.svc:4317"
    elasticsearch_host: str = "elasticsearch-es-http.observability.svc"


class Namespaces(Part):
    """Where what the application needs of the cluster runs. The network policies name them."""

    ingress: DnsLabel = "istio-system"
    monitoring: DnsLabel = "monitoring"
    observability: DnsLabel = "observability"
    kuberay: DnsLabel = "kuberay-operator"
    dns: DnsLabel = "kube-system"


class Environment(Part):
    """Everything that the manifests of one environment depend on."""

    name: Literal["dev", "staging", "production"]
    namespace: DnsLabel
    host: DnsName = "search.example.com"
    time_zone: str = "Etc/UTC"
    image: Image = Image()
    node: PodResources = PodResources(cpus=16, memory_bytes=60 * GIB)
    gateway: Gateway = Gateway()
    ray: Ray = Ray()
    qdrant: Qdrant = Qdrant()
    redis_cache: RedisCache = RedisCache()
    gcs_redis: GcsRedis = GcsRedis()
    embedding_placement: Literal["local", "pooled"] = "local"
    index_jobs: tuple[IndexJob, ...] = ()
    off_hours: OffHours | None = None
    observability: Observability = Observability()
    namespaces: Namespaces = Namespaces()
    storage_class: DnsName = "standard"
    gateway_class: DnsName = "istio"
    cluster_issuer: DnsName = "letsencrypt"
    secret_store: DnsName = "vault"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


def load_environment(name: str, overrides: Sequence[str] = (), folder: Path = FOLDER) -> Environment:
    """An environment from its file, with `KEY=VALUE` overrides (`gateway.max_replicas=20`).

    Raises ConfigurationError with the file, the line and the nearest right name for what is unknown or impossible."""
    if name not in ENVIRONMENTS:
        raise ConfigurationError(f"no environment {name!r}{_nearest(name, ENVIRONMENTS)}: {', '.join(ENVIRONMENTS)}")
    path = folder / f"{name}.yaml"
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path}: must be a mapping of settings")
    sources = {override.partition("=")[0]: override for override in overrides}
    for override in overrides:
        _override(values, override)
    try:
        return Environment.model_validate(values)
    except ValidationError as error:
        lines = (_explain(one, node, path, sources) for one in error.errors(include_url=False))
        raise ConfigurationError("\n".join(lines)) from error


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not (key and equals):
        raise ConfigurationError(f"--set {override}: write KEY=VALUE, for example gateway.max_replicas=20")
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigurationError(f"--set {override}: {parent} is a value and has no settings of its own")
    place[last] = yaml.safe_load(text)


def _explain(error: Any, node: yaml.Node | None, path: Path, sources: dict[str, str]) -> str:
    """One line: where it is, what is wrong, and the nearest right name."""
    place = tuple(error["loc"])
    key = ".".join(map(str, place))
    by_option = next((text for name, text in sources.items() if f"{name}.".startswith(f"{key}.")), None)
    where = f"--set {by_option}" if by_option else f"{path}:{_line(node, place)}"
    if error["type"] == "extra_forbidden":
        return f"{where}: {key} is no setting{_nearest(str(place[-1]), _names(place[:-1]))}"
    return f"{where}: {key}: {error['msg'].removeprefix('Value error, ')}"


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _names(place: tuple[Any, ...]) -> list[str]:
    """The settings at a place of the model."""
    model: Any = Environment
    for step in place:
        if isinstance(step, str) and step in getattr(model, "model_fields", {}):
            model = next(iter(_models(model.model_fields[step].annotation)), None)
    return [*getattr(model, "model_fields", {})]


def _models(annotation: Any) -> Iterator[type[Part]]:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)


def _line(node: yaml.Node | None, place: tuple[Any, ...]) -> int:
    """Of the last step of `place` that the file has, counted from 1."""
    line = 1
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == step), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
    return line
