"""Every entry of the corpus: one clear line and exit code 2, nothing written, memory bounded; or no difference at all."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from anymri.errors import AnymriError

from .conftest import Runner, limited
from .corpus import ENTRIES
from .entry import Harmless, Kit, Refused, Unread

PEAK = 250_000_000  # Bytes that refusing anything may take.
LONGEST = 400  # Characters of a line, without the folders in it.
BESIDE = ("failed: ", "left out: ", "note: ")

Snapshot = dict[str, tuple[int, int, int]]


def snapshot(folder: Path) -> Snapshot:
    """Return what lies in a folder, and since when."""
    found = {}
    for place, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files):
            facts = os.lstat(os.path.join(place, name))
            changed = facts.st_mtime_ns if name in files else 0
            found[os.fsdecode(os.path.join(place, name))] = (facts.st_mode, facts.st_size if changed else 0, changed)
    return found


def check_line(line: str, *folders: Path) -> None:
    """Check that a line is one that a terminal can show, and no longer than one reads."""
    assert line.isprintable(), line
    assert "Traceback" not in line
    for folder in folders:
        line = line.replace(f"{folder}/", "").replace(str(folder), "")
    assert len(line) <= LONGEST, (len(line), line)


def marked(entry: Refused | Unread | Harmless) -> object:
    """Return an entry as a parameter."""
    slow = isinstance(entry, Refused) and entry.slow
    return pytest.param(entry, id=f"{entry.kind}: {entry.name}", marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("entry", [marked(e) for e in ENTRIES if isinstance(e, Refused)])
def test_a_command_refuses_it_in_one_line(entry: Refused, run: Runner, kit: Kit, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    words = [*entry.words(folder, kit)]
    if words[:1] == ["segment"]:
        words += [] if "--weights" in words else ["--weights", kit.weights]
        words += [] if "--out" in words else ["--out", folder / "out"]
    good = kit.weights.parent
    before = snapshot(folder), snapshot(good)
    done = run(*words)
    *beside, line = done.err.splitlines() or [""]
    assert done.code == 2, (done.code, done.out, done.err)
    assert line.startswith("error: "), done.err
    check_line(line, folder, good)
    assert re.search(entry.says, line), line
    assert all(other.startswith(BESIDE) for other in beside) if entry.batch else not beside, beside
    left = {
        p: facts for p, facts in snapshot(folder).items() if not p.startswith(tuple(str(folder / x) for x in entry.leaves or "\0"))
    }
    assert left == before[0]
    assert snapshot(good) == before[1]
    assert done.grown < PEAK


@pytest.mark.parametrize("entry", [marked(e) for e in ENTRIES if isinstance(e, Unread)])
def test_a_reader_refuses_it_in_one_line(entry: Unread, tmp_path: Path) -> None:
    with limited() as grown, pytest.raises(AnymriError) as caught:
        entry.read(tmp_path)
    line = str(caught.value)
    check_line(line, tmp_path)
    assert str(tmp_path) in line
    assert re.search(entry.says, line), line
    assert grown() < PEAK


@pytest.mark.parametrize("entry", [marked(e) for e in ENTRIES if isinstance(e, Harmless)])
def test_what_does_not_matter_changes_nothing(entry: Harmless, tmp_path: Path) -> None:
    entry.check(tmp_path)
