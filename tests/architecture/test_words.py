"""Which words may stand where."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from anymri.domain.task import TASKS

# Only here may a modality or a region be called by its name; everywhere else names come from the task at hand.
NAMING = ("domain/", "cohorts/", "recipes/", "cli/")
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "core", "manager", "misc"}
UNFINISHED = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")))


def test_no_modality_or_region_is_wired_in(trees: dict[str, ast.Module]) -> None:
    names = {name for task in TASKS for name in (*task.modalities.names, *task.region_names)}
    wired = [
        f"{path}:{node.lineno}: {node.value!r}"
        for path, tree in trees.items()
        if not path.startswith(NAMING)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names
    ]
    assert wired == []


def test_modules_are_called_by_what_they_hold(texts: dict[str, str]) -> None:
    vague = [path for path in texts if VAGUE & set(re.split(r"[/_.]", path))]
    assert vague == []


def test_nothing_is_left_for_later(root: Path) -> None:
    folders = [root / name for name in ("src", "examples", "benchmarks", "docs", "tests")]
    files = [p for folder in folders for p in folder.rglob("*") if p.suffix in {".py", ".md", ".j2", ".toml"}]
    files += [root / "Makefile", root / "pyproject.toml", *root.glob("*.md")]
    unfinished = [
        f"{path.relative_to(root)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if UNFINISHED.search(line)
    ]
    assert unfinished == []
