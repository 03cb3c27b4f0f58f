"""Opens the state: in Redis if AIDOCS_REDIS__URL is set, otherwise in a SQLite file in AIDOCS_DATA_DIR."""

from __future__ import annotations

from serve_app.settings import Settings
from serve_app.state.sqlite import SqliteState
from serve_app.state.store import StateStore


def open_state(settings: Settings) -> StateStore:
    """settings: with secrets. Connects at the first call. Raises ConfigurationError if the Redis URL is invalid."""
    if settings.redis.url is None:
        return SqliteState(settings.data_dir / "state" / "state.sqlite3")
    from serve_app.redis_client import connect  # the library takes 0.1 s to import
    from serve_app.state.redis import TIMEOUT_S, RedisState

    return RedisState(connect(settings.redis.url.get_secret_value(), TIMEOUT_S))
