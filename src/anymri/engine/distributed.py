"""Several processes that work as one: who does which share, and what they tell each other."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from anymri.errors import AnymriError, TrainingError, UsageError

PATIENCE = timedelta(minutes=30)  # With a process that neither answers nor is gone.
ANSWER = timedelta(seconds=2)  # For one that is asked whether it is still there.
ADVICE = "the same command goes on, train with --resume"

HERE = "-"  # In place of a reason: says that a process has noticed that another is gone.

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Processes:
    """This process among those that work together; one alone needs nobody, and every method is then a plain loop.

    Attributes:
        rank: Number of this process, from 0.
        count: How many there are.
        store: Where small facts are kept that all can see; None if there is one process.
        advice: How to go on if one of them is lost, for the message.
    """

    rank: int = 0
    count: int = 1
    store: Store | None = None
    advice: str = ADVICE

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Return every count-th item, beginning at the own rank: the same shares every time."""
        return list(items[self.rank :: self.count])

    def deal(self, items: Sequence[Item], what: str) -> Iterator[Item]:
        """Yield items that no other process gets: whoever is free takes the next one.

        Args:
            items: The same ones in every process.
            what: A name for the pile, used once.

        Raises:
            TrainingError: If the processes have lost each other.
        """
        if self.store is None:
            yield from items
            return
        while True:
            with self._together():
                number = self.store.add(f"dealt/{what}", 1) - 1
            if number >= len(items):
                return
            yield items[number]

    def wait(self) -> None:
        """Go on when all have come this far.

        Raises:
            TrainingError: If one of the others is gone.
        """
        self.gather(None)

    def gather(self, value: Any) -> list[Any]:
        """Return what each process gave, in the order of their ranks; anything that JSON can hold.

        Raises:
            TrainingError: If one of the others is gone.
        """
        if self.count == 1:
            return [value]
        own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        with self._together():
            dist.all_gather(lengths, torch.tensor([len(own)]))
            longest = max(int(n) for n in lengths)
            texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.count)]
            dist.all_gather(texts, torch.nn.functional.pad(own, (0, longest - len(own))))
        return [json.loads(t[: int(n)].numpy().tobytes()) for t, n in zip(texts, lengths, strict=True)]

    @torch.no_grad()
    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in as few messages as there are types of numbers.

        Raises:
            TrainingError: If one of the others is gone.
        """
        if self.count == 1:
            return
        for kind in sorted({t.dtype for t in tensors}, key=str):
            alike = [t for t in tensors if t.dtype == kind]
            flat = torch.cat([t.reshape(-1) for t in alike])
            with self._together():
                dist.all_reduce(flat)
            for tensor, total in zip(alike, flat.split([t.numel() for t in alike]), strict=True):
                tensor.copy_(total.reshape(tensor.shape))

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # All of torch.distributed's errors are of this kind.
            raise TrainingError(f"{self._lost(str(error))}; {self.advice}") from None

    def _lost(self, found: str) -> str:
        """Return who is gone, as far as those that are left can tell: each says that it is there and waits for the rest."""
        self.leave(HERE)
        for rank in range(self.count):
            try:
                assert self.store is not None
                self.store.wait([f"left/{rank}"], ANSWER)
                reason = self.store.get(f"left/{rank}").decode()
            except RuntimeError:
                reason = "killed, out of memory, or its machine is lost"
            if reason != HERE:
                return f"process {rank} of {self.count} (counted from 0) is gone ({reason})"
        return f"the {self.count} processes have lost each other ({found.splitlines()[0]})"

    def leave(self, reason: str) -> None:
        """Tell the others why this process stops; the first word counts."""
        try:
            if self.store is not None:
                self.store.compare_set(f"left/{self.rank}", "", reason)
        except RuntimeError:  # Nobody is there to be told.
            pass


ALONE = Processes()
_MEETINGS = itertools.count()  # All processes meet equally often, in the same order.
_JOINED: ContextVar[Processes] = ContextVar("joined", default=ALONE)


def processes() -> Processes:
    """Return this process among those that work together."""
    return _JOINED.get()


def launch() -> str | None:
    """Return the name that torchrun gave to this launch, which its restarts keep; None without torchrun."""
    return os.environ.get("TORCHELASTIC_RUN_ID")


def restarted(begun_by: str | None) -> bool:
    """Return whether torchrun has started this process again after one of its group was lost, in the launch that began the work.

    Args:
        begun_by: The name of that launch, as ``launch`` returned it.
    """
    return begun_by is not None and begun_by == launch() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def joined(device: torch.device | None = None, *, advice: str = ADVICE) -> Iterator[Processes]:
    """Work together with the processes that torchrun has started, until the block ends; alone if it has not.

    Inside another such block nothing happens.

    Args:
        device: Where to compute; with a GPU, each process of a machine takes its own.
        advice: How to go on if a process is lost, for the message.

    Raises:
        UsageError: If a machine has fewer GPUs than processes.
        TrainingError: If the processes do not find each other, or one is lost.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if processes().store is not None or "RANK" not in os.environ or (count == 1 and not _on_gpu(device)):
        yield processes()
        return
    group = _found(int(os.environ["RANK"]), count, device, advice)
    before = _JOINED.set(group)
    try:
        yield group
    except AnymriError as error:
        group.leave(str(error))
        raise
    except BaseException as error:
        group.leave(type(error).__name__)
        raise
    finally:
        _JOINED.reset(before)
        dist.destroy_process_group()


def _found(rank: int, count: int, device: torch.device | None, advice: str) -> Processes:
    backend = "gloo"
    if _on_gpu(device):
        local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= there:
            raise UsageError(f"process {rank} needs GPU {local}, this machine has {there}; start at most {there} processes on it")
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    try:
        store, rank, count = next(rendezvous("env://", rank, count, timeout=PATIENCE))
        # The store still holds what earlier groups have left there, of processes that are no more or that meet for the next time.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"attempt {attempt}, meeting {next(_MEETINGS)}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"process {rank} of {count} does not find the others ({reason}); {advice}") from None
    return Processes(rank, count, PrefixStore("anymri", store), advice)


def _on_gpu(device: torch.device | None) -> bool:
    return device is not None and device.type == "cuda"
