from __future__ import annotations

from pathlib import Path

import pytest

from cluster.environment import ENVIRONMENTS, load_environment
from serve_app.errors import ConfigurationError


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_environments_can_be(name: str) -> None:
    assert load_environment(name).name == name


def test_only_production_runs_at_night_and_survives_a_node() -> None:
    dev, staging, production = map(load_environment, ENVIRONMENTS)
    assert dev.off_hours and staging.off_hours and production.off_hours is None
    assert (production.qdrant.nodes, production.qdrant.replication_factor) == (3, 3)
    assert production.redis_cache.masters == 3 and production.redis_cache.replicas_of_each == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("gateway.max_replica=3", "gateway.max_replica is no setting; did you mean max_replicas?"),
        ("gatway.min_replicas=9", "gatway is no setting; did you mean gateway?"),
        ("ray.cpu_workers.resources.cpu=1", "is no setting; did you mean cpus?"),
        ("gateway.max_replicas=-1", "gateway.max_replicas: Input should be greater than 0"),
        ("gateway.min_replicas=99", "min_replicas 99 is above max_replicas 2"),
        ("image.tag=latest", "latest is another image tomorrow"),
        ("qdrant.replication_factor=2", "replication_factor 2 needs as many nodes, not 1"),
        ("redis_cache.masters=2", "redis_cache.masters: Input should be greater than or equal to 3"),
        ("off_hours.stop=25:00", "off_hours.stop"),
        ("name", "write KEY=VALUE"),
        ("name.first=x", "name is a value and has no settings of its own"),
    ],
)
def test_an_override_that_cannot_be_is_refused_with_the_nearest_right_name(override: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_environment("dev", [override])
    assert message in str(refused.value) and override in str(refused.value)


def test_a_file_is_refused_with_its_line(tmp_path: Path) -> None:
    content = "name: dev\nnamespace: x\nqdrant:\n  nodes: 1\n  replication_facto: 1\ngateway: {min_replicas: zero}\n"
    (tmp_path / "dev.yaml").write_text(content)
    with pytest.raises(ConfigurationError) as refused:
        load_environment("dev", folder=tmp_path)
    lines = str(refused.value).splitlines()
    assert any(
        "dev.yaml:5: qdrant.replication_facto is no setting; did you mean replication_factor?" in x for x in lines
    )
    assert any("dev.yaml:6: gateway.min_replicas" in line for line in lines)


@pytest.mark.parametrize("content", ["- a list", "name: [open", ""])
def test_a_file_that_is_no_environment_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "dev.yaml").write_text(content)
    with pytest.raises(ConfigurationError, match=r"dev\.yaml"):
        load_environment("dev", folder=tmp_path)


def test_an_unknown_environment_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="did you mean production"):
        load_environment("prod")
