"""Chooses the fastest arithmetic of the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Precision = Literal["fp32", "bf16", "int8"]

INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


def choose_precision(requested: Literal["auto", "fp32", "bf16", "int8"], flags: frozenset[str]) -> Precision:
    """The requested precision. `auto` means int8 with VNNI, else bf16 with AVX512_BF16 or AMX, else fp32."""
    if requested != "auto":
        return requested
    if flags & INT8_FLAGS:
        return "int8"
    return "bf16" if flags & BF16_FLAGS else "fp32"


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Flags of the first x86 CPU, with Linux's names; empty on other systems, where `auto` therefore means fp32."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    return next((parse_flags(line) for line in lines if line.startswith("flags")), frozenset())


def parse_flags(line: str) -> frozenset[str]:
    return frozenset(line.partition(":")[2].split())
