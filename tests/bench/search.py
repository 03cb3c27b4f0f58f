"""Compares searches through the API under load with three chained deployments and with engine and store in process.

Each query is sent once. Repeated queries, which the cache serves, are compared with a handler that does nothing.
"""

from __future__ import annotations

from tests.bench.contenders import Contenders
from tests.bench.rounds import Comparison, Series, interleave

CLIENTS = 32
ROUND_S = 5.0
PEER_TARGET, IN_PROCESS_TARGET, CACHED_TARGET, ONE_CLIENT_TARGET = 2.0, 0.6, 0.8, 0.5


def compare(them: Contenders, rounds: int) -> list[Comparison]:
    return [*distinct_queries(them, rounds), repeated_queries(them, rounds), *one_client(them, rounds)]


def distinct_queries(them: Contenders, rounds: int) -> list[Comparison]:
    rates = interleave(
        {
            "ai-docs": lambda: them.search(CLIENTS, ROUND_S)["requests_per_s"],
            "three deployments": lambda: them.search_peer(CLIENTS, ROUND_S)["requests_per_s"],
            "in process": lambda: them.search_in_process(CLIENTS, ROUND_S)["requests_per_s"],
        },
        rounds,
    )
    ours, peer, in_process = (Series(name, "requests/s", values) for name, values in rates.items())
    figure = f"hybrid search, {CLIENTS} clients"
    return [
        Comparison(figure, ours, peer, PEER_TARGET, them.note),
        Comparison(figure, ours, in_process, IN_PROCESS_TARGET, them.note),
    ]


def repeated_queries(them: Contenders, rounds: int) -> Comparison:
    rates = interleave(
        {
            "ai-docs": lambda: them.search_again(CLIENTS, ROUND_S)["requests_per_s"],
            "empty handler": lambda: them.nothing(CLIENTS, ROUND_S)["requests_per_s"],
        },
        rounds,
    )
    ours, empty = (Series(name, "requests/s", values) for name, values in rates.items())
    return Comparison(f"repeated search (L1 hit), {CLIENTS} clients", ours, empty, CACHED_TARGET, them.note)


def one_client(them: Contenders, rounds: int) -> list[Comparison]:
    times = interleave(
        {
            "in the server": lambda: them.search(1, ROUND_S / 2)["server_p50_ms"],
            "in process": lambda: them.search_in_process(1, ROUND_S / 2)["p50_ms"],
            "at the client": lambda: them.search(1, ROUND_S / 2)["p50_ms"],
            "three deployments": lambda: them.search_peer(1, ROUND_S / 2)["p50_ms"],
        },
        rounds,
    )
    server, in_process, client, peer = (Series(name, "ms", values) for name, values in times.items())
    figure = "hybrid search, 1 client, p50"
    return [
        Comparison(figure, server, in_process, ONE_CLIENT_TARGET, them.note, less_is_better=True),
        Comparison(figure, client, peer, None, them.note, less_is_better=True),
    ]
