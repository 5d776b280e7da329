"""A link in a document leads to a file of the repository, and to a heading of it where it names one."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

LINK = re.compile(r"\]\((?P<file>[^)#\s]*)(?:#(?P<heading>[^)\s]+))?(?:\s+\"[^\"]*\")?\)")
HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)
BLOCKS = re.compile(r"^```.*?^```|^(?: {4}|\t)[^\n]*$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`[^`\n]+`")


def _documents(root: Path) -> list[Path]:
    folders = [root / name for name in ("docs", "src", "benchmarks", "examples")]
    return sorted([*root.glob("*.md"), *(file for folder in folders for file in folder.rglob("*.md"))])


def _headings(text: str) -> set[str]:
    """Return what the headings are linked by: in lower case, spaces become hyphens, other signs go, and repeats are numbered."""
    seen: Counter[str] = Counter()
    found: set[str] = set()
    for title in HEADING.findall(BLOCKS.sub("", text)):
        slug = re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def _dead(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8")
    dead: list[str] = []
    for link in LINK.finditer(INLINE.sub("", BLOCKS.sub("", text))):
        if "://" in link["file"] or link["file"].startswith("mailto:"):
            continue
        target = file.parent / link["file"] if link["file"] else file
        names_heading = bool(link["heading"]) and target.suffix == ".md"
        if not target.exists() or names_heading and link["heading"] not in _headings(target.read_text(encoding="utf-8")):
            dead.append(link[0])
    return dead


def test_every_link_leads_somewhere(root: Path) -> None:
    documents = _documents(root)
    assert len(documents) > 20
    assert {str(file.relative_to(root)): dead for file in documents if (dead := _dead(file))} == {}


@pytest.mark.parametrize(
    "link", ["[x](gone.md)", '[x](gone.md "title")', "![x](gone.svg)", "[x](#no-such-heading)", "[x](other.md#no-such-heading)"]
)
def test_a_dead_link_is_found(tmp_path: Path, link: str) -> None:
    (tmp_path / "other.md").write_text("# `A heading`, 2\n", encoding="utf-8")
    page = f'# Page\n\n[a](other.md#a-heading-2) [b](https://x.org/#y) [c](#page) `d[0](e)` [f](page.md "f") {link}\n'
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    assert _dead(tmp_path / "page.md") == [link.removeprefix("!").removeprefix("[x")]
