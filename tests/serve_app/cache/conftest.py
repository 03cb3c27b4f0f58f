from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serve_app.cache.redis_server import BOUNDED, RedisServer, redis_cluster


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One of three primaries."""
    with redis_cluster([tmp_path_factory.mktemp("node") for _ in range(3)], *BOUNDED) as node:
        yield node
