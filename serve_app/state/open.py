"""The state that the settings ask for: in Redis where AIDOCS_REDIS__URL is set, else in a SQLite file in DATA_DIR."""

from __future__ import annotations

from serve_app.settings import Settings
from serve_app.state.sqlite import SqliteState
from serve_app.state.store import StateStore


def open_state(settings: Settings) -> StateStore:
    """settings: with their secrets. Nothing is connected before the first call. Raises ConfigurationError if the URL
    cannot be one."""
    if settings.redis.url is None:
        return SqliteState(settings.data_dir / "state" / "state.sqlite3")
    from serve_app.redis_client import connect  # the library takes 0.1 s to import
    from serve_app.state.redis import TIMEOUT_S, RedisState

    return RedisState(connect(settings.redis.url.get_secret_value(), TIMEOUT_S))
