"""Training with generated patches: recorded, resumed to the bit, refused where the material changed, and it learns."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anymri.domain.task import GLIOMA
from anymri.engine.model import Training, read_model
from anymri.engine.record import material_told
from anymri.engine.run import Run, RunFolder, checked_run
from anymri.engine.supply import data_of, material_of, supply_of
from anymri.engine.training import Progress, follow, train
from anymri.errors import AnymriError, InputFileError, TrainingError, UsageError
from anymri.volumes.store import read_case, read_image, read_labels, read_truth, write_case
from anymri.volumes.volume import bounding_box

from ..data.generation.made import CORE, EDEMA, ENHANCING, head, write_map, write_material
from ..material import made_patient, short_run, write_made_cohort

CPU = torch.device("cpu")
EVERYTHING = {"synthetic": 0.4, "mix": 0.4, "transplant": 0.8}
ARTEFACTS = {"artefacts": {"slab": 0.5}}


class Broken(Exception):
    """Ends a training from outside."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared")
    write_made_cohort(path, GLIOMA, folds=(("a", "b"), ("c",)), partly=("x",))
    return path


@pytest.fixture
def material(tmp_path: Path) -> Path:
    return write_material(tmp_path / "material")


def run_with(material: Path | None, **settings: Any) -> Run:
    maps = {} if material is None else {"material": str(material)}
    given = {"generation": EVERYTHING, "augmentation": ARTEFACTS, "batch": 2, "partial_weight": 0.5, "checkpoint_minutes": 0}
    return short_run("dropout_unet", **{**given, **maps, **settings})


def state_of(folder: Path) -> dict[str, Any]:
    (newest,) = sorted((folder / "checkpoints").glob("step_*"))[-1:]
    return {"sha256": json.loads((newest / "facts.json").read_text())["sha256"], "lines": (folder / "log.jsonl").read_text()}


def test_a_record_holds_the_settings_and_hashes_of_the_material(prepared: Path, material: Path, tmp_path: Path) -> None:
    run = run_with(material)
    train(run, prepared, tmp_path / "run")
    facts = RunFolder(tmp_path / "run").read_facts()
    assert list(facts["material"]) == ["anatomies/head.nii.gz", "tumours/a.nii.gz", "tumours/b.nii.gz"]
    assert all(len(digest) == 64 for digest in facts["material"].values())
    assert RunFolder(tmp_path / "run").read_run() == run
    plain = run_with(None, generation={})
    train(plain, prepared, tmp_path / "plain")
    assert RunFolder(tmp_path / "plain").read_facts()["material"] is None


def test_weights_say_what_material_they_come_from(prepared: Path, material: Path, tmp_path: Path) -> None:
    (material / "SOURCES.md").write_text("Made by code.")
    train(run_with(material), prepared, tmp_path / "run")
    hashes = RunFolder(tmp_path / "run").read_facts()["material"]
    told = read_model(RunFolder(tmp_path / "run").weights).header.training.material
    lines = "".join(f"{digest}  {name}\n" for name, digest in hashes.items())
    assert told == {"sha256": hashlib.sha256(lines.encode()).hexdigest(), "source": "Made by code."}
    left_out = material_told({"material": {**hashes, "tumours/c.nii.gz": "00"}, "material_left_out": {"tumours/c.nii.gz": "case"}})
    assert left_out == {"sha256": told["sha256"], "source": ""}
    plain = train(run_with(None, generation={}), prepared, tmp_path / "plain")
    assert plain.header.training.material == {}


def test_headers_from_before_are_read() -> None:
    assert Training.model_validate({"cohort": {}, "cases": [], "seed": 0, "fold": 0, "budget": "", "versions": {}}).material == {}


