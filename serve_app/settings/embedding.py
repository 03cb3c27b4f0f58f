"""Which models embed, with what, and how a document is cut into passages."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from serve_app.settings.section import Section


class EmbeddingSettings(Section):
    """Which models embed, and with what."""

    model: str = "all-MiniLM-L6-v2"
    """A sentence-transformers model: a folder, the installed package, or a name on the Hugging Face hub."""
    revision: str | None = None
    """Revision of the model on the hub. Unset: the newest that is installed or can be downloaded."""
    further_models: tuple[str, ...] = ()
    """Models loaded besides `model`, for collections that were made with them. Each takes its memory."""
    engine: Literal["openvino", "torch"] = "openvino"
    """`openvino` for CPUs, `torch` for GPUs."""
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """What the engine computes in. `auto`: int8 on CPUs with VNNI, bf16 on CPUs and GPUs that have it, otherwise
    fp32."""
    placement: Literal["local", "pooled"] = "local"
    """`local`: in each gateway replica. `pooled`: in a deployment of its own."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device of the torch engine."""
    max_batch_tokens: PositiveInt | None = None
    """Most padded tokens in one forward pass. Unset: as many as the device gains from."""
    threads: PositiveInt | None = None
    """Threads of the engine. Unset: the CPUs that the process may use; in a pool, those that an embedder reserves."""

    @property
    def of_each(self) -> list[EmbeddingSettings]:
        """The settings of each model by itself: `model`, then the further ones."""
        alone = self.model_copy(update={"further_models": ()})
        return [alone, *(alone.model_copy(update={"model": name, "revision": None}) for name in self.further_models)]


class ChunkingSettings(Section):
    """How documents are cut into passages."""

    max_tokens: PositiveInt = 256
    """Longest passage in tokens, its title and headings included. The model's own limit counts if it is lower."""
    overlap_tokens: NonNegativeInt = 0
    """Tokens that neighbouring passages have in common where a paragraph had to be cut."""
