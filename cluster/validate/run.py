"""All checks of a set of manifests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cluster.validate import connections, references, workloads
from cluster.validate.manifests import Finding, Manifests

CHECKS: tuple[Callable[[Manifests], Iterator[Finding]], ...] = (
    workloads.late_enums,
    workloads.bounds,
    workloads.images,
    workloads.sizes,
    workloads.disruptions,
    references.selectors,
    references.ports,
    references.sources,
    connections.connections,
)


def validate(manifests: Manifests) -> list[Finding]:
    """Everything that is wrong, by file."""
    found = {finding for check in CHECKS for finding in check(manifests)}
    return sorted(found, key=lambda finding: (finding.file, finding.path, finding.reason))
