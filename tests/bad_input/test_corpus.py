"""Every entry of the corpus: one clear line and exit code 2, nothing written, memory bounded; or no difference at all."""

from __future__ import annotations

import os
import re
from collections import Counter
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from anymri.errors import AnymriError

from .conftest import Runner, limited
from .corpus import ENTRIES
from .corpus.weights import CALLED
from .entry import Harmless, Kit, Refused, Unread

PEAK = 250_000_000  # Bytes that refusing anything may take.
LONGEST = 480  # Characters of a line, without the folders in it that pytest makes.
CUT = 1000  # … of one that was longer than any line may be.
FAST = 40  # Commands of one kind that run with every `make test`.
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
    assert len(line) <= (CUT if " … " in line else LONGEST), (len(line), line)


def parameters(wanted: type[Refused] | type[Unread] | type[Harmless]) -> list[Any]:
    """Return the entries of a class; of those that a command must refuse, what is beyond FAST of a kind is marked slow."""
    entries = [entry for entry in ENTRIES if isinstance(entry, wanted)]
    kinds = Counter(entry.kind for entry in entries)
    place: Counter[str] = Counter()
    found: list[Any] = []
    for entry in entries:
        later = wanted is Refused and place[entry.kind] % ceil(kinds[entry.kind] / FAST) != 0
        place[entry.kind] += 1
        found.append(pytest.param(entry, id=f"{entry.kind}: {entry.name}", marks=[pytest.mark.slow] if later else []))
    return found


@pytest.mark.parametrize("entry", parameters(Refused))
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
    allowed = tuple(str(folder / path) for path in entry.leaves)
    left = {path: facts for path, facts in snapshot(folder).items() if not path.startswith(allowed)}
    if (folder / "out").is_dir() and not any((folder / "out").iterdir()):
        left.pop(str(folder / "out"), None)
    assert left == before[0]
    assert snapshot(good) == before[1]
    assert done.grown < PEAK
    assert not CALLED.exists()


@pytest.mark.parametrize("entry", parameters(Unread))
def test_a_reader_refuses_it_in_one_line(entry: Unread, tmp_path: Path) -> None:
    with limited() as grown, pytest.raises(AnymriError) as caught:
        entry.read(tmp_path)
    line = str(caught.value)
    check_line(line, tmp_path)
    assert str(tmp_path) in line
    assert re.search(entry.says, line), line
    assert grown() < PEAK


@pytest.mark.parametrize("entry", parameters(Harmless))
def test_what_does_not_matter_changes_nothing(entry: Harmless, tmp_path: Path) -> None:
    entry.check(tmp_path)
