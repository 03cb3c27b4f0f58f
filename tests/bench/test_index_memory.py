"""How the memory of a run is sampled and judged. The measurement itself is not a test."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import psutil
import pytest

from tests.bench import index_memory, process_memory
from tests.bench.corpus import sentences
from tests.bench.index_memory import UNBOUND, Sample, compare, is_flat, points, whole
from tests.bench.process_memory import Process, Pss, Role, by_role, parse_pss, roles_of

ROLLUP = """562408dd6000-7ffe43c04000 ---p 00000000 00:00 0                          [rollup]
Rss:                1760 kB
Pss:                 203 kB
Pss_Anon:            116 kB
Pss_File:             83 kB
Pss_Shmem:             4 kB
"""
MIB = 2**20


def growing(role: Role, by: float) -> list[Sample]:
    """A run of 1,000 passages in which one role takes `by` times as much in the end as at the start."""
    sizes = dict.fromkeys(Role, 100.0)
    return [Sample(n, sizes | {role: 100 + (by - 1) * n / 10}) for n in range(1001)]


def test_the_kernels_figures_are_read() -> None:
    assert parse_pss(ROLLUP) == Pss(116 * 1024, 83 * 1024, 4 * 1024)
    assert parse_pss("") == Pss()


def test_what_an_actor_starts_is_the_actors() -> None:
    processes = [
        Process(1, 0, "python -m jobs.index --source StoreStage"),
        Process(2, 1, "ray/core/src/ray/raylet/raylet --node"),
        Process(3, 2, "ray::MapWorker(MapBatches(ReadStage)).submit"),
        Process(4, 3, "python -c from multiprocessing.spawn import spawn_main"),
        Process(5, 2, "ray::StoreActor.call"),
        Process(6, 5, "python -m serve_app.store.edge.optimize_child /data 5"),
        Process(7, 2, "ray::IDLE"),
        Process(8, 2, "ray::MapWorker(MapBatches(StoreStage))"),
    ]
    roles = [Role.DRIVER, Role.RAY, Role.READING, Role.READING, Role.STORE, Role.OPTIMIZER, Role.RAY, Role.WRITING]
    assert roles_of(processes) == dict(enumerate(roles, start=1))


def test_shared_memory_is_rays_and_mapped_files_are_told_apart_of_the_store_only() -> None:
    sizes = {1: Pss(10, 1, 3), 2: Pss(20, 2, 4), 3: Pss(30, 5)}
    assert by_role({1: Role.DRIVER, 2: Role.STORE, 3: Role.READING}, sizes) == {
        Role.DRIVER: 11,
        Role.STORE: 20,
        Role.STORE_FILES: 2,
        Role.READING: 35,
        Role.OBJECTS: 7,
    }


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux 4.14")
def test_a_process_is_sampled_as_psutil_does_it() -> None:
    me = psutil.Process()
    held = bytearray(os.urandom(MIB)) * 64
    sizes = process_memory.sampled(me)
    expected = me.memory_full_info().pss  # anonymous, files and shared memory
    assert sizes[Role.DRIVER] >= len(held)
    assert sizes[Role.DRIVER] + sizes[Role.OBJECTS] == pytest.approx(expected, rel=0.05)


def test_samples_are_of_the_whole_run_and_know_how_far_it_is() -> None:
    everything: dict[Role, int] = dict.fromkeys(Role, 3 * MIB)
    without_readers: dict[Role, int] = {role: size for role, size in everything.items() if role is not Role.READING}
    taken: list[tuple[float, dict[Role, int]]] = [
        (0.0, {Role.DRIVER: MIB}),
        (15.0, everything),
        (20.0, without_readers),
        (30.0, {Role.DRIVER: MIB}),
    ]
    found = whole(taken, [(10.0, 100), (20.0, 200)])
    assert [(each.passages, each.sizes_mib[Role.LEDGER]) for each in found] == [(150, 3), (200, 3)]


@pytest.mark.parametrize("role", sorted(set(Role) - UNBOUND))
def test_whatever_grows_is_seen(role: Role) -> None:
    assert is_flat(compare(growing(role, by=1.05)))
    tenths = compare(growing(role, by=1.5))
    assert not is_flat(tenths)
    assert [one for one, each in tenths.items() if each.ratio > 1.01] == [role]
    assert f"{role} |" in index_memory.table(tenths) and "(grows)" in index_memory.table(tenths)


@pytest.mark.parametrize("role", sorted(UNBOUND))
def test_the_store_may_grow(role: Role) -> None:
    assert is_flat(compare(growing(role, by=9)))


def test_a_role_that_ends_sooner_is_judged_by_its_own_last_tenth() -> None:
    samples = growing(Role.READING, by=1.5)
    ended: dict[Role, float] = {role: size for role, size in samples[0].sizes_mib.items() if role is not Role.READING}
    samples = samples[:700] + [Sample(each.passages, ended) for each in samples[700:]]
    assert compare(samples)[Role.READING].last_mib == pytest.approx(100 + 0.05 * 664, abs=1)
    assert not is_flat(compare(samples))


def test_a_role_that_was_never_seen_is_not_flat() -> None:
    samples = [Sample(each.passages, {Role.DRIVER: 100.0}) for each in growing(Role.DRIVER, by=1)]
    assert not is_flat(compare(samples))


def test_the_plot_is_of_medians_and_the_same_for_the_same_figures(tmp_path: Path) -> None:
    samples = growing(Role.STORE, by=3)
    x, y = points(samples, Role.STORE, parts=10)
    assert x[0] == 49.5 and y[0] == pytest.approx(100 + 2 * 4.95) and len(x) == 10
    for name in ("a.svg", "b.svg"):
        index_memory.plot(samples, "title", tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_sentences_are_all_different() -> None:
    some = list(islice(sentences(), 2_000))
    assert len({each.id for each in some}) == len({each.text for each in some}) == 2_000
