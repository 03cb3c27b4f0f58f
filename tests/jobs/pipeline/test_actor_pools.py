from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.pipeline.actor_pools import Cluster, actor_pools
from serve_app.errors import ConfigurationError
from serve_app.settings import EmbeddingSettings

OPENVINO, TORCH = EmbeddingSettings(), EmbeddingSettings(engine="torch")


@given(st.floats(0.05, 4_000), st.none() | st.integers(1, 4), st.integers(1, 8))
@example(free_cpus=0.25, embedders=2, threads=1)
def test_a_run_fits_what_is_free(free_cpus: float, embedders: int | None, threads: int) -> None:
    """One worker of each stage runs at once, or the run would wait for itself."""
    pools = actor_pools(Cluster(3, free_cpus, 0), EmbeddingSettings(threads=threads), embedders)
    assert pools.read_cpus + pools.embed_cpus + 2 * pools.write_cpus <= free_cpus
    assert min(pools.read_cpus, pools.embed_cpus, pools.write_cpus) > 0


def test_one_embedder_on_each_node_has_all_of_its_machine() -> None:
    pools = actor_pools(Cluster(nodes=5, free_cpus=80, gpus=0), OPENVINO, None)
    assert (pools.embedders, pools.threads, pools.gpus) == (5, None, 0)


def test_one_embedder_on_each_gpu_that_is_used() -> None:
    cluster = Cluster(nodes=2, free_cpus=80, gpus=8)
    assert (actor_pools(cluster, TORCH, None).embedders, actor_pools(cluster, TORCH, None).gpus) == (8, 1)
    assert actor_pools(cluster, OPENVINO, None).embedders == 2, "it can use none"
    assert actor_pools(cluster, TORCH, 3).embedders == 3


def test_several_that_are_asked_for_take_their_threads() -> None:
    cluster = Cluster(nodes=1, free_cpus=16, gpus=0)
    pools = actor_pools(cluster, OPENVINO, 4)
    assert (pools.embedders, pools.threads, pools.embed_cpus) == (4, 1, 1)
    pools = actor_pools(cluster, EmbeddingSettings(threads=3), 4)
    assert (pools.embedders, pools.threads, pools.embed_cpus) == (4, 3, 3)


def test_no_free_cpu_is_told() -> None:
    with pytest.raises(ConfigurationError, match="0 CPUs free"):
        actor_pools(Cluster(2, 0, 0), OPENVINO, None)


def test_embedders_take_a_gpu_where_torch_may_use_one() -> None:
    with_gpus, without = Cluster(1, 4, 4), Cluster(1, 4, 0)
    assert (actor_pools(with_gpus, TORCH, 1).gpus, actor_pools(without, TORCH, 1).gpus) == (1, 0)
    cuda, cpu = (EmbeddingSettings(engine="torch", device=device) for device in ("cuda", "cpu"))
    assert actor_pools(without, cuda, None).gpus == 1, "it waits for a node that has one"
    assert actor_pools(with_gpus, cpu, None).gpus == 0


def test_a_big_machine_has_as_many_readers_as_keep_its_embedder_busy() -> None:
    small, big, gpu = Cluster(1, 2, 0), Cluster(1, 64, 0), Cluster(1, 16, 1)
    assert [actor_pools(small, OPENVINO, None).readers, actor_pools(small, OPENVINO, 2).readers] == [1, 2]
    assert (actor_pools(big, OPENVINO, None).readers, actor_pools(big, OPENVINO, None).writers) == (8, 4)
    pools = actor_pools(gpu, TORCH, None)
    assert (pools.readers, pools.writers) == (9, 4)
    assert pools.block_tokens > actor_pools(gpu, OPENVINO, None).block_tokens


def test_a_run_that_waits_for_a_gpu_says_so(caplog: pytest.LogCaptureFixture) -> None:
    actor_pools(Cluster(1, 8, gpus=1, free_gpus=1), TORCH, None)
    assert caplog.text == ""
    actor_pools(Cluster(1, 8, gpus=1), TORCH, None)
    assert "AIDOCS_EMBEDDING__DEVICE=cpu" in caplog.text
