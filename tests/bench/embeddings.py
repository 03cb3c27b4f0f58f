"""Compares `/v1/embeddings` with sentence-transformers behind FastAPI. Each text is sent once, so none is cached."""

from __future__ import annotations

from tests.bench.contenders import BATCH, Bodies, Contenders
from tests.bench.rounds import Comparison, Series, interleave

ROUND_S = 5.0
ONE_TEXT_CLIENTS, BATCH_CLIENTS = 16, 4
ONE_TEXT_TARGET, BATCH_TARGET = 12.0, 6.0


def compare(them: Contenders, rounds: int) -> list[Comparison]:
    one, many = rates(them, them.texts, ONE_TEXT_CLIENTS, rounds), rates(them, them.batches, BATCH_CLIENTS, rounds)
    return [
        Comparison(f"/v1/embeddings, one short text, {ONE_TEXT_CLIENTS} clients", *one, ONE_TEXT_TARGET),
        Comparison(f"/v1/embeddings, {BATCH} texts a request, {BATCH_CLIENTS} clients", *many, BATCH_TARGET),
    ]


def rates(them: Contenders, bodies: Bodies, clients: int, rounds: int) -> tuple[Series, Series]:
    values = interleave(
        {
            "ai-docs": lambda: them.embed(bodies, clients, ROUND_S)["requests_per_s"],
            "FastAPI": lambda: them.embed_plain(bodies, clients, ROUND_S)["requests_per_s"],
        },
        rounds,
    )
    ours, plain = (Series(name, "requests/s", each) for name, each in values.items())
    return ours, plain
