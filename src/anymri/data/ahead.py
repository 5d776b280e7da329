"""The data of what comes next, made in a thread while the present is worked on.

Chance follows from the seed, the step and the part (decision 0005): what is made does not depend on when it is made, nor by whom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, runtime_checkable

Key = tuple[int, ...]
Value = TypeVar("Value")


@runtime_checkable
class Fetch(Protocol):
    """Returns what ``make`` makes of a key; ``following`` is what is most likely asked for next."""

    def __call__(self, make: Callable[[Key], Value], key: Key, following: Key) -> Value: ...


def at_once(make: Callable[[Key], Value], key: Key, following: Key) -> Value:
    """Return what ``make`` makes of the key; nothing is made ahead."""
    return make(key)


@contextmanager
def one_ahead() -> Iterator[Fetch]:
    """Give a way to fetch that makes one value ahead; it must be asked with one ``make`` alone.

    What a thread fails to make fails where it is asked for. What was made ahead and is not asked for next is dropped.
    """
    waiting: dict[Key, Future[Any]] = {}
    with ThreadPoolExecutor(1, "ahead") as pool:

        def fetch(make: Callable[[Key], Value], key: Key, following: Key) -> Value:
            ahead = waiting.pop(key, None)
            waiting.clear()
            value: Value = make(key) if ahead is None else ahead.result()
            waiting[following] = pool.submit(make, following)
            return value

        yield fetch
