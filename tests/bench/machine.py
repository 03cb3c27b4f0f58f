"""Describes the machine of a benchmark."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = ("ray", "openvino", "torch", "sentence-transformers", "qdrant-edge-py", "fastapi")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def describe() -> dict[str, object]:
    return {
        "cpu": cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in FLAGS if flag in cpu_flags()],
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def cpu_model() -> str:
    lines = (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return next(lines, platform.processor()).partition(":")[2].strip()


def cpu_flags() -> set[str]:
    lines = (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    return set(next(lines, "").partition(":")[2].split())
