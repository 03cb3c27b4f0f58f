from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.beir import read_dataset, read_judged
from serve_app.errors import InvalidInput
from serve_app.types import Document


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text(
        '{"_id": "d1", "title": "Wings", "text": "lift"}\n\n{"_id": "d2", "text": "drag"}\n'
    )
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "what lifts"}\n{"_id": "q2", "text": "unjudged"}\n')
    (tmp_path / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t0\n")
    return tmp_path


def test_reads_the_layout(folder: Path) -> None:
    dataset = read_dataset(folder)
    assert dataset.documents == (Document("d1", "lift", "Wings"), Document("d2", "drag"))
    assert dataset.queries == {"q1": "what lifts"}  # q2 has nothing relevant
    assert dataset.judgements == {"q1": {"d1": 2, "d2": 0}}


def test_gzip_and_a_qrels_file_without_header(folder: Path) -> None:
    plain = folder / "corpus.jsonl"
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    (folder / "qrels/test.tsv").write_text("q1\td1\t1\n")
    dataset = read_dataset(folder)
    assert len(dataset.documents) == 2
    assert dataset.judgements == {"q1": {"d1": 1}}


def test_queries_and_judgements_are_read_without_a_corpus(folder: Path) -> None:
    whole = read_dataset(folder)
    (folder / "corpus.jsonl").unlink()
    judged = read_judged(folder)
    assert (judged.documents, judged.queries, judged.judgements) == ((), whole.queries, whole.judgements)
    with pytest.raises(InvalidInput, match="is not a folder"):
        read_judged(folder / "none")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("corpus.jsonl", '{"_id": "d1"', r"corpus.jsonl:1: not JSON"),
        ("corpus.jsonl", '{"_id": "d1"}', r'corpus.jsonl:1: expected an object with "_id" and "text"'),
        ("corpus.jsonl", "[]", r"corpus.jsonl:1: expected an object"),
        ("corpus.jsonl", '{"_id": "a", "text": ""}\n{"_id": "a", "text": ""}', r"corpus.jsonl:2: duplicate _id 'a'"),
        ("corpus.jsonl", '{"_id": "a", "text": ""}', r"judges no document of corpus.jsonl"),
        ("queries.jsonl", '{"_id": "q9", "text": ""}', r"judges 1 queries that are not in queries.jsonl, such as q1"),
        ("qrels/test.tsv", "h\th\th\nq1\td1\n", r"test.tsv:2: expected query-id, corpus-id and an integer score"),
        ("qrels/test.tsv", "h\th\th\nq1\td1\t0\n", r"judges nothing as relevant"),
    ],
)
def test_names_what_is_wrong(folder: Path, file: str, content: str, message: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(InvalidInput, match=message):
        read_dataset(folder)


def test_names_what_is_missing(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"dev.tsv is missing; .*available splits: test"):
        read_dataset(folder, "dev")
    (folder / "queries.jsonl").unlink()
    with pytest.raises(InvalidInput, match=r"queries.jsonl is missing; a BEIR folder holds"):
        read_dataset(folder)
    with pytest.raises(InvalidInput, match="is not a folder"):
        read_dataset(folder / "none")


def test_a_damaged_gzip_is_named(folder: Path) -> None:
    packed = gzip.compress((folder / "corpus.jsonl").read_bytes())
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_bytes(packed[:-9])
    with pytest.raises(InvalidInput, match=r"corpus.jsonl.gz cannot be read"):
        read_dataset(folder)


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.tuples(st.text(), st.text()), min_size=1, max_size=5))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, rows: dict[str, tuple[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("beir")
    (folder / "qrels").mkdir()
    lines = [json.dumps({"_id": key, "title": title, "text": text}) for key, (title, text) in rows.items()]
    (folder / "corpus.jsonl").write_text("\n".join([*lines, '{"_id": "judged and longer than any", "text": ""}']))
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "?"}))
    (folder / "qrels" / "test.tsv").write_text("q\tjudged and longer than any\t1\n")
    expected = [Document(key, text, title) for key, (title, text) in rows.items()]
    assert list(read_dataset(folder).documents[:-1]) == expected


def test_cranfield(cranfield: Path) -> None:
    dataset = read_dataset(cranfield)
    assert (len(dataset.documents), len(dataset.queries)) == (1400, 225)
    assert sum(map(len, dataset.judgements.values())) == 1837