def test_resumed_to_the_bit(prepared: Path, material: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 4:
            raise Broken

    run = run_with(material)
    whole = train(run, prepared, tmp_path / "whole").method.state_dict()
    with pytest.raises(Broken):
        train(run, prepared, tmp_path / "parts", report=stop)
    parts = train(run, prepared, tmp_path / "parts", resume=True).method.state_dict()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    assert state_of(tmp_path / "whole")["sha256"] == state_of(tmp_path / "parts")["sha256"]


def test_a_run_does_not_go_on_with_other_material(prepared: Path, material: Path, tmp_path: Path) -> None:
    run = run_with(material)
    train(run, prepared, tmp_path / "run")
    labels = head()
    labels[labels == 41] = 2
    write_map(material / "anatomies" / "head.nii.gz", labels)  # Of the same tissues: what is taken from it is the same.
    train(run, prepared, tmp_path / "run", resume=True)
    labels[25:30, 10:15] = 2
    write_map(material / "anatomies" / "head.nii.gz", labels)
    with pytest.raises(TrainingError, match=r"1 of its files .* first is anatomies/head.nii.gz; restore them") as caught:
        train(run, prepared, tmp_path / "run", resume=True)
    assert "\n" not in str(caught.value)


@pytest.fixture
def apart(prepared: Path, tmp_path: Path) -> Path:
    """Cases whose tumours are of different sizes: that of b lacks a quarter, that of c half and a corner."""
    shutil.copytree(prepared, tmp_path / "apart")
    for name in ("b", "c"):
        folder = tmp_path / "apart" / "cases" / name
        bits = read_labels(folder).copy()
        d, h, w = (s.start + (s.stop - s.start) // 2 for s in bounding_box(bits))
        bits[(slice(d), slice(h)) if name == "b" else (slice(d),)] = 0
        bits[(slice(d + 2), slice(h - 1), slice(w - 1)) if name == "c" else (slice(0),)] = 0
        write_case(folder, read_case(folder), read_image(folder), bits, read_truth(folder).array)
    return tmp_path / "apart"


def add_references(material: Path, prepared: Path) -> None:
    """Write the references of the complete cases as maps of tumours, each mirrored along another axis."""
    for axis, name in enumerate("abc"):
        bits = read_labels(prepared / "cases" / name)
        labels = np.select([bits == 7, bits == 3, bits == 1], [ENHANCING, CORE, EDEMA]).astype(np.int16)
        write_map(material / "tumours" / f"of_{name}.nii.gz", np.flip(labels, axis))


def test_tumours_of_held_out_cases_are_left_out(
    apart: Path, material: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_references(material, apart)
    run = run_with(material, fold=1, validation=1)
    train(run, apart, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    facts, (chosen,) = folder.read_facts(), folder.read_cases()["validation"]
    left_out = {f"tumours/of_{name}.nii.gz": name for name in sorted([chosen, "c"])}
    assert facts["material_left_out"] == left_out and left_out.keys() < facts["material"].keys()
    used = material_of(run, [apart / "cases" / name for name in left_out.values()])
    (trained,) = {"a", "b"} - {chosen}
    assert used is not None and [t.name for t in used.tumours] == ["a.nii.gz", "b.nii.gz", f"of_{trained}.nii.gz"]
    (said,) = caplog.messages
    assert "\n" not in said and said.startswith("note: 2 tumours of the material are those of cases") and "of_c.nii.gz (c)" in said
    assert said.removeprefix("note: ") in folder.log.read_text()
    train(run_with(material, validation=0), apart, tmp_path / "all")
    everything = RunFolder(tmp_path / "all").read_facts()
    assert everything["material_left_out"] == {} and everything["material"] == facts["material"]


def test_a_run_goes_on_with_the_same_tumours_left_out(apart: Path, material: Path, tmp_path: Path) -> None:
    add_references(material, apart)
    run, folder = run_with(material, fold=1), RunFolder(tmp_path / "run")
    train(run, apart, folder.path)
    train(run, apart, folder.path, resume=True)
    train(folder.read_run(), apart, tmp_path / "again")
    facts = folder.read_facts()
    for field in ("material", "material_left_out"):
        assert RunFolder(tmp_path / "again").read_facts()[field] == facts[field]
    folder.record.write_text(json.dumps({k: v for k, v in facts.items() if k != "material_left_out"}))
    with pytest.raises(TrainingError, match=r"has used 1 tumours .* first is tumours/of_c.nii.gz, of c; .* start again") as caught:
        train(run, apart, folder.path, resume=True)
    assert "\n" not in str(caught.value)
    folder.record.write_text(json.dumps({**facts, "material_left_out": {**facts["material_left_out"], "tumours/b.nii.gz": "c"}}))
    with pytest.raises(TrainingError, match=r"has left out 1 tumours .* first is tumours/b.nii.gz, of c; restore the case"):
        train(run, apart, folder.path, resume=True)


def test_material_that_cannot_be_read_leaves_no_run(prepared: Path, material: Path, tmp_path: Path) -> None:
    shutil.rmtree(material / "tumours")
    with pytest.raises(InputFileError, match="tumours: is no folder"):
        train(run_with(material), prepared, tmp_path / "run")
    assert not RunFolder(tmp_path / "run").record.exists()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"generation": {"synthetic": 0.1}}, "give --material DIR"),
    ({"material": "somewhere"}, "material is for synthetic patients, of which there are none"),
    ({"generation": {"synthetic": 0.1}, "material": "somewhere", "task": "prostate"}, "task prostate has no synthetic patients"),
    (
        {
            "generation": {"synthetic": 0.1},
            "material": "somewhere",
            "window": {"stride": 1, "size": [8, 8, 8], "intensity": "min_max"},
        },
        "min_max",
    ),
    ({"generation": {"mix": 1.1}}, "generation.mix"),
    ({"generation": {"mixture": 0.1}}, "generation.mixture"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_settings_that_do_not_fit_are_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AnymriError, match=message) as caught:
        checked_run({"method": "dropout_unet", "steps": 1, "patch": (64, 64, 64), "precision": "float32", **settings})
    assert isinstance(caught.value, UsageError) and "\n" not in str(caught.value)


def test_a_part_is_the_same_whoever_makes_it_and_when(material: Path) -> None:
    run, patients = run_with(material), [made_patient(GLIOMA, seed) for seed in range(3)]
    keys = [(0, step, part) for step in range(4) for part in range(2)]
    one, other = (supply_of(run, patients, material_of(run)) for _ in range(2))
    forward = {key: data_of(run, one, CPU, key)[0] for key in keys}
    for key in reversed(keys):
        batch = data_of(run, other, CPU, key)[0]
        assert torch.equal(batch.image_BMDHW, forward[key].image_BMDHW) and torch.equal(
            batch.target_BRDHW, forward[key].target_BRDHW
        )
        assert batch.names == forward[key].names and torch.equal(batch.known_BR, forward[key].known_BR)


def test_artefacts_come_once(material: Path) -> None:
    patients = [made_patient(GLIOMA, seed) for seed in range(3)]

    def images(**settings: Any) -> torch.Tensor:
        run = run_with(material, **settings)
        return torch.cat(
            [data_of(run, supply_of(run, patients, material_of(run)), CPU, (0, s, 0))[0].image_BMDHW for s in range(3)]
        )

    certain = {"bias": 1.0, "noise": 1.0}
    synthetic = {"synthetic": 1.0, "artefacts": certain}
    by_both = images(generation=synthetic, augmentation={"artefacts": certain})
    by_augmentation = images(generation={**synthetic, "artefacts": None}, augmentation={"artefacts": certain})
    by_generation, by_none = (images(generation={**synthetic, "artefacts": a}, augmentation={}) for a in (certain, None))
    assert torch.equal(by_both, by_augmentation)
    assert not torch.equal(by_generation, by_none) and not torch.equal(by_augmentation, by_none)


def test_loss_falls(material: Path, tmp_path: Path) -> None:
    patients = [made_patient(GLIOMA, seed) for seed in range(3)]
    easy = {"random_contrast": 0.0, "artefacts": None, **EVERYTHING}
    run = run_with(material, steps=80, generation=easy, augmentation={}, checkpoint_minutes=2)
    losses: list[float] = []
    supply = supply_of(run, patients, material_of(run))
    follow(run, supply, RunFolder(tmp_path / "run"), resume=False, device=CPU, report=lambda p: losses.append(p.loss))
    assert losses[-1] < 0.9 * losses[0]  # Both are smoothed over 50 steps.
