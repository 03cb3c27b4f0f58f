from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from jobs.pipeline.block_vectors import texts_to_embed, with_vectors
from jobs.pipeline.rows import BLOCK, PipelineRow, RowOutcome, from_block, to_block
from serve_app.types import Passage, Vector

DIM = 3


def row(number: int, known: list[bool]) -> PipelineRow:
    """A document's; of a known passage the vector is its number in the row, plus ten times the row's, in each place."""
    if not known:
        return PipelineRow(RowOutcome.UNCHANGED, "file", str(number), source_bytes=number)
    vectors = [[10.0 * number + place if is_known else 0.0] * DIM for place, is_known in enumerate(known)]
    return PipelineRow(
        RowOutcome.INDEX,
        "file",
        str(number),
        passages=tuple(Passage(place, "text") for place in range(len(known))),
        texts=tuple(None if is_known else f"{number} {place}" for place, is_known in enumerate(known)),
        digests=("digest",) * len(known),
        dense=np.array(vectors, "<f4").tobytes() if any(known) else b"",
    )


def embedded(texts: list[str]) -> Vector:
    """Of the text "2 1" 21 in each place."""
    numbers = [10 * int(row) + int(place) for row, place in map(str.split, texts)]
    return np.repeat(np.array(numbers, np.float32)[:, None], DIM, axis=1)


@given(st.lists(st.lists(st.booleans(), max_size=4), max_size=6))
def test_each_passage_gets_its_own_vector_and_all_else_stays(known: list[list[bool]]) -> None:
    rows = [row(number, each) for number, each in enumerate(known)]
    block = to_block(rows)
    texts = texts_to_embed(block)
    assert texts == [text for each in rows for text in each.texts if text is not None]
    filled = with_vectors(block, embedded(texts), DIM)
    assert (filled.schema, len(filled)) == (BLOCK, 1)
    filled.validate(full=True)
    whole = [np.repeat(10 * number + np.arange(len(each)), DIM).astype("<f4") for number, each in enumerate(known)]
    assert from_block(filled) == [
        replace(each, texts=(), dense=dense.tobytes()) for each, dense in zip(rows, whole, strict=True)
    ]


def test_a_part_of_a_larger_table_is_filled_in_by_itself() -> None:
    """Ray hands on blocks as slices, which share their buffers."""
    blocks = pa.concat_tables([to_block([row(number, [False, True])]) for number in range(3)]).combine_chunks()
    second = blocks.slice(1, 1)
    assert texts_to_embed(second) == ["1 0"]
    (filled,) = from_block(with_vectors(second, embedded(["1 0"]), DIM))
    assert np.frombuffer(filled.dense, "<f4").tolist() == [10.0] * DIM + [11.0] * DIM
