"""Work spread over processes: those that this one starts, and those that it was started with."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar, runtime_checkable

from anymri.errors import CaseError

Item = TypeVar("Item")
Result = TypeVar("Result")


@runtime_checkable
class Group(Protocol):
    """Processes that share the work, perhaps on several machines; ``engine.distributed.Processes`` is one."""

    @property
    def leads(self) -> bool:
        """Whether this process writes what there is one of."""
        ...

    def deal(self, items: Sequence[Item], what: str) -> Iterator[Item]:
        """Yield items that no other process gets."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """Return what each process gave, in the same order everywhere."""
        ...


class _Alone:
    leads = True

    def deal(self, items: Sequence[Item], what: str) -> Iterator[Item]:
        return iter(items)

    def gather(self, value: Any) -> list[Any]:
        return [value]


ALONE: Group = _Alone()


def worked_off(items: Iterator[Item], work: Callable[[Item], Result], workers: int) -> Iterator[Result]:
    """Yield the results of some work in processes that this one starts, as they come.

    Items are taken when a process is about to need them. If the caller stops, those under way are finished and no more begun.

    Args:
        items: What is worked on.
        work: A function of a module, or a partial of one; it travels to other processes.
        workers: How many processes.

    Raises:
        CaseError: If one of them died.
    """
    # Forking a process that has threads (blosc2, torch) can hang; a spawned one starts clean.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        waiting: set[Future[Result]] = set()
        try:
            while True:
                waiting |= {pool.submit(work, item) for item in itertools.islice(items, workers + 1 - len(waiting))}
                if not waiting:
                    return
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        except BrokenProcessPool as error:
            raise CaseError(
                "a worker process died, perhaps for lack of memory; run the same command again with fewer workers to go on"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    import blosc2

    # Signals reach the whole process group; the parent alone decides how to stop, and without it there is nothing to do.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    blosc2.set_nthreads(1)


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
