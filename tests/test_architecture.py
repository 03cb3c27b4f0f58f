"""Imports point one way, a heavy dependency has one home, and there is no cycle (STYLE 1 and 2). A class name means one
thing, errors have one home, and a shared file prefix becomes a folder. Reads the source with `ast`, so nothing heavy is
loaded and a function-level import counts as well."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = {"errors", "types", "query_types", "ports", "settings", "control_groups", "redis_client", "validation"}

# What each place of serve_app may import besides the leaves and itself. A new place is a decision: add it here.
MAY_IMPORT: dict[str, set[str]] = {
    "flow": set(),
    "telemetry": set(),
    "documents": set(),
    "embedding": {"telemetry"},
    "store": set(),
    "state": set(),
    "cache": {"telemetry", "flow"},
    "search": {"telemetry", "flow", "cache", "documents", "embedding", "store"},
    "assembly": {"telemetry", "cache", "documents", "embedding", "store", "search"},
    "api": {"telemetry", "flow", "search", "cache", "documents", "store", "assembly"},
    "deployments": {"telemetry", "assembly", "api", "flow", "search", "cache", "documents", "embedding", "store"},
    "local": {"deployments", "cache", "store"},
    "main": {"deployments"},
    "__main__": {"main", "local", "embedding"},
}
# jobs reach the running service by the deployments' store client, and find it by the record of its run.
JOBS_MAY_IMPORT = LEAVES | {"documents", "embedding", "store", "search", "cache", "flow", "assembly"}
JOBS_MAY_IMPORT |= {"deployments.store", "deployments.environment", "local.run"}

HOMES: dict[str, tuple[str, ...]] = {
    "ray": ("serve_app.deployments", "serve_app.local", "serve_app.main", "serve_app.__main__", "jobs"),
    "fastapi": ("serve_app.api",),
    "starlette": ("serve_app.api",),
    "torch": ("serve_app.embedding.backends",),
    "sentence_transformers": ("serve_app.embedding.backends",),
    "openvino": ("serve_app.embedding.backends",),
    "nncf": ("serve_app.embedding.backends",),
    "transformers": ("serve_app.embedding.backends",),
    "tokenizers": ("serve_app.embedding",),
    "huggingface_hub": ("serve_app.embedding.hub",),
    "docutils": ("serve_app.documents",),
    "pypdf": ("serve_app.documents",),
    "selectolax": ("serve_app.documents",),
    "markdown_it": ("serve_app.documents",),
    "charset_normalizer": ("serve_app.documents",),
    "webencodings": ("serve_app.documents",),
    "qdrant_client": ("serve_app.store",),
    "qdrant_edge": ("serve_app.store",),
    "theine_core": ("serve_app.cache",),
    "lmdb": ("serve_app.cache",),
    "redis": ("serve_app.redis_client", "serve_app.cache", "serve_app.state"),
    "pyarrow": ("serve_app.documents", "jobs"),
    "scipy": ("jobs.evaluate.significance",),
    "jinja2": ("jobs.evaluate.report",),
}


MOST_SIBLINGS_OF_A_PREFIX = 4
MOST_METHODS_OF_A_PROTOCOL = 4  # so that a fake takes ten lines; the union of the stores' Protocols is for connections


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


@cache
def modules() -> dict[str, Path]:
    return {module_name(p): p for top in ("serve_app", "jobs", "cluster") for p in sorted((ROOT / top).rglob("*.py"))}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text())


@cache
def imports(module: str) -> frozenset[str]:
    """Absolute names that a module imports; `from a import b` counts as a.b where that is a module of ours."""
    return frozenset(_imported(tree_of(module)))


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in modules() else str(node.module)


def place(module: str) -> str:
    """The part of serve_app that a module belongs to: `serve_app.store.edge.store` → `store`."""
    return module.split(".")[1] if module.count(".") else ""


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith("serve_app.")])
def test_serve_app_imports_point_one_way(module: str) -> None:
    here = place(module)
    allowed = LEAVES if here in LEAVES else LEAVES | MAY_IMPORT[here] | {here}
    ours = {name for name in imports(module) if name.startswith("serve_app")}
    assert {name for name in ours if place(name) not in allowed} == set()


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith("jobs")])
def test_jobs_import_domain_and_leaves_only(module: str) -> None:
    ours = {name.removeprefix("serve_app.") for name in imports(module) if name.startswith("serve_app.")}
    assert {name for name in ours if not any(f"{name}.".startswith(f"{ok}.") for ok in JOBS_MAY_IMPORT)} == set()


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith("cluster")])
def test_cluster_imports_leaves_only(module: str) -> None:
    ours = {name for name in imports(module) if name.startswith(("serve_app", "jobs"))}
    assert {name for name in ours if place(name) not in LEAVES} == set()


@pytest.mark.parametrize("dependency", HOMES)
def test_dependency_stays_home(dependency: str) -> None:
    importers = [m for m in modules() if any(f"{n}.".startswith(f"{dependency}.") for n in imports(m))]
    homes = tuple(f"{home}." for home in HOMES[dependency])
    assert [m for m in importers if not f"{m}.".startswith(homes)] == []


def test_no_cycle() -> None:
    TopologicalSorter({m: imports(m) & modules().keys() for m in modules()}).prepare()


def test_serve_app_imports_no_job() -> None:
    assert [m for m in modules() if m.startswith("serve_app") for n in imports(m) if n.split(".")[0] == "jobs"] == []


def classes(module: str) -> list[ast.ClassDef]:
    """All of a module, nested ones included."""
    return [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.ClassDef)]


def test_class_names_are_unique() -> None:
    homes = defaultdict(list)
    for module in modules():
        for name in {each.name for each in classes(module)}:
            homes[name].append(module)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_platform_errors_are_in_errors() -> None:
    """The process that receives an error must be able to import it, whichever process raised it."""
    known = {each.name for each in classes("serve_app.errors")}
    assert "PlatformError" in known
    elsewhere = [
        f"{module}.{each.name}"
        for module in modules()
        if module != "serve_app.errors"
        for each in classes(module)
        if known & {last_name(base) for base in each.bases}
    ]
    assert elsewhere == []


def last_name(node: ast.expr) -> str:
    """`Scope` of `Scope`, `types.Scope`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def test_only_a_principal_and_the_stores_build_a_scope() -> None:
    """A scope that comes from a principal cannot be one of another tenant."""
    allowed = ("serve_app.types.", "serve_app.store.")
    builders = {
        module
        for module in modules()
        if not f"{module}.".startswith(allowed)
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call) and last_name(node.func) == "Scope"
    }
    assert builders == set()


