"""What a run folder says of how its run came about, and whether the run may go on there."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anymri.data.generation.material import Material
from anymri.data.patients import Patient, load_patients
from anymri.engine.distributed import launch, processes
from anymri.engine.run import Parts, Run, RunFolder
from anymri.errors import TrainingError, WeightsError
from anymri.volumes.store import CohortRecord

PACKAGE = Path(__file__).resolve().parents[1]


def data_hashes(run: Run, patients: Sequence[Patient], validation: Sequence[Path]) -> dict[str, str]:
    """Return case → SHA-256 of what a training takes from it: its arrays on the model's grid, and what is at hand and known.

    Where the files lie and how they are compressed does not matter.

    Args:
        run: Says which grid.
        patients: Cases that are trained on.
        validation: Folders of cases to choose by; they are read one after the other.
    """
    hashes = {patient.name: _hash_of(patient) for patient in patients}
    for folder in validation:
        (patient,) = load_patients([folder], run.task_object, run.window.stride, intensity=run.window.intensity, threads=1)
        hashes[folder.name] = _hash_of(patient)
    return hashes


def _hash_of(patient: Patient) -> str:
    digest = hashlib.sha256()
    for array in (patient.present, patient.known, patient.image, patient.shares):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def init_hash(run: Run) -> str | None:
    """Return the SHA-256 of the weights that a run starts from; None if it starts afresh, or they cannot be read."""
    try:
        return hashlib.sha256(Path(run.init).read_bytes()).hexdigest() if run.init else None
    except OSError:  # Whoever loads them says so.
        return None


def facts_of(
    run: Run, cohort: CohortRecord, parts: Parts, data: Path, *, hashes: Mapping[str, str], device: torch.device
) -> dict[str, object]:
    """Return what run.json holds beside the run itself.

    Args:
        run: All settings.
        cohort: The prepared cohort.
        parts: Which case serves what.
        data: Its folder.
        hashes: Of the cases.
        device: Where it computes.
    """
    return {
        "cohort": {"name": cohort.name, "licence": cohort.licence, "citation": cohort.citation, "folder": data.name},
        "cases": parts.model_dump(),
        "data": dict(hashes),
        "init": {"file": run.init, "sha256": init_hash(run)} if run.init else None,
        "versions": {
            "anymri": version("anymri"),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "source": source_state(PACKAGE),
        "machine": {
            "processor": platform.machine(),
            "kernels": torch.backends.cpu.get_cpu_capability(),
            "system": platform.system(),
            "threads": torch.get_num_threads(),
            "processes": processes().count,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        },
        "launch": launch(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def source_state(package: Path) -> dict[str, Any] | None:
    """Return the commit that a package is checked out at and whether it was changed since; None if git does not know it."""

    def said(*words: str) -> str:
        # Without locks: to be asked for its state must change nothing in a checkout, nor leave a lock behind if this is killed.
        command = ["git", "--no-optional-locks", "-C", str(package), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        said("ls-files", "--error-unmatch", "__init__.py")  # A package that only lies inside someone's checkout is not part of it.
        return {"commit": said("rev-parse", "HEAD"), "changed": bool(said("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return None


def material_told(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return what a weights file says of the material, from what run.json holds; empty if there was none.

    ``sha256`` is over the lines "SHA-256, two spaces, file" of all that was used, by file; ``source`` is what the folder said.
    """
    hashes, left_out = facts.get("material"), facts.get("material_left_out") or {}
    if not hashes:
        return {}
    lines = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes) if name not in left_out)
    return {"sha256": hashlib.sha256(lines.encode()).hexdigest(), "source": facts.get("material_source") or ""}


def check_record(run: Run, parts: Parts, data: Path, folder: RunFolder) -> None:
    """Refuse to go on with another run than the folder's, or with other folds or other weights to start from.

    Raises:
        TrainingError: If the settings or the folds differ.
        WeightsError: If the weights to start from were changed.
    """
    if folder.read_run() != run:
        raise TrainingError(
            f"{folder.record}: holds a run with other settings; give the same ones to resume, or choose another folder"
        )
    if folder.read_cases() != parts.model_dump():
        raise TrainingError(
            f"{data}: its folds are no longer those of {folder.record}; restore splits.json and the cases to resume, "
            "or start again in another folder"
        )
    start = folder.read_facts().get("init") or {}
    if start.get("sha256") not in (None, init_hash(run)):
        raise WeightsError(
            f"{run.init}: its SHA-256 is no longer that in {folder.record}; restore the file to resume, or start again in "
            "another folder"
        )


def check_data(hashes: Mapping[str, str], data: Path, folder: RunFolder) -> None:
    """Refuse to go on with cases that were changed; a record that holds no hashes is believed.

    Raises:
        TrainingError: It names the first case that differs.
    """
    recorded = folder.read_facts().get("data") or {}
    changed = [name for name, digest in hashes.items() if recorded.get(name, digest) != digest]
    if changed:
        raise TrainingError(
            f"{data}: {len(changed)} of {len(hashes)} cases are not those that {folder.path} was trained on, "
            f"the first is {changed[0]}; restore them to resume, or start again in another folder"
        )


def check_material(material: Material | None, folder: RunFolder) -> None:
    """Refuse to go on with material that was changed, or of which other tumours are left out.

    A record that holds no hashes is believed. One that does not say what was left out is from when nothing was.

    Raises:
        TrainingError: It names the first file that differs.
    """
    facts = folder.read_facts()
    recorded, here = facts.get("material"), material.hashes if material else {}
    changed = [name for name in sorted({*(recorded or here), *here}) if (recorded or here).get(name) != here.get(name)]
    if changed:
        raise TrainingError(
            f"{folder.read_run().material}: {len(changed)} of its files are not those that {folder.path} was trained on, the first "
            f"is {changed[0]}; restore them to resume, or start again in another folder"
        )
    before, now = facts.get("material_left_out") or {}, material.left_out if material else {}
    if used := sorted(now.keys() - before.keys()):
        raise TrainingError(
            f"{folder.path}: has used {len(used)} tumours of the material that are those of cases to choose or test by, the first "
            f"is {used[0]}, of {now[used[0]]}; they are left out now, start again in another folder"
        )
    if others := sorted(before.keys() - now.keys()):
        raise TrainingError(
            f"{folder.path}: has left out {len(others)} tumours of the material as those of cases to choose or test by, which they "
            f"no longer are, the first is {others[0]}, of {before[others[0]]}; restore the case to resume, or start again in "
            "another folder"
        )
