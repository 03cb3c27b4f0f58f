"""The gateway deployment as Serve sees it. Light to import: whoever deploys it has no use for what a replica has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.serve.handle import DeploymentHandle

from serve_app.settings import Settings


class GatewayDeployment:
    """Raises at construction what GatewayReplica raises, so that a rollout stops before it takes traffic.

    version: changes nothing here; another value makes Serve roll the replicas (RAY_NOTES, golden rule 6).
    """

    def __init__(self, settings: Settings, pools: Sequence[DeploymentHandle[Any]] = (), version: str = "") -> None:
        from serve_app.deployments.gateway_replica import GatewayReplica  # a second, in the replica only

        self._replica = GatewayReplica(settings, pools)

    def __serve_build_asgi_app__(self) -> Any:
        """Called by Serve in the replica, after the constructor."""
        return self._replica.app()

    async def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        await self._replica.check_health()
