"""What is made ahead is what would have been made at once: nothing is skipped, kept too long, or made twice."""

from __future__ import annotations

import threading

import pytest

from anymri.data.ahead import Key, at_once, one_ahead


def test_keys_in_turn_are_made_once_each_and_one_ahead() -> None:
    made: list[tuple[Key, str]] = []

    def make(key: Key) -> Key:
        made.append((key, threading.current_thread().name))
        return key

    keys = [(7, step, part) for step in range(3) for part in range(2)]
    with one_ahead() as fetch:
        found = [fetch(make, key, following) for key, following in zip(keys, [*keys[1:], (7, 3, 0)], strict=True)]
    assert found == keys == [at_once(make, key, key) for key in keys]
    in_turn = [key for key, _ in made[: len(keys) + 1]]
    assert in_turn == [*keys, (7, 3, 0)]
    assert made[0][1] == threading.current_thread().name and all(name.startswith("ahead") for _, name in made[1 : len(keys) + 1])


def test_a_key_that_was_not_expected_is_made_all_the_same() -> None:
    with one_ahead() as fetch:
        for key in ((0,), (5,), (1,), (1,), (2,)):
            assert fetch(lambda k: k[0] * 10, key, (key[0] + 1,)) == key[0] * 10


def test_a_failure_comes_up_where_its_value_is_asked_for() -> None:
    def make(key: Key) -> int:
        if key == (1,):
            raise ValueError("broken")
        return key[0]

    with one_ahead() as fetch:
        assert fetch(make, (0,), (1,)) == 0
        with pytest.raises(ValueError, match="broken"):
            fetch(make, (1,), (2,))
    with one_ahead() as fetch:
        assert fetch(make, (0,), (1,)) == 0  # Never asked for: nobody is told.