@pytest.mark.parametrize("top", ["serve_app", "jobs", "cluster", "tests"])
def test_a_prefix_of_five_siblings_is_a_folder(top: str) -> None:
    folders = {path.parent for path in (ROOT / top).rglob("*.py")}
    crowded = {
        f"{folder.relative_to(ROOT)}/{prefix}_*.py"
        for folder in folders
        for prefix, files in Counter(map(prefix_of, folder.glob("*.py"))).items()
        if prefix and files > MOST_SIBLINGS_OF_A_PREFIX
    }
    assert crowded == set()


def prefix_of(path: Path) -> str:
    """`edge` of `edge_reads.py` and of `test_edge_reads.py`; a name of one word is its own prefix."""
    return path.stem.removeprefix("test_").strip("_").split("_")[0]


def test_protocols_are_small() -> None:
    protocols = {each.name: each for each in classes("serve_app.ports") if "Protocol" in map(last_name, each.bases)}
    assert {"SearchStore", "IndexingStore", "DocumentStore"} < protocols.keys()

    def methods(protocol: ast.ClassDef) -> int:
        own = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in protocol.body)
        return own + sum(methods(protocols[name]) for name in map(last_name, protocol.bases) if name in protocols)

    sizes = {name: methods(protocol) for name, protocol in protocols.items() if name != "VectorStore"}
    assert {name: size for name, size in sizes.items() if size > MOST_METHODS_OF_A_PROTOCOL} == {}
