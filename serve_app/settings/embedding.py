"""Which models embed, with what, and how a document is cut into passages."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from serve_app.settings.section import Section


class EmbeddingSettings(Section):
    model: str = "all-MiniLM-L6-v2"  # a sentence-transformers model: folder, installed package or name on the hub
    revision: str | None = None  # a hub revision; None = the newest that is at hand
    also: tuple[str, ...] = ()  # further models, of collections that are not of the first; each takes its memory
    engine: Literal["openvino", "torch"] = "openvino"
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    placement: Literal["local", "pooled"] = "local"  # in the gateway replica, or in a deployment of its own
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # torch engine only
    max_batch_tokens: PositiveInt | None = None  # padded tokens in one forward pass; None = what the device gains from
    threads: PositiveInt | None = None  # None = the CPUs that this process may use; in a pool, those it reserves

    @property
    def of_each(self) -> list[EmbeddingSettings]:
        """Settings of each model alone, the first one first."""
        alone = self.model_copy(update={"also": ()})
        return [alone, *(alone.model_copy(update={"model": name, "revision": None}) for name in self.also)]


class ChunkingSettings(Section):
    max_tokens: PositiveInt = 256  # a passage with its title and headings; the model's own limit if that is lower
    overlap_tokens: NonNegativeInt = 0  # of a passage that had to be cut inside a paragraph
