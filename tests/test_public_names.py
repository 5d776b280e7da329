from __future__ import annotations

import subprocess
import sys

import pytest

WAYS = {
    "twice": "import anymri; anymri.segment; f = anymri.segment",
    "after the module": "from anymri.segment import Options; import anymri; f = anymri.segment",
    "from": "from anymri import segment as f",
    "from, after the module": "import anymri.segment; from anymri import segment as f",
}


@pytest.mark.parametrize("way", WAYS)
def test_segment_is_a_function_however_it_is_reached(way: str) -> None:
    code = f"{WAYS[way]}\nfrom anymri.segment import segment\nassert f is segment and callable(f), f"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_package_alone_is_light() -> None:
    code = "import sys, anymri\nassert not {'torch', 'numpy', 'scipy', 'nibabel', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
