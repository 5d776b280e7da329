"""A cohort over Ray actors: one model per worker, one task a patient, and another try where a worker died.

The weights travel by content, so that another machine need not have the file. Images and results do not: all workers see the same
folders. Ray itself sends arguments by cloudpickle between processes of one cluster; nothing of that is ever read from a file.
"""

from __future__ import annotations

import math
import os
import platform
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from anymri.engine.interruption import SIGNALS, asked, deferred
from anymri.engine.model import Model, read_model
from anymri.errors import UsageError
from anymri.segment.cohort import Executor, Outcome, segmented
from anymri.segment.patient import Options, ready
from anymri.segment.visit import Visit, absolute

TRIES = 3  # For each patient, where workers die on it.


@dataclass(frozen=True)
class Place:
    """Where a worker is.

    Attributes:
        host: Name of the machine.
        process: Its process there.
        version: Of anymri.
        sees: Whether the file that it was to look for is there.
    """

    host: str
    process: int
    version: str
    sees: bool


@dataclass(frozen=True)
class Share:
    """What each worker takes of a cluster."""

    cores: int
    gpus: float


@dataclass(frozen=True)
class Crew:
    """Workers that are ready.

    Attributes:
        execute: Has them segment.
        places: Where they were at the start; one that died may have come back elsewhere.
    """

    execute: Executor
    places: tuple[Place, ...]


class Worker:
    """Holds a model in a process of its own and segments one patient after the other.

    The weights come with every task, out of the memory that the processes of a machine share, and are read by the first: a worker
    that was started anew then has them, whatever became of what its forerunner was made with.
    """

    def __init__(self, sha256: str, cores: int) -> None:
        torch.set_num_threads(cores)
        self._sha256 = sha256
        self._model: Model | None = None

    def place(self, content: bytes, file: str) -> Place:
        """Return where this worker is, and whether it sees a file, after the weights have been read."""
        self._read(content)
        return Place(platform.node(), os.getpid(), version("anymri"), Path(file).is_file())

    def segment(self, content: bytes, visit: Visit, options: Options, out: str) -> Outcome:
        """Segment a patient into its folder below ``out``."""
        self._model = ready(self._read(content), options)
        return segmented(visit, self._model, options, Path(out))

    def _read(self, content: bytes) -> Model:
        self._model = self._model or model_of(content, self._sha256)
        return self._model


def model_of(content: bytes, sha256: str) -> Model:
    """Return the model that the bytes of a weights file hold.

    Raises:
        WeightsError: If they do not hash to what they should, or do not fit their own header.
    """
    with tempfile.TemporaryDirectory(prefix="anymri-") as folder:
        file = Path(folder) / "weights.safetensors"
        file.write_bytes(content)
        return read_model(file, sha256=sha256)


