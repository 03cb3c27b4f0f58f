"""Compares ranking methods on a judged dataset. The parameters of a family are chosen by cross-validation over queries.

Each method is also measured on the titles of the dataset, which have one relevant document each; nothing is chosen on
these.

Examples:  python -m tests.bench.ranking --dataset ../shared/data/cranfield  ·  … --out ranking.json
           python -m tests.bench.ranking --dataset ../shared/data/cranfield --ways documents --passage-tokens 64
           python -m tests.bench.ranking --ways documents
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from jobs.evaluate.beir import read_dataset
from jobs.evaluate.ir_metrics import ndcg_at_k, recall_at_k
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.settings import load_settings
from serve_app.store.sparse import Bm25SparseEncoder
from tests.bench import machine
from tests.bench.ranking.cross_validation import Scores, held_out, randomisation_p
from tests.bench.ranking.grid import DOCUMENT_WAYS, QUALITY_DOCUMENT_WAYS, WAYS, Way
from tests.bench.ranking.index import Judged, indexed, known_items
from tests.bench.ranking.packages import package_summaries

DEPTH, NDCG_K = 100, 10
COMPARED = {"passages": WAYS, "documents": DOCUMENT_WAYS, "documents-quality": QUALITY_DOCUMENT_WAYS}
TITLES = 600  # titles used as queries, sampled uniformly


@dataclass(frozen=True, eq=False)
class Measured:
    """ndcg, recall: (queries,) at NDCG_K and DEPTH."""

    way: Way
    ndcg: Scores
    recall: Scores


@dataclass(frozen=True)
class Row:
    """A family with parameters chosen on the other folds (recall: of the method chosen most often), or a single method.
    Differences are to the first method of all."""

    name: str
    ndcg: float
    difference: float
    p: float
    recall: float


def measured(judged: Judged, ways: Sequence[Way]) -> list[Measured]:
    return [
        Measured(way, *_scores(judged, way))
        for way in track(ways, judged.name, transient=True, console=Console(stderr=True))
    ]


def _scores(judged: Judged, way: Way) -> tuple[Scores, Scores]:
    index = judged.index
    rankings = [index.by_document(way.aggregate(way.rank(index, one), index), DEPTH) for one in judged.questions]
    pairs = list(zip(rankings, judged.questions, strict=True))
    ndcg = np.array([ndcg_at_k(ranking, one.grades, NDCG_K) for ranking, one in pairs])
    return ndcg, np.array([recall_at_k(ranking, one.grades, DEPTH) for ranking, one in pairs])


def as_they_are(of: Sequence[Measured]) -> dict[str, Row]:
    default = of[0]
    return {one.way.name: _row(one.way.name, one.ndcg, one.recall, default) for one in of}


def cross_validated(of: Sequence[Measured]) -> dict[str, tuple[Row, str]]:
    """By family: held-out scores, and the method that was chosen most often. Each family can also choose the first
    method of all, so a family that is worse everywhere shows no difference."""
    default = of[0]  # groupby below needs the methods of a family side by side
    families: dict[str, tuple[Row, str]] = {}
    for family, members in groupby(of, attrgetter("way.family")):
        choice = [default, *(one for one in members if one is not default)]
        scores, chosen = held_out(np.array([one.ndcg for one in choice]))
        favourite = choice[max(chosen, key=chosen.__getitem__)]
        row = _row(family, scores, favourite.recall, default)
        families[family] = row, f"{favourite.way.name} ({max(chosen.values()) / sum(chosen.values()):.0%})"
    return families


def _row(name: str, ndcg: Scores, recall: Scores, default: Measured) -> Row:
    difference = float(ndcg.mean() - default.ndcg.mean())
    return Row(name, float(ndcg.mean()), difference, randomisation_p(ndcg, default.ndcg), float(recall.mean()))


def table(families: dict[str, tuple[Row, str]], ways: dict[str, Row], titles: dict[str, Row]) -> str:
    """Two Markdown tables: held-out families, then each method on the judged dataset and on the titles."""
    lines = [
        "| family, held out | chosen most often | nDCG@10 | difference | p | recall@100 |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {favourite} | {_cells(row)} | {row.recall:.3f} |"
            for name, (row, favourite) in families.items()
        ),
        "",
        "| method | nDCG@10 | difference | p | recall@100 | titles: nDCG@10 | difference | p |",
        "|---|---|---|---|---|---|---|---|",
        *(f"| {name} | {_cells(row)} | {row.recall:.3f} | {_cells(titles[name])} |" for name, row in ways.items()),
    ]
    return "\n".join(lines)


def _cells(row: Row) -> str:
    return f"{row.ndcg:.4f} | {row.difference:+.4f} | {row.p:.4f}"


def main(
    dataset: Annotated[
        Path | None, typer.Option(help="BEIR folder.", show_default="documentation of the installed packages")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the judgements: qrels/SPLIT.tsv.")] = "test",
    ways: Annotated[str, typer.Option(help=f"Methods to compare: {', '.join(COMPARED)}.")] = "passages",
    passage_tokens: Annotated[
        int | None, typer.Option(help="Longest passage in tokens.", show_default="from the settings")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for the results, JSON.")] = None,
) -> None:
    settings = load_settings()
    chunking = settings.chunking.model_copy(update={"max_tokens": passage_tokens} if passage_tokens else {})
    engine, bm25 = EmbeddingEngine.load(settings.embedding, settings.data_dir), Bm25SparseEncoder()
    if dataset is None:
        data, asked = None, package_summaries(TITLES)
    else:
        data = read_dataset(dataset, split)
        asked = known_items(data, TITLES)
    of_asked = measured(indexed(asked, engine, chunking, bm25), COMPARED[ways])
    of_set = measured(indexed(data, engine, chunking, bm25), COMPARED[ways]) if data else of_asked
    families, alone, items = cross_validated(of_set), as_they_are(of_set), as_they_are(of_asked)
    print(table(families, alone, items))
    if out:
        content = {
            "machine": machine.describe(),
            "dataset": (data or asked).name,
            "held_out": [asdict(row) | {"chosen": favourite} for row, favourite in families.values()],
            "ways": [asdict(row) for row in alone.values()],
            "titles": [asdict(row) for row in items.values()],
        }
        out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
