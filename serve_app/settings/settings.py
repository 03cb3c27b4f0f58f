"""All settings as one frozen model, read from the environment: `AIDOCS_<SECTION>__<FIELD>`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from serve_app.errors import ConfigurationError
from serve_app.settings.api import ADAPTIVE_KINDS, ApiSettings
from serve_app.settings.auth import AuthSettings
from serve_app.settings.cache import CacheSettings, RedisSettings
from serve_app.settings.embedding import ChunkingSettings, EmbeddingSettings
from serve_app.settings.environment import explain, require_known
from serve_app.settings.prefetch import PrefetchSettings
from serve_app.settings.search import SearchSettings
from serve_app.settings.serving import BatchingSettings, ServingSettings
from serve_app.settings.store import StoreSettings

PREFIX = "AIDOCS_"
ROOM_FOR_HEALTH = 32  # requests outside every limit: health checks, pages, requests that are being refused


class Settings(BaseSettings):
    """Raises pydantic's ValidationError, which `load_settings` turns into a readable ConfigurationError."""

    model_config = SettingsConfigDict(  # hide_input_in_errors keeps secrets out of tracebacks
        frozen=True, env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", hide_input_in_errors=True
    )

    data_dir: Path = Field(Path("~/.local/share/ai-docs"), validate_default=True)
    """Folder for the embedded store, converted models, the disk cache and logs. One service at a time may use it."""
    embedding: EmbeddingSettings = EmbeddingSettings()
    chunking: ChunkingSettings = ChunkingSettings()
    store: StoreSettings = StoreSettings()
    search: SearchSettings = SearchSettings()
    api: ApiSettings = ApiSettings()
    batching: BatchingSettings = BatchingSettings()
    serving: ServingSettings = ServingSettings()
    redis: RedisSettings = RedisSettings()
    cache: CacheSettings = CacheSettings()
    prefetch: PrefetchSettings = PrefetchSettings()
    auth: AuthSettings = AuthSettings()

    @field_validator("data_dir")
    @classmethod
    def absolute(cls, value: Path) -> Path:
        """The same folder for every process, whatever its working directory."""
        if value == Path():
            raise ValueError("an empty path: name a folder, or unset the variable")
        return value.expanduser().absolute()

    @model_validator(mode="after")
    def drain_is_long_enough(self) -> Self:
        longest_s = max(self.api.request_timeout_s, self.api.upload_timeout_s)
        if self.serving.graceful_shutdown_timeout_s <= longest_s:
            raise ValueError(
                f"SERVING__GRACEFUL_SHUTDOWN_TIMEOUT_S must be above {longest_s:g}, the longest request timeout "
                "(API__…TIMEOUT_S); otherwise a rolling update would cut requests off"
            )
        return self

    @model_validator(mode="after")
    def excess_is_refused(self) -> Self:
        least = self.api.most_admitted + ROOM_FOR_HEALTH
        if self.serving.max_ongoing_requests < least:
            raise ValueError(
                f"SERVING__MAX_ONGOING_REQUESTS must be at least {least}: {ADAPTIVE_KINDS} × API__MAX_CONCURRENCY + "
                f"API__MAX_CONCURRENT_UPLOADS + {ROOM_FOR_HEALTH}. Otherwise excess requests, and health checks "
                "behind them, would wait in Serve instead of being refused"
            )
        return self

    def without_secrets(self) -> Settings:
        """A copy to bind to a deployment, so that Serve neither stores nor shows a secret."""
        return self._with(api_key=None, redis_url=None)

    def with_secrets(self) -> Settings:
        """A copy with the secrets of this process's environment, for use on a replica."""
        own = load_settings()
        return self._with(api_key=own.store.api_key, redis_url=own.redis.url)

    def _with(self, *, api_key: SecretStr | None, redis_url: SecretStr | None) -> Settings:
        store = self.store.model_copy(update={"api_key": api_key})
        return self.model_copy(update={"store": store, "redis": self.redis.model_copy(update={"url": redis_url})})


def load_settings() -> Settings:
    """Settings from the environment. Raises ConfigurationError on an unknown name or an invalid value."""
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            require_known(name, Settings, PREFIX, free_form=f"{PREFIX}SEARCH__PROFILES__")
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigurationError(explain(error, Settings, PREFIX)) from error
    except SettingsError as error:  # a section that is not JSON
        raise ConfigurationError(f"{error}: the variable of a section takes a JSON object") from error
