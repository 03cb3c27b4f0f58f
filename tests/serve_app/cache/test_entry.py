"""The codec gives back what was put, or nothing: no input makes it raise or answer wrongly."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from serve_app.cache.entry import HEADER_BYTES, KINDS, Entry, EntryKind, EntryOutcome, decode, encode, negative
from serve_app.errors import InvalidInput, NotFound, PayloadTooLarge, StoreUnavailable

KEYS = st.binary(min_size=32, max_size=32)
ENTRIES = st.builds(
    Entry,
    st.sampled_from(EntryKind),
    st.binary(max_size=200),
    st.floats(1, 2e9) | st.just(math.inf),
    st.sampled_from(EntryOutcome),
)


@given(KEYS, ENTRIES)
def test_what_was_encoded_comes_back(key: bytes, entry: Entry) -> None:
    content = encode(key, entry)
    assert len(content) == HEADER_BYTES + len(entry.payload)
    assert decode(key, content, 0) == decode(key, memoryview(content), 0) == entry
    assert decode(key, content, entry.expires_at_s) is None


@given(KEYS, ENTRIES, st.data())
def test_damage_is_a_miss(key: bytes, entry: Entry, data: st.DataObject) -> None:
    content = bytearray(encode(key, entry))
    place = data.draw(st.integers(0, len(content) - 1).filter(lambda n: n != 7))  # byte 7 is padding, but summed
    content[place] ^= data.draw(st.integers(1, 255))
    assert decode(key, bytes(content), 0) is None
    assert decode(key, encode(key, entry)[:place], 0) is None
    assert decode(key, encode(key, entry) + b"\0" * (place + 1), 0) is None


@given(KEYS, KEYS, ENTRIES)
def test_an_entry_of_another_key_is_a_miss(key: bytes, other: bytes, entry: Entry) -> None:
    assert (decode(other, encode(key, entry), 0) is None) == (key != other)


@given(KEYS, st.binary(max_size=100))
def test_foreign_bytes_are_a_miss(key: bytes, content: bytes) -> None:
    assert decode(key, content, 0) is None
    assert decode(key, encode(key, Entry(EntryKind.RESULT, b""))[:8] + content, 0) is None


def test_every_kind_has_a_number() -> None:
    assert set(KINDS) == set(EntryKind)


def test_only_lasting_errors_are_remembered_and_keep_their_class() -> None:
    for error in (NotFound("no collection 'é'"), InvalidInput("limit")):
        remembered = negative(EntryKind.RESULT, error, 5)
        assert remembered is not None and remembered.expires_at_s == 5
        again = remembered.error()
        assert type(again) is type(error) and str(again) == str(error)
    assert negative(EntryKind.RESULT, StoreUnavailable("later"), 5) is None
    assert negative(EntryKind.RESULT, PayloadTooLarge("would become an InvalidInput"), 5) is None
    assert Entry(EntryKind.RESULT, b"value").error() is None


@given(ENTRIES, st.floats(0, 3e9))
def test_until_only_shortens(entry: Entry, at_s: float) -> None:
    shortened = entry.until(at_s)
    assert shortened.expires_at_s == min(entry.expires_at_s, at_s)
    assert (shortened.kind, shortened.payload, shortened.outcome) == (entry.kind, entry.payload, entry.outcome)