def share_of(cores: Sequence[float], gpus: float, workers: int) -> Share:
    """Return what each of some workers may take so that all of them find room.

    Args:
        cores: Of each machine.
        gpus: Of all machines together.
        workers: How many there are to be.

    Raises:
        UsageError: If there are more workers than cores.
    """
    whole = int(sum(cores)) // workers
    fitting = [k for k in range(whole, 0, -1) if sum(int(c) // k for c in cores) >= workers]
    if not fitting:
        raise UsageError(f"--workers {workers}: the cluster has {int(sum(cores))} cores; give at most as many workers")
    return Share(fitting[0], 1.0 / math.ceil(workers / gpus) if gpus >= 1 else 0.0)


@contextmanager
def crew(weights: Path, model: Model, options: Options, *, workers: int, out: Path) -> Iterator[Crew]:
    """Give workers: of the cluster at $RAY_ADDRESS, or of one that is started on this machine for as long as the block lasts.

    Args:
        weights: File of the model.
        model: What it holds.
        options: How to segment.
        workers: How many.
        out: Folder that all of them must see.

    Raises:
        UsageError: If Ray is not installed, the cluster cannot be reached or is too small, or a worker does not fit.
    """
    ray = _ray()
    with deferred(), _cluster(ray, workers):  # Ray's own loops cannot be left by an exception.
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = 0.0 if options.device == "cpu" else sum(n.get("GPU", 0.0) for n in nodes)
        share = share_of([n.get("CPU", 0.0) for n in nodes], gpus, workers)
        remote = ray.remote(Worker).options(num_cpus=share.cores, num_gpus=share.gpus, max_restarts=-1, max_task_retries=TRIES - 1)
        content = ray.put(weights.read_bytes())
        team = _Team(ray, tuple(remote.remote(model.sha256, share.cores) for _ in range(workers)), content)
        try:
            places = _places(team, out)
            yield Crew(lambda visits, folder: _dispatched(team, visits, options, folder), places)
        finally:
            for handle in team.handles:
                ray.kill(handle)


@contextmanager
def _cluster(ray: Any, workers: int) -> Iterator[None]:
    """Be connected to a cluster for as long as the block lasts, unless the program is already."""
    if ray.is_initialized():
        yield
        return
    with _handlers_kept():
        _connect(ray, workers)
    try:
        yield
    finally:
        ray.shutdown()


def _ray() -> Any:
    # Read when Ray starts: no statistics leave the machine, and a worker without a GPU of its own is not warned about.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise UsageError(
            "--workers needs Ray, which is not installed: pip install 'anymri[scale]'; or divide the patients by --shard"
        ) from None
    return ray


def _connect(ray: Any, workers: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            ray.init(address="local", num_cpus=max(cores, workers), include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"at {address} (RAY_ADDRESS)" if address else "on this machine"
        raise UsageError(f"--workers {workers}: no Ray cluster {where}: {_last_line(error)}") from None


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Give signals back to whom they belonged before: a Ray that starts takes SIGTERM, and ends in a dump of its stack."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass(frozen=True)
class _Team:
    """Ray, the actors, and where the bytes of the weights are kept."""

    ray: Any
    handles: tuple[Any, ...]
    content: Any


def _places(team: _Team, out: Path) -> tuple[Place, ...]:
    ray = team.ray
    with tempfile.NamedTemporaryFile(prefix=".part-", dir=out) as probe:
        try:
            places = tuple(ray.get([h.place.remote(team.content, os.path.abspath(probe.name)) for h in team.handles]))
        except ray.exceptions.RayError as error:
            raise UsageError(f"a worker could not start: {_last_line(error)}") from None
    for place in places:
        if place.version != version("anymri"):
            raise UsageError(
                f"the worker on {place.host} has anymri {place.version}, this is {version('anymri')}; install one version"
            )
        if not place.sees:
            raise UsageError(f"the worker on {place.host} does not see {out}; --out and the images must be on a shared file system")
    return places


def _dispatched(team: _Team, visits: Sequence[Visit], options: Options, out: Path) -> Iterator[Outcome]:
    """Yield what became of each patient. A worker has one task at a time, so that its death costs one patient's time alone.

    If a signal asks for a stop, no more are begun, and those under way are finished.
    """
    ray, folder = team.ray, os.path.abspath(out)
    idle, waiting = list(team.handles), deque(visits)
    running: dict[Any, tuple[Any, Visit]] = {}
    while running or (waiting and not asked()):
        while idle and waiting and not asked():
            handle, visit = idle.pop(), waiting.popleft()
            running[handle.segment.remote(team.content, absolute(visit), options, folder)] = handle, visit
        if not running:
            return
        (ready, *_), _ = ray.wait(list(running), num_returns=1)
        handle, visit = running.pop(ready)
        idle.append(handle)
        try:
            outcome = ray.get(ready)
        except ray.exceptions.RayTaskError:
            raise  # A mistake in the program, not a fault of the patient or of the machine.
        except ray.exceptions.RayError:
            outcome = Outcome(
                visit.name,
                None,
                f"its worker died {TRIES} times, perhaps for lack of memory; segment it by itself, or with fewer workers",
            )
        yield outcome


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__  # Of a traceback, what it ends with.
