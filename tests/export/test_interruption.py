"""An export that a signal stops leaves nothing, and says so."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from anymri.engine.interruption import KEPT, heeding, keeping
from anymri.errors import InterruptedWork
from anymri.export import export


@pytest.mark.parametrize(("format", "step"), [("onnx", "graphs._manifest"), ("bundle", "bundle._metadata")])
def test_a_stopped_export_says_that_it_starts_anew(
    format: str, step: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("never reached")

    monkeypatch.setattr(f"anymri.export.{step}", stopped)
    monkeypatch.setattr("anymri.export.graphs.graph_of", stopped)
    with pytest.raises(InterruptedWork) as caught, heeding("go on with: it"):
        export(weights, format, tmp_path / "out")
    assert str(caught.value) == "SIGTERM: nothing was written, an export starts from the beginning; go on with: it"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("out")]


def test_it_is_said_of_the_export_alone() -> None:
    with pytest.raises(InterruptedWork, match=KEPT), heeding(""):
        with keeping("nothing"):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
