"""Manifests: the same bytes every time, as committed, valid by the operators' own schemas, and without a secret."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster.environment import ENVIRONMENTS, load_environment
from cluster.render import MANIFESTS, differences, read, render, write

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
HEAVY = ("ray", "torch", "openvino", "qdrant_client", "fastapi")


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_committed_manifests_are_what_is_rendered(name: str) -> None:
    assert [*differences(read(MANIFESTS / name), render(load_environment(name)))] == []


def test_every_object_is_of_the_environments_namespaces() -> None:
    for content in render(load_environment("production")).values():
        one = yaml.safe_load(content)
        namespace = one["metadata"].get("namespace", one["metadata"]["name"])
        assert namespace in ("ai-docs", "ai-docs-logs")


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_operators_schemas_accept_every_object(name: str) -> None:
    validator = SHARED / "tools" / "validate_manifests.py"
    if not validator.is_file():
        pytest.skip(f"the schemas are not in the repository, and there is no {validator}")
    files = [str(MANIFESTS / name / file) for file in read(MANIFESTS / name)]
    command = [sys.executable, str(validator), "--crds", str(SHARED / "crds"), *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_secret_is_in_any_manifest() -> None:
    for name in ENVIRONMENTS:
        for file, content in render(load_environment(name)).items():
            one = yaml.safe_load(content)
            assert one["kind"] != "Secret", file
            for variable in re.findall(r"- name: (\S*(?:KEY|PASSWORD|TOKEN|AUTH))\n\s+(\S+):", content):
                assert variable[1] == "valueFrom" or variable[0] == "QDRANT__TLS__KEY", (file, variable)  # a path


def test_the_service_survives_its_head_and_rolls_by_steps() -> None:
    spec = yaml.safe_load(render(load_environment("production"))["rayservice-ai-docs.yaml"])["spec"]
    ray = spec["rayClusterConfig"]
    assert spec["excludeHeadPodFromServeSvc"] is True
    assert spec["upgradeStrategy"]["type"] == "NewClusterWithIncrementalUpgrade"
    assert ray["gcsFaultToleranceOptions"]["redisAddress"] == "redis://gcs-redis:6379"
    assert ray["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert ray["authOptions"] == {"mode": "token"}
    config = yaml.safe_load(spec["serveConfigV2"])
    assert config["applications"][0]["import_path"] == "serve_app.main:app"
    for group in ray["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] > 310, "longer than the longest request"


def test_another_image_is_another_version_of_the_application() -> None:
    first = render(load_environment("dev"))["rayservice-ai-docs.yaml"]
    second = render(load_environment("dev", ["image.tag=0.2.0"]))["rayservice-ai-docs.yaml"]
    assert "version: 0.1.0" in first and "version: 0.2.0" in second


def test_writing_again_changes_nothing_and_removes_what_is_gone(tmp_path: Path) -> None:
    files = render(load_environment("dev"))
    assert write(tmp_path, files) == len(files)
    assert write(tmp_path, files) == 0
    (tmp_path / "old.yaml").write_text("kind: Old\n")
    assert write(tmp_path, files) == 1 and read(tmp_path) == files


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_renders_to_stdout_checks_and_refuses(tmp_path: Path) -> None:
    done = run("render", "--env", "dev")
    assert done.returncode == 0 and len([*yaml.safe_load_all(done.stdout)]) == len(render(load_environment("dev")))
    assert run("render", "--env", "dev", "--check").returncode == 0
    differs = run("render", "--env", "dev", "--set", "gateway.max_replicas=5", "--check")
    assert differs.returncode == 1 and "+++ rendered/" in differs.stdout
    refused = run("render", "--env", "dev", "--set", "gateway.max_replica=5")
    assert refused.returncode == 2 and "did you mean max_replicas?" in refused.stderr
    assert run("render", "--env", "dev", "--out", str(tmp_path / "out")).returncode == 0
    assert run("validate", str(tmp_path / "out")).returncode == 0
    assert run("validate", str(tmp_path)).returncode == 0
    (tmp_path / "out" / "rayservice-ai-docs.yaml").unlink()
    broken = run("validate", str(tmp_path / "out"))
    assert broken.returncode == 1 and "selects no pod" in broken.stdout
    assert run("validate", str(tmp_path / "none")).returncode == 2


def test_nothing_heavy_is_imported() -> None:
    script = f"import sys, cluster.__main__; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
