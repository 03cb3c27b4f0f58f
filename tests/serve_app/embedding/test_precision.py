from pathlib import Path

import pytest

from serve_app.embedding.precision import choose_precision, cpu_flags

ZEN_3 = "fpu sse2 avx avx2 fma"
CASCADE_LAKE = f"{ZEN_3} avx512f avx512_vnni"
COOPER_LAKE = f"{CASCADE_LAKE} avx512_bf16"
BF16_ONLY = f"{ZEN_3} avx512_bf16"
AMX_ONLY = f"{ZEN_3} amx_bf16"
ALDER_LAKE = f"{ZEN_3} avx_vnni"


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("", "fp32"),
        (ZEN_3, "fp32"),
        (CASCADE_LAKE, "int8"),
        (COOPER_LAKE, "int8"),
        (ALDER_LAKE, "int8"),
        (BF16_ONLY, "bf16"),
        (AMX_ONLY, "bf16"),
    ],
)
def test_auto_follows_the_flags(flags: str, precision: str) -> None:
    assert choose_precision("auto", frozenset(flags.split())) == precision


@pytest.mark.parametrize("asked", ["fp32", "bf16", "int8"])
def test_what_is_asked_for_is_taken(asked: str) -> None:
    assert choose_precision(asked, frozenset(COOPER_LAKE.split())) == asked  # type: ignore[arg-type]


def test_flags_are_read_from_cpuinfo(tmp_path: Path) -> None:
    x86, arm = tmp_path / "x86", tmp_path / "arm"
    x86.write_text(f"processor\t: 0\nflags\t\t: {ALDER_LAKE}\nbugs\t\t: spectre_v1\nprocessor\t: 1\nflags\t\t: fpu\n")
    arm.write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert "avx_vnni" in cpu_flags(x86)
    assert "spectre_v1" not in cpu_flags(x86)
    assert cpu_flags(arm) == frozenset()
    assert cpu_flags(tmp_path / "absent") == frozenset()
