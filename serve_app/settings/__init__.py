"""All settings in one frozen model. `main`, a job or `cluster render` reads it once and passes it to constructors.

Environment: `AIDOCS_<SECTION>__<FIELD>`, for example `AIDOCS_STORE__URL=http://127.0.0.1:6333`. An unknown name that
begins with AIDOCS_ is an error.
"""

from serve_app.settings.api import ApiSettings
from serve_app.settings.auth import AuthSettings
from serve_app.settings.cache import (
    CacheSettings,
    DiskCacheSettings,
    MemoryCacheSettings,
    RedisCacheSettings,
    RedisSettings,
    SharedCacheSettings,
)
from serve_app.settings.embedding import ChunkingSettings, EmbeddingSettings
from serve_app.settings.prefetch import PrefetchSettings
from serve_app.settings.search import QUALITY, SearchProfile, SearchSettings
from serve_app.settings.section import MIB
from serve_app.settings.serving import BatchingSettings, ServingSettings
from serve_app.settings.settings import PREFIX, Settings, load_settings
from serve_app.settings.store import StoreSettings

__all__ = [
    "MIB",
    "PREFIX",
    "QUALITY",
    "ApiSettings",
    "AuthSettings",
    "BatchingSettings",
    "CacheSettings",
    "ChunkingSettings",
    "DiskCacheSettings",
    "EmbeddingSettings",
    "MemoryCacheSettings",
    "PrefetchSettings",
    "RedisCacheSettings",
    "RedisSettings",
    "SearchProfile",
    "SearchSettings",
    "ServingSettings",
    "Settings",
    "SharedCacheSettings",
    "StoreSettings",
    "load_settings",
]
