"""The Serve graph on one page.

serve run serve_app.main:app                    # the API on :8000, settings from AIDOCS_… variables
serve run serve_app.main:app version=2026-11    # a code-only rollout: another version rolls the replicas
serve deploy serve.yaml                         # the same by a config file, `import_path: serve_app.main:app`
"""

import ray
from pydantic import BaseModel
from ray import serve
from ray.serve import Application

from serve_app.deployments import environment, options
from serve_app.deployments.embedder import EmbedderDeployment
from serve_app.deployments.gateway import GatewayDeployment
from serve_app.settings import load_settings

# No `from __future__ import annotations` here: Serve reads the type of `arguments` from the annotation itself.


class AppArguments(BaseModel, extra="forbid"):
    """What `serve run` and a config file's `args` may set; all else is settings."""

    version: str = ""


def app(arguments: AppArguments) -> Application:
    """gateway (HTTP) → a pool of embedders for each model, if placement is `pooled`; the store is an actor that
    replicas find by name."""
    if not ray.is_initialized() and not environment.is_ray_running():
        environment.set_for_new_ray()  # `serve run` starts one next
    settings = load_settings().without_secrets()
    pools = []
    if settings.embedding.placement == "pooled":
        for number, model in enumerate(options.embedder_threads(settings).of_each):
            embedder = serve.deployment(**options.embedder(settings.serving, number))(EmbedderDeployment)
            pools.append(embedder.bind(model, settings.data_dir, settings.batching.max_waiting))
    gateway = serve.deployment(**options.gateway(settings.serving))(serve.ingress()(GatewayDeployment))
    return gateway.bind(settings, pools, arguments.version)
