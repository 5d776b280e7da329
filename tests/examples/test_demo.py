from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from anymri.weights import known

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not any(line.default for line in known()), reason="no weights come with this checkout")
def test_the_demo_finds_the_tumour_of_its_phantom(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "demo.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    assert {p.name for p in (tmp_path / "result").iterdir()} == {
        "segmentation.nii.gz",
        "summary.json",
        "preview.png",
        "report.html",
    }
    dice = [float(value) for value in re.findall(r" ml\s+([\d.]+)$", done.stdout, re.MULTILINE)]
    assert len(dice) == 3 and dice[0] > 0.5
