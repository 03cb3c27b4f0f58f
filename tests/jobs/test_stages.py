from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cutting import own_fault
from jobs.pipeline import cpu_shares, gpus, platform_error
from jobs.slices import slices
from serve_app.errors import ConfigurationError, EngineUnavailable, InvalidInput, StoreUnavailable
from serve_app.settings import EmbeddingSettings


@given(st.lists(st.integers(0, 50)), st.integers(1, 5), st.integers(0, 60))
def test_slices_keep_all_in_order_and_within_the_limits(weights: list[int], max_items: int, max_weight: int) -> None:
    runs = list(slices(weights, max_items, max_weight, lambda weight: weight))
    assert [weight for run in runs for weight in run] == weights
    assert all(len(run) <= max_items and (sum(run) <= max_weight or len(run) == 1) for run in runs)
    assert all(runs)


@given(st.lists(st.integers()), st.integers(1, 5))
def test_slices_without_weights_are_full_but_for_the_last(items: list[int], max_items: int) -> None:
    *full, last = [*slices(items, max_items)] or [[]]
    assert all(len(run) == max_items for run in full) and len(last) <= max_items


def test_what_is_the_documents_fault_and_what_is_not() -> None:
    assert own_fault(InvalidInput("empty")) == "empty"
    assert own_fault(ZeroDivisionError("by zero")) == "ZeroDivisionError: by zero"
    for everyones in (StoreUnavailable("gone"), EngineUnavailable("gone"), MemoryError()):
        with pytest.raises(type(everyones)):
            own_fault(everyones)


@given(st.floats(0.05, 4_000), st.integers(1, 8))
def test_a_run_fits_what_is_free(free_cpus: float, threads: int) -> None:
    """One worker of each stage runs at once, or the run would wait for itself."""
    cpus = cpu_shares(free_cpus, 1, threads)
    assert cpus.read + cpus.embed + 2 * cpus.write <= free_cpus
    assert min(cpus.read, cpus.embed, cpus.write) > 0


def test_several_embedders_take_their_threads() -> None:
    assert cpu_shares(16, 4, None).embed == 1
    assert cpu_shares(16, 4, 3).embed == 3


def test_no_free_cpu_is_told() -> None:
    with pytest.raises(ConfigurationError, match="0 CPUs free"):
        cpu_shares(0, 1, None)


def test_our_error_is_found_under_rays() -> None:
    ours = StoreUnavailable("gone")
    wrapped = RuntimeError("a task failed")
    wrapped.__cause__ = ValueError("on the way")
    wrapped.__cause__.__cause__ = ours
    assert platform_error(wrapped) is ours
    assert platform_error(RuntimeError()) is None


def test_embedders_take_a_gpu_where_torch_may_use_one() -> None:
    torch, openvino = EmbeddingSettings(engine="torch"), EmbeddingSettings()
    assert (gpus(torch, 4.0), gpus(torch, 0.0), gpus(openvino, 4.0)) == (1, 0, 0)
    assert gpus(EmbeddingSettings(engine="torch", device="cuda"), 0.0) == 1, "it waits for a node that has one"
    assert gpus(EmbeddingSettings(engine="torch", device="cpu"), 4.0) == 0
