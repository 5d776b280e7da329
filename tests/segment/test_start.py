"""What must not be waited for before a patient is segmented."""

from __future__ import annotations

import subprocess
import sys

NEEDLESS = ("blosc2", "jinja2", "matplotlib.figure", "monai", "onnx", "pandas", "scipy.optimize", "sympy", "torch._dynamo")


def test_what_is_not_needed_is_not_imported() -> None:
    code = f"""
import sys
import anymri.cli
import anymri.segment
from anymri.weights import load_model, load_trust
assert load_trust(None, load_model(None)) is not None
print(*[name for name in {NEEDLESS!r} if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
