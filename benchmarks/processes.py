"""Cases evaluated by one process and by two, one core and one thread each: wall seconds from start to end, and their ratio.

    python benchmarks/processes.py --json processes.json
    python benchmarks/processes.py --data prepared --cases 8

Every subset of every case is segmented by the shipped weights and scored, by the command that users give; the processes share the
cases as docs/how-to/many-processes.md has it. The cases are synthetic patients, or the first complete ones of a prepared cohort.
The counts take turns in one run, and all must write the same table. Only wall seconds tell whether processes work side by side: it
takes as many free cores as processes. CPU seconds of all processes are beside them; where they grow, cores or memory were shared.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from measuring import described, write_json

from anymri.cohorts.phantom import write_phantoms
from anymri.domain.case import Split
from anymri.domain.task import GLIOMA
from anymri.preparation.pipeline import prepare_cohort
from anymri.volumes.store import CohortRecord, list_cases, read_case, write_cohort


def gather(root: Path, data: Path | None, count: int) -> Path:
    """Return a prepared cohort of this many complete cases, all in one fold."""
    if data is None:
        data = root / "phantoms"
        prepare_cohort(write_phantoms(root / "raw", GLIOMA, seeds=range(1, count + 1)), GLIOMA, data)
    complete = [f for f in list_cases(data) if set(read_case(f).modalities) == set(GLIOMA.modalities.names)]
    known = [f for f in complete if set(read_case(f).known_regions) == set(GLIOMA.region_names)][:count]
    (root / "prepared" / "cases").mkdir(parents=True)
    for folder in known:
        (root / "prepared" / "cases" / folder.name).symlink_to(folder.resolve(), target_is_directory=True)
    names = tuple(folder.name for folder in known)
    write_cohort(root / "prepared", CohortRecord("benchmark", GLIOMA.name, names), Split((names,)))
    return root / "prepared"


def begun(command: Sequence[str], processes: int) -> list[subprocess.Popen[bytes]]:
    """Start a command as so many processes that know of each other, one thread and, where that can be said, one core each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    running: list[subprocess.Popen[bytes]] = []
    for rank in range(processes):
        environment = {**os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if cores:
            os.sched_setaffinity(process.pid, {cores[rank % len(cores)]})
        running.append(process)
    return running


def evaluated(command: Sequence[str], out: Path, processes: int) -> tuple[float, float, bytes]:
    """Return wall seconds and CPU seconds of all processes, and the table."""
    before, started = os.times(), time.perf_counter()
    running = begun([*command, "--out", str(out)], processes)
    said = [process.communicate()[1].decode() for process in running]
    if any(process.returncode for process in running):
        raise SystemExit("".join(said))
    seconds, after = time.perf_counter() - started, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, cpu, out.read_bytes()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder of a prepared cohort.")
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--weights", default="ccsd-small")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[int, list[tuple[float, float]]] = {n: [] for n in given.processes}
    tables: set[bytes] = set()
    with tempfile.TemporaryDirectory() as folder:
        prepared = gather(Path(folder), given.data, given.cases)
        words = [
            sys.executable,
            "-m",
            "anymri",
            "evaluate",
            given.weights,
            "--data",
            str(prepared),
            "--fold",
            "0",
            "--device",
            "cpu",
        ]
        for round_ in range(given.rounds):
            for n in given.processes if round_ % 2 == 0 else reversed(given.processes):
                seconds, cpu, table = evaluated(words, Path(folder) / f"{n}-{round_}.csv", n)
                found[n].append((seconds, cpu))
                tables.add(table)
    if len(tables) > 1:
        raise SystemExit("the processes do not write the table that one process writes")
    first = found[given.processes[0]]
    rows = [
        {
            "processes": n,
            "cases": given.cases,
            "seconds": statistics.median(s for s, _ in times),
            "cpu_seconds": statistics.median(c for _, c in times),
            "faster": statistics.median(a / b for (a, _), (b, _) in zip(first, times, strict=True)),
        }
        for n, times in found.items()
    ]
    print(f"{described()}\n{given.cases} cases, 15 subsets each, one core and one thread a process; the same table from all")
    print(f"{'processes':<12}{'wall s':>10}{'CPU s':>10}{'faster':>10}")
    for row in rows:
        print(f"{row['processes']:<12}{row['seconds']:>10.1f}{row['cpu_seconds']:>10.1f}{row['faster']:>10.2f}")
    write_json(given.json, {"threads_of_each": 1, "rows": rows})


if __name__ == "__main__":
    main()
