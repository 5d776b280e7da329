"""The tree that the README draws is the tree on disk."""

from __future__ import annotations

import re
from pathlib import Path

HEAD = "src/anymri/"
LINE = re.compile(r"^(?P<indent>(?:  )+)(?P<name>[\w.]+/?)(?:\s{2,}(?P<words>\S.*))?$")


def _drawn(readme: str) -> dict[str, str]:
    """Return path inside the package → description, from the fenced block that begins with the package's folder.

    A line is two spaces per level, a name (folders end in a slash), at least two spaces, and what is in it.
    """
    blocks = [b for b in re.findall(r"^```\w*\n(.*?)^```", readme, re.DOTALL | re.MULTILINE) if b.startswith(HEAD)]
    assert len(blocks) == 1, f"README.md must have one fenced block that begins with {HEAD}"
    found: dict[str, str] = {}
    folders: list[str] = []
    for line in blocks[0].splitlines()[1:]:
        match = LINE.match(line)
        assert match, f"README.md, tree: cannot read {line!r}"
        level = len(match["indent"]) // 2 - 1
        assert level <= len(folders), f"README.md, tree: {line!r} is indented too far"
        path = "".join(folders[:level]) + match["name"]
        folders = [*folders[:level], match["name"]]
        assert path not in found, f"README.md, tree: {path} is drawn twice"
        found[path] = match["words"] or ""
    return found


def _on_disk(package: Path) -> set[str]:
    """Return every module and every folder that holds modules; of ``__init__.py`` the outermost alone."""
    modules = {p.relative_to(package) for p in package.rglob("*.py")}
    folders = {parent for module in modules for parent in module.parents} - {Path(".")}
    files = {m.as_posix() for m in modules if m.name != "__init__.py" or m.parent == Path(".")}
    return files | {f"{folder.as_posix()}/" for folder in folders}


def test_the_tree_in_the_readme_is_the_tree_on_disk(root: Path) -> None:
    drawn, disk = set(_drawn((root / "README.md").read_text(encoding="utf-8"))), _on_disk(root / "src" / "anymri")
    assert {"not drawn": sorted(disk - drawn), "not on disk": sorted(drawn - disk)} == {"not drawn": [], "not on disk": []}


def test_every_line_of_the_tree_says_what_it_is(root: Path) -> None:
    silent = [path for path, words in _drawn((root / "README.md").read_text(encoding="utf-8")).items() if not words]
    assert silent == []
