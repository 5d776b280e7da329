"""prepare → train → evaluate → segment, as a user types it, on synthetic patients."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from anymri import Options, segment
from anymri.engine.model import read_model, write_weights
from anymri.methods.dropout_unet import DropoutUNet


def test_the_whole_road(run, patients: Path, tmp_path: Path) -> None:
    prepared, out = tmp_path / "prepared", tmp_path / "run"
    done = run("prepare", patients, prepared, "--workers", 1)
    assert done.code == 0 and "5 cases prepared" in done.out
    small = ["--set", "patch=[16,16,16]", "--set", "window.stride=4", "--set", "precision=float32", "--set", "validation=1"]
    config = '{"widths": [4, 6], "depths": [1, 1]}'
    done = run("train", "ccsd", "--data", prepared, "--out", out, "--fold", 0, "--steps", 3, "--set", f"config={config}", *small)
    assert done.code == 0, done.err
    assert {"run.json", "log.jsonl", "selection.json", "weights.safetensors"} <= {p.name for p in out.iterdir()}
    again = run("train", "--from", out, "--data", prepared, "--out", tmp_path / "again")
    assert again.code == 0, again.err
    first, second = (load_file(folder / "weights.safetensors") for folder in (out, tmp_path / "again"))
    assert first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
    twice = run("train", "--from", out, "--data", prepared, "--out", out)
    assert twice.code == 2 and "--resume" in twice.err

    (split := prepared / "splits.json").write_text(json.dumps({"folds": json.loads(split.read_text())["folds"][::-1]}))
    changed = run("train", "--resume", "--data", prepared, "--out", out)
    assert changed.code == 2 and "folds are no longer" in changed.err
    split.write_text(json.dumps({"folds": json.loads(split.read_text())["folds"][::-1]}))

    scores = tmp_path / "scores.csv"
    done = run("evaluate", out, "--data", prepared, "--out", scores)
    assert done.code == 0, done.err
    assert "FLAIR+T1+T1c+T2" in done.out and scores.with_suffix(".md").is_file()
    assert len(scores.read_text().splitlines()) == 1 + 15 * 3 * 8

    folder = sorted(p for p in patients.iterdir() if p.is_dir())[0]
    done = run("segment", folder, "--weights", out, "--out", tmp_path / "masks", "--labels", "brats2023")
    assert done.code == 0, done.err
    written = {p.name for p in (tmp_path / "masks" / folder.name).iterdir()}
    assert written == {"segmentation.nii.gz", "summary.json", "preview.png", "report.html"}


def test_a_mask_lies_on_the_grid_of_the_input(run, weights: Path, images: dict[str, Path], tmp_path: Path) -> None:
    done = run("segment", "--t1c", images["t1c"], "--weights", weights, "--out", tmp_path, "--probabilities")
    assert done.code == 0, done.err
    source = nib.load(images["t1c"])  # type: ignore[attr-defined]
    mask = nib.load(tmp_path / "segmentation.nii.gz")  # type: ignore[attr-defined]
    assert mask.shape == source.shape and np.allclose(mask.affine, source.affine)  # type: ignore[attr-defined]
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1, 2, 4}  # type: ignore[attr-defined]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["modalities_used"] == ["T1c"] and summary["modalities_missing"] == ["FLAIR", "T1", "T2"]
    assert summary["use"] == "Research use only. Not a medical device."
    whole = np.asarray(nib.load(tmp_path / "probability_WT.nii.gz").dataobj)  # type: ignore[attr-defined]
    assert ((whole > 0.5) == (np.asarray(mask.dataobj) > 0)).all()  # type: ignore[attr-defined]
    volume = (np.asarray(mask.dataobj) > 0).sum() * abs(np.linalg.det(source.affine[:3, :3])) / 1000  # type: ignore[attr-defined]
    assert abs(summary["volumes_ml"]["WT"] - volume) < 0.01


def test_orientation_of_the_files_does_not_matter(weights: Path, images: dict[str, Path], tmp_path: Path) -> None:
    """The same patient stored with turned axes gives the same mask, voxel for voxel in space."""
    turned = tmp_path / "turned.nii.gz"
    image = nib.load(images["t1c"])  # type: ignore[attr-defined]
    orientation = nib.orientations.axcodes2ornt(("S", "R", "A"))
    start = nib.orientations.io_orientation(image.affine)  # type: ignore[attr-defined]
    nib.save(image.as_reoriented(nib.orientations.ornt_transform(start, orientation)), turned)  # type: ignore[attr-defined]
    straight = segment({"T1c": images["t1c"]}, weights=weights)
    other = segment({"T1c": turned}, weights=weights, options=Options(precision="float32"))
    back = nib.Nifti1Image(other.mask.array, other.mask.grid.affine)  # type: ignore[attr-defined]
    restored = back.as_reoriented(nib.orientations.ornt_transform(orientation, start))
    assert np.array_equal(np.asarray(restored.dataobj), straight.mask.array)


@pytest.mark.slow
def test_weights_that_see_images_from_0_to_1_are_given_such(
    run, patients: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How images are scaled is in the weights: trained so, they are given so, from raw files and from the prepared case alike."""
    folder = sorted(p for p in patients.iterdir() if p.is_dir())[0]
    shutil.copytree(folder, tmp_path / "raw" / folder.name)
    assert run("prepare", tmp_path / "raw", tmp_path / "prepared", "--workers", 1).code == 0
    plain = [f"augmentation.{name}=0" for name in ("intensity", "gamma", "noise")]
    small = ["window.stride=4", "window.size=[48,48,48]", "patch=[16,16,16]", "precision=float32", "validation=0", *plain]
    settings = [word for field in ("window.intensity=min_max", *small) for word in ("--set", field)]
    out = tmp_path / "run"
    done = run("train", "dropout_unet.tiny", "--data", tmp_path / "prepared", "--out", out, "--steps", 2, *settings)
    assert done.code == 0, done.err
    model = read_model(out / "weights.safetensors")
    assert model.header.window.intensity == "min_max"
    window = model.header.window.model_copy(update={"intensity": "z_score"})
    write_weights(tmp_path / "z.safetensors", model.method.state_dict(), model.header.model_copy(update={"window": window}))

    seen: list[torch.Tensor] = []
    original = DropoutUNet.encode

    def spied(self: DropoutUNet, image_BMDHW: torch.Tensor, present_BM: torch.Tensor, origin_B3: torch.Tensor) -> object:
        seen.append(image_BMDHW[:, present_BM[0]].float())
        return original(self, image_BMDHW, present_BM, origin_B3)

    monkeypatch.setattr(DropoutUNet, "encode", spied)
    found = {}
    for name, weights, source in (
        ("raw", out, [tmp_path / "raw" / folder.name]),
        ("prepared", out, ["--cohort", tmp_path / "prepared"]),
        ("z_score", tmp_path / "z.safetensors", [tmp_path / "raw" / folder.name]),
    ):
        seen.clear()
        done = run("segment", *source, "--weights", weights, "--out", tmp_path / name, "--probabilities", "--precision", "float32")
        assert done.code == 0, done.err
        low, high = min(float(x.min()) for x in seen), max(float(x.max()) for x in seen)
        assert (0 == low < 0.7 < high <= 1) if name != "z_score" else (low < -0.5 or high > 1.5), (name, low, high)
        (path,) = (tmp_path / name).glob("*/probability_WT.nii.gz")
        found[name] = np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
    assert found["raw"].shape == (48, 48, 40) and np.array_equal(found["raw"], found["prepared"])
    assert not np.allclose(found["raw"], found["z_score"], atol=1e-3)


