"""What scripts about trust begin with: weights are asked about prepared cases that they were not trained on."""

from __future__ import annotations

import argparse
from pathlib import Path

from anymri.engine.inference import device_named
from anymri.trust.fitting import Sample, samples
from anymri.trust.measurement import assigned
from anymri.trust.observation import observe
from anymri.weights import load_model


def observed(description: str | None) -> tuple[dict[str, Sample], Path | None]:
    """Return region → what was observed of all cases that the command line asks for, and where figures are to be written."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="Weights, or the runs of several folds.")
    parser.add_argument("--data", type=Path, default=Path("prepared"), help="Folder of a prepared cohort with references.")
    parser.add_argument("--fold", type=int, help="Fold to ask about; what the weights were not trained on if none is given.")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    pairs = assigned([load_model(name) for name in given.weights], given.data, fold=given.fold)
    device = device_named("auto")
    seen = [observe(model, folder, device=device) for model, folder in pairs]
    task = pairs[0][0].method.task
    return dict(zip(task.region_names, samples(seen, task.modalities), strict=True)), given.json
