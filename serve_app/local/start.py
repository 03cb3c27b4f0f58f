"""Ray, Serve and the app on this machine, started side by side. Imports Ray, which reads the run's environment then.

What need not wait for one another does not: Serve's import goes beside Ray's start, the replica beside the proxies
and the store. Serve is imported in functions, for it takes as long as Ray's daemons take to start.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import ray

from serve_app.deployments.store import NAMESPACE, connect_store
from serve_app.errors import Unavailable
from serve_app.local.ports import free_port, is_free
from serve_app.local.run import OBJECT_STORE_BYTES, START_TIMEOUT_S, fault, proxy_fault, readiness_fault, url
from serve_app.settings import Settings

if TYPE_CHECKING:
    from ray.serve import Application

APP_NAME = "ai-docs"
# A replica closes an idle connection then, maybe just when HAProxy sends a request on it, and the client is dropped
# without an answer: seen at Serve's 90 s (docs/decisions/0009); an hour makes it rare, not impossible.
KEEP_ALIVE_S = 3_600
DASHBOARD_PORT = 8265  # where Ray's commands look by default


def start(settings: Settings, application: Callable[[], Application], note: Callable[..., None]) -> str:
    """Deploys the application. Neither it nor the dashboard, whose URL is returned, is ready yet: wait_until_ready.
    `note` is told `dashboard` and `ray_address`."""
    with ThreadPoolExecutor(2) as aside:
        graph = aside.submit(application)
        dashboard = start_ray()
        note(dashboard=dashboard, ray_address=ray.get_runtime_context().gcs_address)
        graph.result()
        proxies = aside.submit(start_proxies, settings)
        connect_store(settings)
        while not (proxies.done() or serve_controller_exists()):
            time.sleep(0.05)  # a poll, which ends with the future at the latest
        deploy(graph.result())
        proxies.result()
    return dashboard


def start_ray() -> str:
    """With its dashboard, which jobs and `serve deploy` need, on loopback. Returns the dashboard's URL, which answers
    some seconds later (NO_WAIT_FOR_DASHBOARD)."""
    port = DASHBOARD_PORT if is_free("127.0.0.1", DASHBOARD_PORT) else free_port()
    ray.init(
        address="local",  # a cluster of our own, also where another one runs
        namespace=NAMESPACE,
        include_dashboard=None,  # True would make not waiting for it an error
        dashboard_host="127.0.0.1",
        dashboard_port=port,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.CRITICAL,  # it logs four errors about the dashboard that it did not wait for
    )
    logging.getLogger("ray").setLevel(logging.WARNING)
    return f"http://127.0.0.1:{port}"


def start_proxies(settings: Settings) -> None:
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # it tells of each step, and of the app that it finds
    serving = settings.serving
    serve.start(http_options={"host": serving.host, "port": serving.port, "keep_alive_timeout_s": KEEP_ALIVE_S})


def serve_controller_exists() -> bool:
    """Serve keeps its actors in a namespace of its own."""
    return any(actor["namespace"] == "serve" for actor in ray.util.list_named_actors(all_namespaces=True))


def deploy(application: Application) -> None:
    """Without Serve's own wait, which looks once a second."""
    from ray import serve

    target = serve.RunTarget(application, name=APP_NAME, route_prefix="/")
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def wait_until_ready(settings: Settings, dashboard: str, is_stopped: Callable[[], bool]) -> None:
    """Or until `is_stopped`. Raises Unavailable, with Serve's reason if it gives the application up."""
    wait_until_none(lambda: readiness_fault(settings), url(settings), is_stopped)
    wait_until_none(lambda: proxy_fault(settings), "HAProxy", is_stopped)
    wait_until_none(lambda: fault(f"{dashboard}/api/version"), "Ray's dashboard", is_stopped)


def wait_until_none(ask: Callable[[], str | None], what: str, is_stopped: Callable[[], bool]) -> None:
    """Until there is no fault any more, or `is_stopped`. Raises Unavailable with the last one."""
    now_s = time.monotonic()
    deadline_s, ask_serve_s = now_s + START_TIMEOUT_S, now_s
    while not is_stopped() and (reason := ask()) is not None:
        now_s = time.monotonic()
        if now_s > deadline_s:
            raise Unavailable(f"{what} was not ready within {START_TIMEOUT_S:g} s: {reason}")
        if now_s > ask_serve_s:  # seldom: the controller has a start to make
            raise_if_failed()
            ask_serve_s = now_s + 1.0
        time.sleep(0.1)


def raise_if_failed() -> None:
    """Raises Unavailable if Serve has given the application up."""
    from ray import serve

    application = serve.status().applications.get(APP_NAME)
    if application is not None and application.status == "DEPLOY_FAILED":
        raise Unavailable(f"Serve could not deploy the application: {application.message}")