def test_one_failure_does_not_stop_the_rest(run, weights: Path, patients: Path, tmp_path: Path) -> None:
    folders = sorted(p for p in patients.iterdir() if p.is_dir())[:2]
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "broken_t1.nii.gz").write_bytes(b"nothing")
    done = run("segment", folders[0], broken, folders[1], "--weights", weights, "--out", tmp_path / "masks")
    assert done.code == 2
    assert "failed: broken" in done.err and "1 of 3" in done.err
    for folder in folders:
        assert (tmp_path / "masks" / folder.name / "report.html").is_file()
    assert not (tmp_path / "masks" / "broken").exists()


def test_weights_are_kept_by_name(run, weights: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ANYMRI_WEIGHTS", str(tmp_path / "kept"))
    assert run("weights", "import", weights).code == 0
    assert "untrained" in run("weights", "list").out
    where = Path(run("weights", "where", "untrained").out.strip())
    assert where.is_file() and where.parent == tmp_path / "kept"
    assert "as it should be" in run("weights", "verify").out
    where.write_bytes(where.read_bytes()[:-1] + b"x")
    done = run("weights", "verify")
    assert done.code == 2 and "SHA-256" in done.err


def test_settings_are_checked(run, tmp_path: Path) -> None:
    for words, word in (
        (("train", "ccsd", "--set", "learning_rate=fast"), "learning_rate"),
        (("train", "ccsd", "--set", "colour=red"), "colour"),
        (("train", "ccsd", "--set", "learning_rate"), "FIELD=VALUE"),
        (("train", "ccsd", "--steps", "5", "--minutes", "1"), "not both"),
        (("train", "unet9000"), "expected one of"),
        (("train",), "--from"),
        (("train", "ccsd", "--data", tmp_path / "nowhere"), "nowhere"),
        (("evaluate", tmp_path / "nothing.safetensors"), "nothing.safetensors"),
        (("prepare", tmp_path / "nowhere", tmp_path / "out"), "nowhere"),
    ):
        done = run(*words)
        assert done.code == 2, words
        assert word in done.err and len(done.err.splitlines()) == 1
