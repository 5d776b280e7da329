"""A tiny training of every method, digit by digit: what it computed when its file was written, it computes still.

Digits hold for one version of torch on one kind of processor. Where both are those that the file names, they are compared exactly;
elsewhere to one part in ten thousand, since kernels add up in another order there and five steps of training carry that on.

Written anew, after a change that is meant to change numbers, by

    ANYMRI_GOLDEN=write python -m pytest tests/golden

Training carries rounding on, and where a choice hangs on it (which nodes of a graph look at each other, which side of a kink) five
steps are enough to part two processors by more. Then the code of before, which is known to be right, tells what this one computes:
ANYMRI_GOLDEN=add, on a checkout of the commit that wrote the file, keeps its digits beside the others.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from anymri.domain.task import GLIOMA
from anymri.engine.run import RunFolder
from anymri.engine.training import fit
from anymri.methods import METHODS

from ..material import made_batch, made_patient, short_run

FOLDER = Path(__file__).parent


def machine() -> dict[str, str]:
    """Return what digits depend on."""
    known = {}
    if Path("/proc/cpuinfo").is_file():
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        known = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in first.splitlines())}
    processor = " ".join(known.get(k, "?") for k in ("model name", "cpu family", "model", "stepping", "cache size"))
    return {"torch": torch.__version__, "kernels": torch.backends.cpu.get_cpu_capability(), "processor": processor}


def computed(method: str, folder: RunFolder) -> list[dict[str, float]]:
    """Return every logged number of five steps, and what the trained network says of one patch."""
    present = (True, False, True, True)
    patients = [made_patient(GLIOMA, 0), made_patient(GLIOMA, 1), made_patient(GLIOMA, 2, present=present)]
    network = fit(short_run(method, steps=5, batch=2), patients, folder, resume=False, device=torch.device("cpu"))
    steps = [json.loads(line) for line in folder.log.read_text().splitlines()]
    batch = made_batch(GLIOMA, seed=9, size=1)
    with torch.inference_mode():
        logits = network(batch.image_BMDHW, batch.present_BM, batch.origin_B3)[0].double()
    said = {f"region {r}": float(x.mean()) for r, x in enumerate(logits)} | {"spread": float(logits.std())}
    return [{k: v for k, v in step.items() if k != "seconds"} for step in steps] + [said]


def nearly(line: dict[str, float]) -> Any:
    """Return what equals the numbers of a line as another processor may compute them."""
    return pytest.approx(line, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("method", [entry.name for entry in METHODS])
def test_a_run_computes_what_it_did(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anymri.engine.training.LOG_EVERY", 1)
    found: dict[str, Any] = {"machine": machine(), "numbers": computed(method, RunFolder(tmp_path))}
    file = FOLDER / f"{method}.json"
    goldens: list[dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else []
    if (how := os.environ.get("ANYMRI_GOLDEN")) in ("write", "add"):
        others = [golden for golden in goldens if golden["machine"] != found["machine"]]
        goldens = [*(others if how == "add" else []), found]
        file.write_text(json.dumps(goldens, indent=1) + "\n")
    assert goldens, f"{file}: holds no run; write it anew"
    for golden in goldens:
        if golden["machine"] == found["machine"]:
            assert [{k: repr(v) for k, v in line.items()} for line in found["numbers"]] == [
                {k: repr(v) for k, v in line.items()} for line in golden["numbers"]
            ]
            return
    # Of several machines one that this is like counts; if it is like none, the first tells the difference.
    golden = next((golden for golden in goldens if [*map(nearly, golden["numbers"][1:])] == found["numbers"][1:]), goldens[0])
    assert len(found["numbers"]) == len(golden["numbers"])
    for step, (now, then) in enumerate(zip(found["numbers"], golden["numbers"], strict=True)):
        # The first step has nothing but its own rounding; what follows carries it on.
        assert now == (nearly(then) if step else pytest.approx(then, rel=1e-5, abs=1e-6))
