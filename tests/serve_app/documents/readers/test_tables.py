from __future__ import annotations

import datetime
import gzip
import math
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve_app.documents.readers import tables
from serve_app.documents.reading import read_file
from serve_app.types import Document
from tests.serve_app.documents.readers.conftest import Read, failures, only


def test_csv_columns_by_name(read: Read) -> None:
    content = 'Id,Title,Body,Year,Empty\n7,T,"two\nlines, ""quoted""",2020,\n,,"second",,\n'
    assert read("a.csv", content) == [
        Document("7", 'two\nlines, "quoted"', "T", metadata={"Year": "2020"}),
        Document("a.csv#2", "second"),
    ]


def test_csv_without_a_text_column(read: Read) -> None:
    assert only(read("a.csv", "name,price\nLamp,3\n")).text == "name: Lamp\nprice: 3"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(read: Read, delimiter: str) -> None:
    assert only(read("a.csv", f"id{delimiter}text\n1{delimiter}body\n")) == Document("1", "body")


def test_csv_encodings(read: Read) -> None:
    content = "id;text\n1;Größe über alles, müssen wir für die Straße sagen\n"
    for encoding in ("utf-8-sig", "cp1252", "utf-16"):
        assert only(read("a.csv", content.encode(encoding))) == Document(
            "1", content.rsplit(";", maxsplit=1)[-1].strip()
        )


def test_a_bad_row_is_one_failure(read: Read) -> None:
    results = read("a.csv", 'id,text\n1,one\n2,"a"b\n3,one,too many\n4\n5,five\n')
    assert [one.id for one in results if isinstance(one, Document)] == ["1", "5"]
    assert [source for source, _ in failures(results)] == ["a.csv#2", "a.csv#3", "a.csv#4"]
    assert ["is not CSV" in failures(results)[0][1], "has 3 fields" in failures(results)[1][1]] == [True, True]


def test_an_open_quote_is_told(read: Read) -> None:
    results = read("a.csv", 'id,text\n1,one\n2,"open\n3,three\n')
    assert len(results) == 2
    assert "unexpected end of data" in failures(results)[0][1]


def test_an_undecodable_row_is_one_failure(read: Read) -> None:
    good = "".join(f"{number},text {number} é\n" for number in range(20_000)).encode()
    results = read("a.csv", b"id,text\n" + good + b"x,caf\xe9\ny,last\n")
    assert [source for source, _ in failures(results)] == ["a.csv#20001"]
    assert len(results) == 20_002


def test_long_fields_gzip_and_overlong_lines(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "id,text\n1," + "word " * 100_000
    assert len(only(read("a.csv", content)).text) > 400_000
    assert only(read("a.csv.gz", gzip.compress(content.encode()))).id == "1"
    monkeypatch.setattr(tables, "MAX_RECORD_CHARS", 1000)
    assert "longer than 1000 characters" in failures(read("a.csv", content))[0][1]


@pytest.mark.parametrize("content", ["", "\n", "id,text\n", b"\x00\x01\x02" * 100])
def test_a_table_without_rows_is_a_failure(read: Read, content: str | bytes) -> None:
    assert len(failures(read("a.csv", content))) == 1


def test_parquet(tmp_path: Path) -> None:
    day = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)
    table = pa.table(
        {
            "_id": pa.array([1, 2, 3]),
            "text": ["one", "two\x00", None],
            "score": [0.5, math.nan, math.inf],
            "at": pa.array([day, None, day], pa.timestamp("ns", "UTC")),
            "tags": [["a"], [], None],
            "raw": [b"text", b"\xff\xfe", None],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    first, second, third = read_file(tmp_path / "a.parquet", tmp_path)
    at = "2024-05-01T12:00:00+00:00"
    assert first == Document("1", "one", metadata={"score": 0.5, "at": at, "tags": ["a"], "raw": "text"})
    assert second == Document("2", "two", metadata={"tags": [], "raw": "//4="})
    assert third == Document("3", f"at: {at}", metadata={"at": at})


def test_a_parquet_value_that_python_cannot_hold_costs_its_row(tmp_path: Path) -> None:
    days = pa.array([0, 100_000_000, 1], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"text": ["a", "b", "c"], "day": days}), tmp_path / "a.parquet")
    results = list(read_file(tmp_path / "a.parquet", tmp_path))
    assert [one.text for one in results if isinstance(one, Document)] == ["a", "c"]
    assert [source for source, _ in failures(results)] == ["a.parquet#2"]


def test_damaged_and_empty_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    assert failures(list(read_file(path, tmp_path))) == [("a.parquet", "has no rows")]
    path.write_bytes(b"PAR1" + path.read_bytes()[10:])
    assert len(failures(list(read_file(path, tmp_path)))) == 1


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "id;text (title, date, place)\nc1;Boat\n", {"text (title, date, place)": "Boat"}),
        ("a.tsv", "City, Country\ttext\nOslo, NO\tcold\n", {"City, Country": "Oslo, NO"}),
        ("a.csv", '"Ticket\nnumber";"text"\n17;"Cannot log in"\n', {"Ticket number": "17"}),
        ("a.csv", "name\nBoat; and more, of it\n", {"name": "Boat; and more, of it"}),
    ],
)
def test_the_delimiter_parts_the_rows_as_it_parts_the_header(
    read: Read, name: str, content: str, expected: dict[str, str]
) -> None:
    assert only(read(name, content)).metadata == expected


def test_columns_of_one_name_are_all_kept(read: Read) -> None:
    document = only(read("a.csv", "id,text,text,tag,tag,tag 2\nd1,first,second,one,two,three\n"))
    assert document == Document(
        "d1", "first", metadata={"text 2": "second", "tag": "one", "tag 2": "two", "tag 2 2": "three"}
    )


def test_a_subject_is_a_headline_and_no_person(read: Read) -> None:
    document = only(read("a.csv", "ID,Subject,Description\nT-1,Gearbox,It makes a noise\n"))
    metadata = {"Subject": "Gearbox", "Description": "It makes a noise"}
    assert document == Document("T-1", "Subject: Gearbox\nDescription: It makes a noise", "Gearbox", metadata=metadata)
    assert only(read("a.csv", "id,title,subject,text\n1,T,S,x\n")) == Document("1", "x", "T", metadata={"subject": "S"})


def test_decimals_and_bytes_are_exact(tmp_path: Path) -> None:
    ids = [Decimal(9007199254740993), Decimal(9007199254740992), Decimal(2**63)]
    table = pa.table(
        {
            "id": pa.array(ids, pa.decimal128(38, 0)),
            "text": ["one", "two", "three"],
            "amount": pa.array([Decimal("12345678901234567.89"), Decimal("0.10"), None], pa.decimal128(38, 2)),
            "uid": pa.array([bytes(16), b"\0" * 15 + b"\x01", b"no\tcontrol".ljust(16)], pa.binary(16)),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert list(read_file(tmp_path / "a.parquet", tmp_path)) == [
        Document(
            "9007199254740993", "one", metadata={"amount": "12345678901234567.89", "uid": "AAAAAAAAAAAAAAAAAAAAAA=="}
        ),
        Document("9007199254740992", "two", metadata={"amount": 0.1, "uid": "AAAAAAAAAAAAAAAAAAAAAQ=="}),
        Document("9223372036854775808", "three", metadata={"uid": "no\tcontrol      "}),
    ]
