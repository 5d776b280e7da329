"""The sides of fifteen subsets compute the same, and a script whose sides do not ends with a word on it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from ..material import benchmark


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return benchmark("fifteen_subsets")


@pytest.mark.slow
def test_logits_at_full_depth_are_those_of_full_passes(script: ModuleType) -> None:
    setting = script.Setting("small", "shared_mean", (64, 64, 64))
    model, image, keeps = setting.model(), setting.image(), setting.keeps()
    passes = script.by_passes(model, image, keeps, skip_absent=False)
    ours = script.by_anymri(model, image, keeps)
    assert len(ours) == len(passes) == 15
    assert all(np.abs(plain).max() > 0 for plain in passes)
    assert max(float(np.abs(a - b).max()) for a, b in zip(ours, passes, strict=True)) < 1e-4


def test_sides_that_differ_end_the_script_once_all_is_written(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(script, "keep_memory", lambda: None)
    monkeypatch.setattr(script, "memory", lambda setting: dict.fromkeys((script.PLAIN, script.FULL, script.FIFTEEN), 1.0))
    words = ["--size", "tiny", "--window", "8", "8", "8", "--rounds", "1", "--threads", str(torch.get_num_threads())]
    monkeypatch.setattr(sys, "argv", ["fifteen_subsets.py", *words, "--json", str(tmp_path / "a.json")])
    script.main()
    (tmp_path / "a.json").unlink()
    monkeypatch.setattr(script, "AT_MOST", -1.0)
    with pytest.raises(SystemExit, match="a logit differs from that of a plain pass by"):
        script.main()
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["ratios"]["subsets"] == 15
