"""Batch indexing on KubeRay: one job to start by hand, and one for each source that is indexed on a schedule."""

from __future__ import annotations

import shlex
from typing import Any

from cluster.environment import Environment, IndexJob
from cluster.objects import Object, make
from cluster.rayservice import ray_cluster_spec

BACKOFF_LIMIT = 2  # a job that starts again skips documents that are stored already
DEADLINE_S = 12 * 3_600
KEPT_AFTER_END_S = 3_600


def objects(env: Environment) -> list[Object]:
    found = []
    for job in env.index_jobs:
        name = f"index-{job.name}"
        found.append(make(env, "ray.io/v1", "RayJob", name, "index-job", spec={**job_spec(env, job), "suspend": True}))
        schedule = {
            "schedule": job.schedule,
            "timeZone": env.time_zone,
            "suspend": False,
            "jobTemplate": job_spec(env, job),
        }
        found.append(make(env, "ray.io/v1", "RayCronJob", name, "index-job", spec=schedule))
    return found


def job_spec(env: Environment, job: IndexJob) -> dict[str, Any]:
    """A cluster of its own for each run, which ends with it."""
    command = ["python", "-m", "jobs.index", "--source", job.source, "--collection", job.collection, "--prune"]
    return {
        "entrypoint": shlex.join(command),
        "submissionMode": "HTTPMode",  # by the operator: no pod more
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": KEPT_AFTER_END_S,
        "backoffLimit": BACKOFF_LIMIT,
        "activeDeadlineSeconds": DEADLINE_S,
        "rayClusterSpec": ray_cluster_spec(env, "index", survives_its_head=False),
    }
