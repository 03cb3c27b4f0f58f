from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.export.file import Header, from_row, reading, require_known_suffix, to_row, writing
from serve_app.errors import InvalidInput
from serve_app.types import IndexedDocument, VectorSpace
from serve_app.validation import INT64, MAX_METADATA_DEPTH
from tests.contracts.corpus import SPACE, document
from tests.jobs.contents import plain

HEADER = Header(SPACE, 3)
NAMES = ["a.parquet", "a.jsonl", "a.jsonl.gz"]
DOCUMENTS = [
    document("a", "cats purr", "é 日本", metadata={"n": 1, "deep": {"list": [1.5, None, True]}}, subject="s"),
    document("no passages"),
    document("b", *[f"part{n}" for n in range(100)]),
]


def require_same(one: IndexedDocument, other: IndexedDocument) -> None:
    assert plain(one) == plain(other)
    for mine, theirs in zip(one.passages, other.passages, strict=True):
        np.testing.assert_array_equal(mine.dense, theirs.dense)
        np.testing.assert_array_equal(mine.sparse.indices, theirs.sparse.indices)
        np.testing.assert_array_equal(mine.sparse.values, theirs.sparse.values)
        assert theirs.dense.dtype == theirs.sparse.values.dtype == np.float32


def export(path: Path, documents: list[IndexedDocument]) -> None:
    with writing(path, HEADER) as write:
        for each in documents:
            write([each])
        write([])


def read(path: Path) -> list[IndexedDocument]:
    with reading(path) as (_, batches):
        return [each for batch in batches for each in batch]


@pytest.mark.parametrize("name", NAMES)
def test_documents_come_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    export(tmp_path / name, DOCUMENTS)
    with reading(tmp_path / name) as (header, batches):
        assert header == HEADER
        for one, other in zip(DOCUMENTS, (each for batch in batches for each in batch), strict=True):
            require_same(one, other)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@given(st.lists(st.floats(-1, 1, width=32), min_size=8, max_size=8))
def test_a_row_is_its_document(values: list[float]) -> None:
    whole = document("a", "text")
    for item in whole.passages:
        item.dense[:] = values
    require_same(whole, from_row(to_row(whole)))


@pytest.mark.parametrize("name", NAMES)
def test_what_fails_leaves_the_file_as_it_was(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("before")
    with pytest.raises(RuntimeError), writing(path, HEADER) as write:
        write(DOCUMENTS)
        raise RuntimeError("the store went away")
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_file_that_is_cut_off_between_lines_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    export(path, DOCUMENTS)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(InvalidInput, match=r"a.jsonl is damaged .*ends before its last line"):
        read(path)


def test_damage_within_a_packed_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    export(path, DOCUMENTS)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"a.jsonl.gz (is damaged|cannot be read)"):
        read(path)


@pytest.mark.parametrize(
    "change",
    [
        {"title": None},
        {"id": " "},
        {"metadata": "null"},
        {"metadata": "{"},
        {"metadata": f'{{"n": {INT64.stop}}}'},
        {"metadata": '{"deep": ' + "[" * MAX_METADATA_DEPTH + "]" * MAX_METADATA_DEPTH + "}"},
        {"text": "", "title": ""},
    ],
)
def test_a_document_that_no_upload_could_be_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    export(path, DOCUMENTS[:1])
    header, row, end = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header + orjson.dumps(orjson.loads(row) | change) + b"\n" + end)
    with pytest.raises(InvalidInput, match="is damaged after document 0"):
        read(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_cut_off_is_told(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    export(path, DOCUMENTS)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InvalidInput, match=r"a\.(parquet cannot be read|jsonl.* is damaged after document [0-2])"):
        read(path)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b'{"id": "x"}', "KeyError"),
        *((line, "a line is not a JSON object") for line in (b"[1]", b"5", b'"x"', b"null")),
    ],
)
def test_a_damaged_line_is_told(line: bytes, error: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    export(path, DOCUMENTS)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[2:]]))
    with pytest.raises(InvalidInput, match=rf"a.jsonl is damaged after document 0: .*{error}"):
        read(path)


def test_what_is_no_export_is_told(tmp_path: Path) -> None:
    text, packed, table, newer = (tmp_path / name for name in ("a.jsonl", "b.jsonl.gz", "c.parquet", "d.jsonl"))
    text.write_text('{"id": "d"}\n')
    packed.write_bytes(gzip.compress(b"no JSON"))
    pq.write_table(pa.table({"x": [1]}), table)
    newer.write_text('{"format": 2}\n')
    for path in (text, packed, table):
        with pytest.raises(InvalidInput, match="is not an export of a collection"):
            read(path)
    with pytest.raises(InvalidInput, match="has format 2, but this version reads format 1"):
        read(newer)
    (tmp_path / "text.jsonl.gz").write_text("not packed")
    for name in ("text.jsonl.gz", "none.parquet", "none.jsonl"):
        with pytest.raises(InvalidInput, match="cannot be read"):
            read(tmp_path / name)
    with pytest.raises(InvalidInput, match=r"must end in one of \.parquet, \.jsonl"):
        require_known_suffix(Path("a.csv"))


def test_a_header_keeps_its_space() -> None:
    header = Header(VectorSpace("m", "r", 3), 7)
    assert Header.from_json(header.to_json(), Path("x")) == header
