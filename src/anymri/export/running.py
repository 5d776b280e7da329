"""What the configuration of an exported MONAI bundle names: a patient's files → the prepared image → logits → a mask.

An absent modality is a channel that is NaN throughout: no image is, and nothing could be computed from it by mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from anymri.domain.case import Source
from anymri.domain.task import task_named
from anymri.engine.inference import native_masks, region_logits_of
from anymri.engine.model import read_model
from anymri.errors import CaseError, UsageError
from anymri.preparation.labels import labels_from_bits
from anymri.segment.visit import Opened, Visit, checked_images, opened_images, read_images
from anymri.volumes.nifti import write_nifti
from anymri.volumes.store import case_folder
from anymri.volumes.volume import Volume

IMAGE, PREDICTION, OPENED, NAME, MASK = "image", "pred", "opened", "name", "mask"


@final
class Preparation:
    """Reads the files of a patient and prepares them as ``anymri segment`` does.

    Args:
        task: Name of the task.
    """

    def __init__(self, task: str) -> None:
        self._task = task_named(task)

    def __call__(self, patient: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``image`` (M, D, H, W) with NaN where a modality is absent, and what leads back to the patient's grid.

        Args:
            patient: Modality name → file; None or "" for one that is missing. ``name``: what to call the patient.

        Raises:
            AnymriError: One line about what cannot be used.
        """
        name = str(patient.get(NAME) or "patient")
        visit = Visit(name, {k: Source(Path(str(v))) for k, v in patient.items() if k != NAME and v})
        images = checked_images(visit, self._task)
        opened = opened_images(visit, read_images(images), self._task)
        image = opened.image_MDHW.copy()
        image[~np.array(opened.subset.mask)] = np.nan
        return {NAME: name, IMAGE: torch.from_numpy(image), OPENED: opened}


@final
class PatientNetwork(nn.Module):
    """A model as a module that takes whole prepared images. Windows and the coarser grid are the weights' own affair.

    Args:
        file: Weights, safetensors.
        precision: float32, bf16 or auto.
    """

    def __init__(self, file: str | Path, *, precision: str = "auto") -> None:
        super().__init__()
        self._model = read_model(Path(file))
        self.method = self._model.method
        self._precision = precision

    def forward(self, image_BMDHW: Tensor) -> Tensor:
        """Return logits_BRDHW; channels that are NaN throughout are absent.

        Raises:
            UsageError: If every channel is.
        """
        device = next(self.method.parameters()).device
        found = []
        for image in image_BMDHW:
            present = (~image.isnan().flatten(1).all(1)).tolist()
            if not any(present):
                raise UsageError("no modality is at hand: every channel is NaN")
            (logits,) = region_logits_of(
                self._model, image.cpu().numpy(), present, [present], device=device, precision=self._precision
            )
            found.append(torch.from_numpy(logits))
        return torch.stack(found).to(device)


@final
class Restoration:
    """Brings logits back to the patient's grid and writes the mask there.

    Args:
        task: Name of the task.
        out: Folder for NAME.nii.gz; nothing is written if it is empty.
        scheme: Label scheme; None for the task's own.
    """

    def __init__(self, task: str, out: str | Path = "", *, scheme: str | None = None) -> None:
        self._task = task_named(task)
        self._scheme = self._task.scheme(scheme)
        self._out = out
        self._written: set[str] = set()

    def __call__(self, patient: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same with ``mask``, a Volume of label values, uint8, on the patient's own grid.

        Raises:
            CaseError: If the patient's name cannot be a file's, or another one had it.
            OutputError: If it cannot be written.
        """
        name = str(patient[NAME])
        case_folder(Path(self._out), name)  # The same names as elsewhere.
        if name in self._written:
            raise CaseError(f"{self._out}: two patients are called '{name}'; give each a name of its own")
        opened: Opened = patient[OPENED]
        masks = native_masks(patient[PREDICTION].float().cpu().numpy(), opened.grid, opened.native)
        bits = np.bitwise_or.reduce([m.astype(np.uint8) << r for r, m in enumerate(masks)])
        mask = Volume(labels_from_bits(bits, self._scheme, self._task).astype(np.uint8), opened.native)
        if str(self._out):
            Path(self._out).mkdir(parents=True, exist_ok=True)
            write_nifti(Path(self._out) / f"{name}.nii.gz", mask)
            self._written.add(name)
        return {**patient, MASK: mask}


@final
class Evaluator:
    """Goes over patients.

    Args:
        dataset: Prepared patients.
        network: Images → logits.
        inferer: Applies the network.
        postprocessing: What is done with each.
    """

    def __init__(
        self,
        dataset: Iterable[Mapping[str, Any]],
        network: nn.Module,
        inferer: Callable[[Tensor, nn.Module], Tensor],
        postprocessing: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    ) -> None:
        self._dataset = dataset
        self._network = network
        self._inferer = inferer
        self._postprocessing = postprocessing

    def run(self) -> None:
        """Segment every patient."""
        for patient in self._dataset:
            logits = self._inferer(patient[IMAGE][None], self._network)[0]
            self._postprocessing({**patient, PREDICTION: logits})
