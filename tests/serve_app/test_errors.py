"""Errors cross processes: a store's actor returns them, Ray's tasks raise them."""

from __future__ import annotations

import pickle

import pytest

from serve_app import errors


def with_children(cls: type[errors.PlatformError]) -> list[type[errors.PlatformError]]:
    return [cls, *(each for child in cls.__subclasses__() for each in with_children(child))]


ALL = with_children(errors.PlatformError)


@pytest.mark.parametrize("cls", ALL)
def test_an_error_reaches_another_process_unchanged(cls: type[errors.PlatformError]) -> None:
    error = cls("what to do")
    received = pickle.loads(pickle.dumps(error))
    assert (type(received), str(received), vars(received)) == (cls, "what to do", vars(error))


def test_the_time_to_retry_reaches_another_process() -> None:
    assert pickle.loads(pickle.dumps(errors.Overloaded("busy", 7.5))).retry_after_s == 7.5


def test_the_tree_in_the_docstring_has_every_error() -> None:
    drawn = str(errors.__doc__).replace("\n", " ").split()
    assert {cls.__name__ for cls in ALL} <= set(drawn)
