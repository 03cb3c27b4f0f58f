"""Recent against a list that is kept in order of use."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve_app.flow.recent import Recent


@given(st.lists(st.tuples(st.sampled_from(["put", "get", "pop"]), st.integers(0, 6))), st.integers(1, 4))
def test_the_most_recently_used_stay(calls: list[tuple[str, int]], capacity: int) -> None:
    recent, order = Recent[int, int](capacity), list[int]()  # order: the one used last at the end
    for call, key in calls:
        if call == "put":
            recent.put(key, -key)
        else:
            assert (recent.get(key) if call == "get" else recent.pop(key)) == (-key if key in order else None)
        stays = call == "put" or (call == "get" and key in order)
        order = ([each for each in order if each != key] + [key] * stays)[-capacity:]
        assert len(recent) == len(order)
        assert [recent.peek(each) for each in order] == [-each for each in order]
