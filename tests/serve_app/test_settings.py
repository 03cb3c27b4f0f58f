"""Settings come from the environment, and what cannot work stops the start with a sentence that helps."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from serve_app.errors import ConfigurationError
from serve_app.settings import PREFIX, Settings, load_settings
from serve_app.settings.environment import setting_fields


def test_nested_values_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIDOCS_EMBEDDING__MAX_BATCH_TOKENS", "512")
    monkeypatch.setenv("AIDOCS_SEARCH__PROFILES__FAST__CANDIDATES", "50")
    settings = load_settings()
    assert settings.embedding.max_batch_tokens == 512
    assert settings.search.profiles.keys() == {"default", "fast", "quality"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AIDOCS_STOER__URL", "x", "AIDOCS_STOER__URL is not a setting; did you mean AIDOCS_STORE__URL?"),
        ("aidocs_stoer__url", "x", "did you mean AIDOCS_STORE__URL?"),
        ("AIDOCS_STORE", "{bad", "JSON object"),
        ("AIDOCS_STORE__TIMEOUT_S", "-1", "AIDOCS_STORE__TIMEOUT_S='-1'"),
        ("AIDOCS_DATA_DIR", "", "an empty path"),
        ("AIDOCS_SEARCH__DEFAULT_PROFILE", "typo", "'typo' is not one of the profiles: default"),
        ("AIDOCS_SERVING__PORT", "99999", "AIDOCS_SERVING__PORT"),
        ("AIDOCS_SERVING__MIN_REPLICAS", "9", "min_replicas is above max_replicas"),
        ("AIDOCS_SERVING__GRACEFUL_SHUTDOWN_TIMEOUT_S", "40", "the longest request"),
        ("AIDOCS_API__MIN_CONCURRENCY", "193", "min_concurrency is above max_concurrency"),
        ("AIDOCS_SERVING__MAX_ONGOING_REQUESTS", "611", "MAX_ONGOING_REQUESTS must be at least 612"),
        ("AIDOCS_API__MAX_CONCURRENT_UPLOADS", "33", "MAX_ONGOING_REQUESTS must be at least 641"),
        ("AIDOCS_AUTH__MODE", "oidc", "AIDOCS_AUTH__MODE"),
    ],
)
def test_what_cannot_be_stops_the_start(name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert said in str(refused.value)


def test_the_data_folder_is_the_same_from_every_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIDOCS_DATA_DIR", "~/here")
    assert load_settings().data_dir == Path("~/here").expanduser()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIDOCS_DATA_DIR", "relative")
    assert load_settings().data_dir == tmp_path / "relative"


def test_secrets_are_not_bound_to_deployments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIDOCS_STORE__API_KEY", "hush")
    monkeypatch.setenv("AIDOCS_REDIS__URL", "redis://:hush@host:6379/0")
    settings = load_settings()
    bound = settings.without_secrets()
    assert bound.store.api_key is None and bound.redis.url is None
    assert "hush" not in repr(settings) + bound.model_dump_json()
    assert bound.with_secrets() == settings


SECRETS = {"AIDOCS_STORE__API_KEY": "hush", "AIDOCS_REDIS__URL": "redis://:hush@host"}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (SECRETS | {"AIDOCS_SERVING__GRACEFUL_SHUTDOWN_TIMEOUT_S": "40"}, "the longest request"),
        (SECRETS | {"AIDOCS_SEARCH__DEFAULT_PROFILE": "typo"}, "AIDOCS_SEARCH: "),
        ({"AIDOCS_REDIS": '"redis://:hush@host"'}, "AIDOCS_REDIS: "),
        ({"AIDOCS_REDIS": '["redis://:hush@host"]'}, "AIDOCS_REDIS: "),
        ({"AIDOCS_REDIS": "redis://:hush@host"}, "JSON object"),
        ({"AIDOCS_REDIS": '{"url": ["hush"]}'}, "AIDOCS_REDIS__URL: "),
        ({"AIDOCS_STORE": '{"api_key": 7583}'}, "AIDOCS_STORE__API_KEY: "),
        ({"AIDOCS_STORE": '{"api_kye": "hush"}'}, "AIDOCS_STORE__API_KYE: "),
    ],
)
def test_no_error_shows_a_secret(variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert said in str(refused.value)
    logged = "".join(traceback.format_exception(refused.value))
    assert "hush" not in logged and "7583" not in logged


def test_every_setting_has_one_name() -> None:
    names = [name for name, _ in setting_fields(Settings, PREFIX)]
    assert len(names) == len(set(names)) > 50
