"""Small files to build data sets of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


class Folder:
    """A folder that tests fill: empty files where names alone matter, JSON and text where content does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def touch(self, *names: str) -> Folder:
        for name in names:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).touch()
        return self

    def write(self, name: str, content: Any) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "data").mkdir()
    return Folder(tmp_path / "data")
