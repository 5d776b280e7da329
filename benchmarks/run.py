"""Run every benchmark, one after the other, and keep what each printed and measured.

    python benchmarks/run.py --out bench
    python benchmarks/run.py fifteen_subsets scoring --out bench

For each script OUT/NAME.json holds the numbers and OUT/NAME.txt the tables; OUT/summary.md says what ran, for how long and on
which machine. A script belongs to this folder if it takes ``--json FILE`` and has defaults that need no data and a few minutes;
README.md lists the goals.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from measuring import described

HERE = Path(__file__).parent
PARTS = {"run", "reference", "measuring", "observing", "disturbances"}
CHECKS = {
    "robustness",
    "presence_gate",
    "thresholds",
    "mirrored",
    "calibrations",
    "shipped_scores",
    "shipped_trust",
}  # They need real cases or stored scores.


def scripts() -> list[str]:
    """Return the names of all benchmarks."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in PARTS | CHECKS)


def measured(name: str, out: Path) -> tuple[float, int]:
    """Run one benchmark and return its seconds and exit code; what it prints goes to the terminal and to a file."""
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(out / f"{name}.json")]
    started = time.perf_counter()
    with (out / f"{name}.txt").open("w", encoding="utf-8") as kept:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            kept.write(line)
    return time.perf_counter() - started, process.wait()


def main() -> None:
    """Run what was asked for and write the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="Which; all if none are given.")
    parser.add_argument("--out", type=Path, default=Path("bench"))
    given = parser.parse_args()
    names = given.names or scripts()
    if unknown := sorted(set(names) - set(scripts())):
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(scripts())}")
    given.out.mkdir(parents=True, exist_ok=True)
    rows = [described(), "", "| benchmark | seconds | exit code |"]
    rows.append("| --- | ---: | ---: |")
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        seconds, code = measured(name, given.out)
        rows.append(f"| [{name}]({name}.txt) | {seconds:.0f} | {code} |")
        failed += [name] if code else []
    (given.out / "summary.md").write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"numbers and tables are in {given.out}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
