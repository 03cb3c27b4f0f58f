"""Logs: an agent on each node reads the containers' JSON lines and sends them to Elasticsearch.

It reads the node's own files, which Kubernetes' `restricted` level forbids. So it has a namespace of its own, and the
application keeps that level.
"""

from __future__ import annotations

from typing import Any

import yaml

from cluster.base import external_secret, namespace
from cluster.environment import Environment, PodResources
from cluster.network import HTTPS_PORT, Arrow, Outside, component_policies, denial
from cluster.objects import (
    APP,
    CA_FOLDER,
    SECRET,
    Object,
    container_security,
    env_list,
    from_secret,
    labels,
    make,
    requests_and_limits,
    selector,
)
from cluster.quantities import MIB

AGENT = "log-agent"
RBAC = "rbac.authorization.k8s.io"
ELASTICSEARCH_PORT = 9200
PASSWORD_KEY, CA_KEY = SECRET_KEYS = "elasticsearch-password", "elasticsearch-ca"
AGENT_RESOURCES = PodResources(cpus=0.1, memory_bytes=128 * MIB)


def objects(env: Environment) -> list[Object]:
    own = env.model_copy(update={"namespace": f"{env.namespace}-logs"})
    elasticsearch = Arrow(AGENT, Outside(env.namespaces.observability), (ELASTICSEARCH_PORT,), "logs")
    kubernetes = Arrow(AGENT, Outside(), (HTTPS_PORT,), "pods' names")
    content = yaml.safe_dump(configuration(env), sort_keys=False)
    return [
        namespace(own, "privileged"),
        external_secret(own, SECRET_KEYS),
        *denial(own),
        *component_policies(own, [elasticsearch, kubernetes]),
        *permission(own, env.namespace),
        make(
            own,
            "v1",
            "ConfigMap",
            AGENT,
            AGENT,
            data={"config.yaml": content},
        ),
        daemon_set(own),
    ]


def configuration(env: Environment) -> dict[str, Any]:
    """Fluent Bit's: JSON lines of the application's containers go to Elasticsearch, field by field."""
    return {
        "service": {"flush": 2, "log_level": "warn", "http_server": True, "http_port": 2020},
        "pipeline": {
            "inputs": [
                {
                    "name": "tail",
                    "path": f"/var/log/containers/*_{env.namespace}_*.log",
                    "multiline.parser": "cri",
                    "tag": "kube.*",
                    "db": "/var/lib/log-agent/offsets.db",
                    "mem_buf_limit": "32MB",
                }
            ],
            "filters": [{"name": "kubernetes", "match": "kube.*", "merge_log": True, "keep_log": False}],
            "outputs": [
                {
                    "name": "es",
                    "match": "*",
                    "host": env.observability.elasticsearch_host,
                    "port": ELASTICSEARCH_PORT,
                    "tls": True,
                    "tls.ca_file": f"{CA_FOLDER}/elasticsearch-ca",
                    "http_user": APP,
                    "http_passwd": "${ELASTICSEARCH_PASSWORD}",
                    "logstash_format": True,
                    "logstash_prefix": f"ai-docs-{env.name}",
                    "suppress_type_name": True,
                    "retry_limit": 10,
                }
            ],
        },
    }


def daemon_set(env: Environment) -> Object:
    container = {
        "name": AGENT,
        "image": env.observability.log_agent_image,
        "args": ["--config=/etc/log-agent/config.yaml"],
        "env": env_list({"ELASTICSEARCH_PASSWORD": from_secret(PASSWORD_KEY)}),
        "ports": [{"name": "http", "containerPort": 2020}],
        "livenessProbe": {"httpGet": {"path": "/api/v1/health", "port": "http"}, "periodSeconds": 30},
        "resources": requests_and_limits(AGENT_RESOURCES),
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/log-agent", "readOnly": True},
            {"name": "offsets", "mountPath": "/var/lib/log-agent"},
            {"name": "logs", "mountPath": "/var/log", "readOnly": True},
            {"name": "tls", "mountPath": CA_FOLDER, "readOnly": True},
        ],
    }
    pod = {
        "serviceAccountName": AGENT,
        "automountServiceAccountToken": True,  # pods' names and labels come from Kubernetes
        "securityContext": {"runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}},  # the files are root's
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": AGENT}},
            {"name": "offsets", "emptyDir": {}},
            {"name": "logs", "hostPath": {"path": "/var/log"}},
            {"name": "tls", "secret": {"secretName": SECRET, "items": [{"key": CA_KEY, "path": CA_KEY}]}},
        ],
    }
    spec = {
        "selector": {"matchLabels": selector(AGENT)},
        "template": {"metadata": {"labels": labels(AGENT)}, "spec": pod},
    }
    return make(env, "apps/v1", "DaemonSet", AGENT, AGENT, spec=spec)


def permission(env: Environment, watched: str) -> list[Object]:
    """To read pods' names in the application's namespace."""
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    subjects = [{"kind": "ServiceAccount", "name": AGENT, "namespace": env.namespace}]
    reference = {"apiGroup": RBAC, "kind": "Role", "name": AGENT}
    there = env.model_copy(update={"namespace": watched})
    return [
        make(env, "v1", "ServiceAccount", AGENT, AGENT, automountServiceAccountToken=False),
        make(there, f"{RBAC}/v1", "Role", AGENT, AGENT, rules=rules),
        make(there, f"{RBAC}/v1", "RoleBinding", AGENT, AGENT, roleRef=reference, subjects=subjects),
    ]
