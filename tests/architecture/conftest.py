"""The package as text and as syntax trees, read once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def texts() -> dict[str, str]:
    """Return the text of every module by its path inside the package, such as "domain/task.py"."""
    package = ROOT / "src" / "anymri"
    found = {p.relative_to(package).as_posix(): p.read_text(encoding="utf-8") for p in sorted(package.rglob("*.py"))}
    assert found, f"no modules in {package}"
    return found


@pytest.fixture(scope="session")
def trees(texts: dict[str, str]) -> dict[str, ast.Module]:
    """Return the syntax tree of every module by its path inside the package."""
    return {path: ast.parse(text) for path, text in texts.items()}
