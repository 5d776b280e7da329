"""`anymri train --material`: read, recorded, faults in one line, and it is said if a repetition has other material."""

from __future__ import annotations

from pathlib import Path

from anymri.domain.task import GLIOMA

from ..data.generation.made import head, write_map, write_material
from ..material import write_made_cohort


def words(prepared: Path) -> tuple[object, ...]:
    settings = ("window.stride=1", "window.size=[8,8,8]", "patch=[8,8,8]", "validation=0", "generation.synthetic=0.5")
    sets = [
        word for setting in (*settings, "precision=float32", "threads=1", "batch=1", "accumulate=1") for word in ("--set", setting)
    ]
    return ("train", "dropout_unet.tiny", "--data", prepared, "--steps", 2, *sets)


def test_material_from_the_command_line(run, tmp_path: Path) -> None:
    prepared, material = tmp_path / "prepared", write_material(tmp_path / "material")
    write_made_cohort(prepared, GLIOMA, folds=(("a", "b"),))
    missing = run(*words(prepared), "--out", tmp_path / "run")
    assert missing.code == 2 and "give --material DIR" in missing.err
    nowhere = run(*words(prepared), "--material", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert nowhere.code == 2 and "anatomies: is no folder" in nowhere.err and len(nowhere.err.strip().splitlines()) == 1
    assert not (tmp_path / "run" / "run.json").exists()

    done = run(*words(prepared), "--material", material, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    again = run("train", "--from", tmp_path / "run", "--data", prepared, "--out", tmp_path / "again")
    assert again.code == 0 and "material" not in again.err
    labels = head()
    labels[25:30, 10:15] = 2
    write_map(material / "anatomies" / "head.nii.gz", labels)
    other = run("train", "--from", tmp_path / "run", "--data", prepared, "--out", tmp_path / "other")
    assert other.code == 0 and "note: the material is not that of" in other.err
