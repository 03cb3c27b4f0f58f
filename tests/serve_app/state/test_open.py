from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from serve_app.errors import ConfigurationError
from serve_app.settings import RedisSettings, Settings
from serve_app.state.open import open_state
from serve_app.state.redis import RedisState
from serve_app.state.sqlite import SqliteState
from tests.contracts.state import put


async def test_without_redis_it_is_a_file_in_the_data_dir(tmp_path: Path) -> None:
    state = open_state(Settings(data_dir=tmp_path))
    assert isinstance(state, SqliteState)
    await put(state, "k")
    await state.close()
    assert (tmp_path / "state" / "state.sqlite3").is_file()


@pytest.mark.parametrize("url", ["redis://localhost:1/0", "redis+cluster://localhost:1"])
async def test_with_a_redis_url_it_is_in_redis(tmp_path: Path, url: str) -> None:
    state = open_state(Settings(data_dir=tmp_path, redis=RedisSettings(url=SecretStr(url))))
    assert isinstance(state, RedisState)
    await state.close()


def test_a_wrong_url_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="AIDOCS_REDIS__URL"):
        open_state(Settings(data_dir=tmp_path, redis=RedisSettings(url=SecretStr("http://localhost"))))
