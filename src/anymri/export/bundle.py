"""Weights as a MONAI bundle: a folder that ``python -m monai.bundle run`` segments a patient with, where anymri is installed."""

from __future__ import annotations

import shutil
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from anymri.engine.model import Model, read_model
from anymri.export.running import NAME
from anymri.methods import method_named
from anymri.trust.record import copy_weights
from anymri.volumes.store import write_json
from anymri.volumes.writing import replacing, write_text

_WEIGHTS = "models/model.safetensors"
_PARTS = "anymri.export.running"
_USE = "Research use only. Not a medical device."


def write_bundle(weights: Path, out: Path) -> None:
    """Write a bundle.

    Raises:
        WeightsError: If the file cannot be trusted.
        OutputError: If the folder cannot be written.
    """
    model = read_model(weights)
    with replacing(out, what="the bundle", advice="choose a folder that is writable and has room") as part:
        for folder in ("configs", "docs", "models"):
            (part / folder).mkdir(parents=True)
        copy_weights(weights, part / _WEIGHTS)
        write_json(part / "configs" / "metadata.json", _metadata(model))
        write_json(part / "configs" / "inference.json", _inference(model))
        write_text(part / "docs" / "README.md", _page(model))
        write_text(part / "LICENSE", _licence())
        card = weights.with_suffix(".md")
        if card.is_file():
            shutil.copyfile(card, part / "docs" / "card.md")


def _inference(model: Model) -> dict[str, Any]:
    task = model.method.task
    return {
        "imports": ["$import torch"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "precision": "auto",
        "labels": task.scheme(None).name,
        "images": {**{name: None for name in task.modalities.names}, NAME: "patient"},
        "datalist": ["@images"],
        "preprocessing": {"_target_": f"{_PARTS}.Preparation", "task": task.name},
        "dataset": {"_target_": "monai.data.Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "network_def": {
            "_target_": f"{_PARTS}.PatientNetwork",
            "file": f"$@bundle_root + '/{_WEIGHTS}'",
            "precision": "@precision",
        },
        "network": "$@network_def.to(@device).eval()",
        "inferer": {"_target_": "monai.inferers.SimpleInferer"},
        "postprocessing": {
            "_target_": f"{_PARTS}.Restoration",
            "task": task.name,
            "out": "@output_dir",
            "scheme": "@labels",
        },
        "evaluator": {
            "_target_": f"{_PARTS}.Evaluator",
            "dataset": "@dataset",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "run": ["$@evaluator.run()"],
    }


def _metadata(model: Model) -> dict[str, Any]:
    task, training = model.method.task, model.header.training
    modalities, regions = task.modalities.names, task.region_names
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by anymri {version('anymri')}"},
        "monai_version": "1.4.0",
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"anymri": version("anymri"), "nibabel": version("nibabel")},
        "name": model.header.name,
        "task": task.description,
        "description": f"{model.header.method} for any subset of {', '.join(modalities)}. {_USE}",
        "authors": "The anymri contributors",
        "copyright": "See LICENSE for the code and docs/README.md for the data that the weights learnt from",
        "data_source": training.cohort.get("citation", ""),
        "data_type": "nifti",
        "intended_use": _USE,
        "references": [method_named(model.header.method).paper],
        "weights_sha256": model.sha256,
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "MR",
                    "num_channels": len(modalities),
                    "spatial_shape": ["*", "*", "*"],
                    "dtype": "float32",
                    "value_range": [-10, 10],
                    "is_patch_data": False,
                    "channel_def": {str(m): f"{name}; NaN throughout if it is missing" for m, name in enumerate(modalities)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": len(regions),
                    "spatial_shape": ["*", "*", "*"],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {str(r): f"logit of {name}" for r, name in enumerate(regions)},
                }
            },
        },
    }


def _page(model: Model) -> str:
    task, training = model.method.task, model.header.training
    shown = dict.fromkeys((task.modalities.modalities[0], task.modalities.modalities[-1]))
    options = " ".join(f"--images#{m.name} {m.option}.nii.gz" for m in shown)
    source = training.cohort.get("citation", "")
    terms = training.cohort.get("licence", "")
    learnt = f"The weights learnt from: {source} ({terms}).\n\n" if source else ""
    return f"""# {model.header.name}

Method `{model.header.method}`, task `{task.name}`: {task.description}. It takes whichever of these there are:
{", ".join(task.modalities.names)}. SHA-256 of the weights: `{model.sha256}`. **{_USE}**

## Run

It needs MONAI with `fire`, and anymri {version("anymri")}: `pip install monai fire anymri=={version("anymri")}`. In this folder:

```
python -m monai.bundle run --config_file configs/inference.json {options} --output_dir result
```

The mask is `result/patient.nii.gz`, on the grid of the first image in the order above; it is what `anymri segment` makes of the
same files. A modality that is missing is not named. Images must be co-registered, skull-stripped, on one grid.

| setting | |
| --- | --- |
| `--images#NAME FILE` | a file of that modality |
| `--images#name PATIENT` | what the mask is called |
| `--datalist "[{{…}}, {{…}}]"` | several patients, each as `images` is |
| `--output_dir DIR` | where masks are written |
| `--labels SCHEME` | {", ".join(s.name for s in task.schemes if s.written)} |
| `--precision auto` | `float32`, `bf16`, or `auto`: float32 on a processor, bf16 on a GPU |
| `--device` | such as `"$torch.device('cpu')"` |

## Parts

`preprocessing` reads and prepares; `network_def` is a module from (B, {len(task.modalities)}, D, H, W), prepared, to logits of
{", ".join(task.region_names)} on the same grid; a channel that is NaN throughout is absent. Windows and the
coarser grid of the network are inside, so `inferer` is a simple one. `postprocessing` goes back to the patient's grid and writes.
The weights are safetensors; nothing is unpickled.

{learnt}Licence of the code: `LICENSE`.
"""


def _licence() -> str:
    text = distribution("anymri").read_text("licenses/LICENSE")
    return text or "Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0\n"
