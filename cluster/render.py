"""Environments → manifests: one file for each object. The same environment gives the same bytes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cluster import base, datastores, network, plain, rayjobs, rayservice, schedule
from cluster.environment import Environment
from cluster.monitoring import collection, logs
from cluster.objects import Object

MANIFESTS = Path(__file__).parent / "manifests"
PARTS = (base, rayservice, rayjobs, datastores, network, schedule, collection, logs)
PLAIN = "plain"  # folder of the Deployment for who has no KubeRay: applied instead of the Ray service, never beside it


class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # the C one where it is there
    """No aliases: an object that is used twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Dumper.add_representer(str, _block)


def render(env: Environment) -> dict[str, str]:
    """File name → content, by name."""
    found = {file_name(one): to_yaml(one) for part in PARTS for one in part.objects(env)}
    found |= {f"{PLAIN}/{file_name(one)}": to_yaml(one) for one in plain.objects(env)}
    return dict(sorted(found.items()))


def file_name(one: Object) -> str:
    """`rayservice-ai-docs.yaml`; with the namespace in front where it is not the application's own."""
    prefix = "logs-" if one["metadata"].get("namespace", one["metadata"]["name"]).endswith("-logs") else ""
    return f"{prefix}{one['kind'].lower()}-{one['metadata']['name']}.yaml"


def to_yaml(one: Object) -> str:
    return yaml.dump(one, Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True)


def read(folder: Path) -> dict[str, str]:
    """What is in a folder of manifests."""
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in folder.rglob("*.yaml")}


def write(folder: Path, files: Mapping[str, str]) -> int:
    """Writes the files and removes manifests that are no longer rendered. Returns how many files it changed."""
    before = read(folder) if folder.is_dir() else {}
    for name in before.keys() - files.keys():
        (folder / name).unlink()
    changed = {name: content for name, content in files.items() if before.get(name) != content}
    for name, content in changed.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return len(changed) + len(before.keys() - files.keys())


def differences(committed: Mapping[str, str], rendered: Mapping[str, str]) -> Iterator[str]:
    """Lines of a unified diff, from what is committed to what would be rendered."""
    for name in sorted(committed.keys() | rendered.keys()):
        old, new = committed.get(name, "").splitlines(), rendered.get(name, "").splitlines()
        yield from difflib.unified_diff(old, new, f"committed/{name}", f"rendered/{name}", lineterm="")
