"""SIGTERM and Ctrl-C: work stops where nothing is lost, and it is said how to go on. Needs no torch."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from anymri.errors import InterruptedWork

SIGNALS = (signal.SIGTERM, signal.SIGINT)
KEPT = "nothing that was finished is lost"
BOUNCE = 1.0  # Seconds within which a second Ctrl-C is the first one, passed on: torchrun sends it to processes that have it.


@dataclass
class _Watch:
    """What has been asked for since signals are watched."""

    advice: str
    kept: str = KEPT
    asked: int = 0
    since: float = 0.0
    deferred: bool = False


_WATCH: ContextVar[_Watch | None] = ContextVar("watch", default=None)


@contextmanager
def heeding(advice: str) -> Iterator[None]:
    """Turn SIGTERM and Ctrl-C into ``InterruptedWork``: at once, or when a block of ``deferred`` allows; a second Ctrl-C kills.

    Args:
        advice: How to go on.

    Raises:
        InterruptedWork: Where the signal found the work.
    """
    if threading.current_thread() is not threading.main_thread():  # Python's rule for whoever wants to handle signals.
        yield
        return
    watch = _Watch(advice)

    def heed(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if watch.asked:
            if number == signal.SIGINT and now - watch.since > BOUNCE:
                os._exit(128 + number)  # Files that were being written are temporary ones; the next command removes them.
            return
        watch.asked, watch.since = number, now
        if not watch.deferred:
            stop(number, watch.kept)
        if number == signal.SIGINT and leads():
            os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")

    before = {number: signal.signal(number, heed) for number in SIGNALS}
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def keeping(what: str) -> Iterator[None]:
    """Say something else than ``KEPT`` of what is left when a signal ends the block."""
    watch = _WATCH.get()
    if watch is None:
        yield
        return
    before, watch.kept = watch.kept, what
    try:
        yield
    finally:
        watch.kept = before


@contextmanager
def deferred() -> Iterator[None]:
    """Let signals wait until the block ends; inside, ``asked`` tells of them."""
    watch = _WATCH.get()
    if watch is None or watch.deferred:
        yield
        return
    watch.deferred = True
    try:
        yield
    finally:
        watch.deferred = False
    if watch.asked:
        stop(watch.asked, watch.kept)


def asked() -> int:
    """Return the number of the signal that asks for a stop; 0 if there is none."""
    watch = _WATCH.get()
    return watch.asked if watch else 0


def stop(number: int, done: str) -> NoReturn:
    """Stop.

    Args:
        number: Of the signal.
        done: What is kept.

    Raises:
        InterruptedWork: Always.
    """
    watch = _WATCH.get()
    advice = f"; {watch.advice}" if watch and watch.advice else ""
    raise InterruptedWork(number, f"{signal.Signals(number).name}: {done}{advice}")


def leads() -> bool:
    """Return whether this is the process that speaks, among those that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"
