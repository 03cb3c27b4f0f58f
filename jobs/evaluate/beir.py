"""Reads an evaluation dataset in BEIR's layout.

```text
corpus.jsonl   {"_id", "title", "text"}                       one document in each line  (or corpus.jsonl.gz)
queries.jsonl  {"_id", "text"}                                one query in each line     (or queries.jsonl.gz)
qrels/test.tsv query-id <tab> corpus-id <tab> score           one judgement in each line, after a header
```
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from serve_app.errors import InvalidInput
from serve_app.types import Document

LAYOUT = "a BEIR folder holds corpus.jsonl, queries.jsonl (each may be .gz) and qrels/<split>.tsv"


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """queries: id → text, only queries with a relevant document. judgements: query id → document id → grade."""

    name: str
    documents: tuple[Document, ...]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]


def read_dataset(folder: Path, split: str = "test") -> Dataset:
    """Raises InvalidInput if a file is missing, a line is malformed (named by file and line), an id is used twice, or a
    judged query is missing. A judged document may be missing, as in some published sets; no search can find it."""
    require_folder(folder)
    documents = {
        key: Document(id=key, text=text(row, "text"), title=text(row, "title"))
        for key, row in unique(read_jsonl(find(folder, "corpus.jsonl")))
    }
    judged = read_judged(folder, split)
    if not any(document in documents for grades in judged.judgements.values() for document in grades):
        raise InvalidInput(
            f"{folder / 'qrels' / split}.tsv judges no document of corpus.jsonl; are they from the same dataset?"
        )
    return replace(judged, documents=tuple(documents.values()))


def read_judged(folder: Path, split: str = "test") -> Dataset:
    """The dataset without its documents; corpus.jsonl may be missing. Raises what `read_dataset` raises."""
    require_folder(folder)
    texts = {key: text(row, "text") for key, row in unique(read_jsonl(find(folder, "queries.jsonl")))}
    qrels = folder / "qrels" / f"{split}.tsv"
    judgements = read_judgements(qrels)
    relevant = {query: grades for query, grades in judgements.items() if any(grade > 0 for grade in grades.values())}
    if not relevant:
        raise InvalidInput(f"{qrels} judges nothing as relevant: all scores are 0 or below, or the file is empty")
    if lost := [query for query in relevant if query not in texts]:
        raise InvalidInput(f"{qrels} judges {len(lost)} queries that are not in queries.jsonl, such as {lost[0][:80]}")
    return Dataset(folder.resolve().name, (), {q: texts[q] for q in relevant}, relevant)


def require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder; {LAYOUT}")


def find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InvalidInput(f"{folder / name} is missing; {LAYOUT}")


def open_text(path: Path) -> TextIO:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def read_jsonl(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Place (file:line), `_id` and object of every line. Skips blank lines."""
    for place, line in read_lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InvalidInput(f"{place}: not JSON ({error})") from error
        if not isinstance(row, dict) or not isinstance(row.get("_id"), str | int) or "text" not in row:
            raise InvalidInput(f'{place}: expected an object with "_id" and "text"')
        yield place, str(row["_id"]), row


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with open_text(path) as lines:
            for number, line in enumerate(lines, start=1):
                yield f"{path}:{number}", line
    except (
        OSError,
        EOFError,
        UnicodeDecodeError,
    ) as error:  # a truncated or damaged gzip file raises OSError or EOFError
        raise InvalidInput(f"{path} cannot be read as UTF-8 text: {error}") from error


def unique(rows: Iterator[tuple[str, str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    seen = set()
    for place, key, row in rows:
        if key in seen:
            raise InvalidInput(f"{place}: duplicate _id {key[:80]!r}")
        seen.add(key)
        yield key, row


def text(row: dict[str, Any], field: str) -> str:
    value = row.get(field) or ""
    return value if isinstance(value, str) else str(value)


def read_judgements(path: Path) -> dict[str, dict[str, int]]:
    """Query id → document id → grade. The first line counts as a header unless its third column is a number."""
    if not path.is_file():
        there = sorted(p.stem for p in path.parent.glob("*.tsv"))
        raise InvalidInput(f"{path} is missing; {LAYOUT}; available splits: {', '.join(there) or 'none'}")
    judgements: dict[str, dict[str, int]] = {}
    for index, (place, line) in enumerate(read_lines(path)):
        columns = line.rstrip("\r\n").split("\t")
        if not line.strip():
            continue
        try:
            query, document, grade = columns[0], columns[1], int(columns[2])
        except (IndexError, ValueError):
            if index == 0:
                continue
            raise InvalidInput(
                f"{place}: expected query-id, corpus-id and an integer score, separated by tabs"
            ) from None
        judgements.setdefault(query, {})[document] = grade
    return judgements
