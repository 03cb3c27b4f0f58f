"""The base class of every section of the settings."""

from __future__ import annotations

from pydantic import BaseModel

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


class Section(BaseModel, frozen=True, extra="forbid"):
    """One group of settings."""
