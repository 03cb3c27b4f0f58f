"""The least that Serve can do for a request: the reference for responses from the first cache tier."""

from __future__ import annotations

from ray import serve
from ray.serve import Application
from ray.serve.schema import LoggingConfig
from starlette.requests import Request
from starlette.responses import Response


class Empty:
    async def __call__(self, request: Request) -> Response:
        await request.body()
        return Response(b"{}", media_type="application/json")


def build() -> Application:
    return serve.deployment(
        max_ongoing_requests=256,
        ray_actor_options={"num_cpus": 0.1},
        logging_config=LoggingConfig(enable_access_log=False),
    )(Empty).bind()
