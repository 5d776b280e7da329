"""calibrate → segment: what is said of a patient, what is claimed without a trust file, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from anymri import Options
from anymri.domain.task import GLIOMA
from anymri.engine.model import read_model
from anymri.segment import Visit, segment_visit
from anymri.trust.record import beside, write_trust
from anymri.trust.statement import NOT_MEASURED
from anymri.weights import load_model, load_trust, trust_of

from ..material import write_made_cohort
from ..trust.made import TRUTH, made_record


@pytest.fixture
def trusted(weights: Path, tmp_path: Path) -> Path:
    """Untrained weights with a trust file beside them."""
    copy = tmp_path / "trusted" / "weights.safetensors"
    copy.parent.mkdir()
    shutil.copyfile(weights, copy)
    write_trust(beside(copy), made_record(GLIOMA, read_model(copy).sha256, intercept=-5.0))
    return copy


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """One case of a few voxels."""
    write_made_cohort(tmp_path / "small", GLIOMA, folds=(("a",),))
    return tmp_path / "small"


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def array(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]


def test_trust_is_measured_and_used(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, out = tmp_path / "prepared", tmp_path / "run"
    write_made_cohort(prepared, GLIOMA, folds=(("a", "b", "c", "d", "e"), ("f", "g")))
    small = ["--set", "patch=[16,16,16]", "--set", "window.stride=1", "--set", "window.size=[16,16,16]", "--set", "validation=0"]
    config = '{"widths": [4, 6], "depths": [1, 1]}'
    words = ["train", "ccsd", "--data", prepared, "--set", f"config={config}", *small]
    for done in (run(*words, "--out", out, "--fold", 0, "--steps", 1), run(*words, "--out", tmp_path / "all", "--steps", 2)):
        assert done.code == 0, done.err
    done = run("calibrate", out, "--data", prepared, "--out", out / "weights.trust.json", "--device", "cpu")
    assert done.code == 0, done.err
    assert "masks with a Dice below 0.5 were warned of" in done.out or "no Dice is expected" in done.out
    assert "5 cases of made_up, each by what the others taught" in done.out and "copy it" not in done.out
    assert not list(out.glob(".weights*"))
    done = run("segment", "--cohort", prepared, "--shard", "1/7", "--weights", out, "--out", tmp_path / "masks")
    assert done.code == 0, done.err
    summary = summary_of(tmp_path / "masks" / "a")
    assert summary["trust"]["cases"] == 5 and list(summary["expected_dice"]) == ["WT", "TC", "ET"]
    assert "expected Dice (1: as an expert draws it; below 0.5: poor): WT" in done.out and NOT_MEASURED not in summary["warnings"]
    lent = run("calibrate", out, "--data", prepared, "--for", tmp_path / "all", "--out", tmp_path / "all" / "weights.trust.json")
    assert lent.code == 0 and "note: 'all' was trained with budget 2 steps, what is measured with 1 steps: how far" in lent.err
    monkeypatch.setenv("ANYMRI_WEIGHTS", str(tmp_path / "imported"))
    assert run("weights", "import", out / "weights.safetensors").code == 0
    named = run("calibrate", "run", "--data", prepared, "--out", tmp_path / "again.trust.json")
    assert named.code == 0 and "run has a trust file that is told by its hash; to use this one, put it" in named.out
    check_of_trust(run, prepared, out, tmp_path / "all")
    refused = run("calibrate", out, "--data", prepared, "--out", tmp_path / "trust.json")
    assert refused.code == 2 and ".trust.json" in refused.err
    refused = run("calibrate", out, "--data", prepared, "--fold", 1, "--out", tmp_path / "w.trust.json")
    assert refused.code == 2 and "were trained on 2 cases of fold 1" in refused.err and len(refused.err.splitlines()) == 1


def check_of_trust(run, prepared: Path, fold: Path, whole: Path) -> None:
    """Check that a trust file can be held against other cases than its own, by file and by name."""
    trust, figures = (
        beside(whole / "weights.safetensors"),
        fold.parent / "held.check.json",
    )  # Measured with the other, lent to this.
    others, here = fold.parent / "others", sorted(p.name for p in fold.parent.iterdir())
    write_made_cohort(others, GLIOMA, folds=(tuple("pqrstu"),), name="others")
    done = run("calibrate", whole, "--data", others, "--check", trust, "--out", figures)
    assert done.code == 0 and done.err == "" and f"6 cases of others, all by what the trust file of {trust} says" in done.out
    content = json.loads(figures.read_text())
    assert content["format"] == "anymri-trust-check/2" and content["trust"] == hashlib.sha256(trust.read_bytes()).hexdigest()
    assert list(content["regions"]) == ["WT", "TC", "ET"] and content["cases"] == 6
    assert set(content["regions"]["WT"]["checks"]["calibration"]) == {"raw", "pooled", "fitted"}
    figures.unlink()
    write_trust(foreign := fold.parent / "foreign.trust.json", made_record(GLIOMA, "00"))
    note = "note: 'all' is not among the weights that the trust file belongs to: it is checked as if it were lent to them"
    done = run("calibrate", whole, "--data", others, "--check", foreign, "--out", figures)
    assert done.code == 0 and done.err.strip() == note
    figures.unlink()
    foreign.unlink()
    shutil.copytree(whole, bare := fold.parent / "bare")
    (bare / "weights.trust.json").unlink()
    for words, complaint in (
        (["--check", fold], "on its own cases nothing is checked"),
        (
            ["--check", trust, "--out", fold.parent / "x.trust.json"],
            "makes figures and no trust file; give a file that ends in .check",
        ),
        (["--check", trust, "--for", whole], "leave one of them out"),
        (["--check", fold.parent / "gone.trust.json"], "there is no such file"),
        (["--check", bare], "no trust file lies beside these weights"),
        (["--check", fold / "run.json"], "expected anymri-trust/4"),
    ):
        refused = run("calibrate", fold, "--data", prepared, "--out", figures, *words)
        assert refused.code == 2 and complaint in refused.err and len(refused.err.splitlines()) == 1, refused.err
    shutil.rmtree(others)
    shutil.rmtree(bare)
    assert sorted(p.name for p in fold.parent.iterdir()) == here


def test_what_is_not_to_be_relied_on_is_said_first(run, trusted: Path, images: dict[str, Path], tmp_path: Path) -> None:
    done = run("segment", "--flair", images["flair"], "--weights", trusted, "--out", tmp_path / "p")
    assert done.code == 0, done.err
    summary = summary_of(tmp_path / "p")
    assert summary["warnings"][0].startswith("Do not rely on WT (expected Dice ")
    first, second = done.out.splitlines()[:2]
    assert first == f"p: {summary['warnings'][0]}" and done.out.count("Do not rely on") == 1
    assert f"  WT {summary['volumes_ml']['WT']:.1f} ml, do not rely on it  TC " in second
    fields = list(summary)
    assert max(map(fields.index, ("warnings", "doubtful_regions"))) < min(map(fields.index, ("volumes_ml", "expected_dice")))
    found = [region for region, ml in summary["volumes_ml"].items() if ml]
    assert summary["doubtful_regions"] == found == list(summary["most_helpful"])
    assert summary["most_helpful"]["WT"] == {"modality": "T2", "gain": [0.05, 0.15], "mean": 0.1, "best": 0.1, "alike": []}
    page = (tmp_path / "p" / "report.html").read_text()
    places = [page.index(words) for words in ("Do not rely on WT", "How far to trust it", "<strong>do not rely on it</strong>")]
    assert places == sorted(places)


def test_without_a_trust_file_nothing_is_claimed(run, weights: Path, prepared: Path, tmp_path: Path) -> None:
    done = run("segment", "--cohort", prepared, "--weights", weights, "--out", tmp_path / "p")
    assert done.code == 0 and NOT_MEASURED in done.out and "expected Dice (" not in done.out
    summary = summary_of(tmp_path / "p" / "a")
    assert summary["trust"] is None and NOT_MEASURED in summary["warnings"] and "expected_dice" not in summary
    assert "trust it" not in (tmp_path / "p" / "a" / "report.html").read_text()


def test_calibration_moves_probabilities_and_no_mask(trusted: Path, prepared: Path) -> None:
    visit, model = Visit("a", case=prepared / "cases" / "a"), read_model(trusted)
    ways = [Options(probabilities=True, trust=trust) for trust in (None, load_trust(trusted, model))]
    raw, calibrated = (segment_visit(visit, model, options) for options in ways)
    assert np.array_equal(raw.mask.array, calibrated.mask.array)
    for region in GLIOMA.region_names:
        p = np.clip(raw.probabilities[region].array.astype(float), 1e-12, 1 - 1e-6)
        expected = TRUTH.probability(np.log(p / (1 - p)))
        assert np.allclose(calibrated.probabilities[region].array, expected, atol=1e-3)


def test_a_trust_file_that_cannot_be_used_is_refused(run, trusted: Path, images: dict[str, Path], tmp_path: Path) -> None:
    words = ("segment", "--flair", images["flair"], "--weights", trusted, "--out", tmp_path / "p")
    for damage, word in (("{", "damaged"), (json.dumps(made_record(GLIOMA, "00").model_dump(mode="json")), "other weights")):
        beside(trusted).write_text(damage)
        done = run(*words)
        assert done.code == 2 and word in done.err and len(done.err.splitlines()) == 1 and str(beside(trusted)) in done.err
        assert not (tmp_path / "p").exists()
        assert run("weights", "import", trusted).code == 2


def test_trust_is_imported_with_the_weights(run, trusted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYMRI_WEIGHTS", str(tmp_path / "kept"))
    assert run("weights", "import", trusted).code == 0
    model = load_model("untrained")
    trust = load_trust("untrained", model)
    assert trust is not None and trust == trust_of(model) == load_trust(trusted, model)
    beside(trusted).unlink()
    assert load_trust(trusted, model) == trust  # A copy of weights that were imported.
    assert run("weights", "verify").code == 0
    kept = tmp_path / "kept" / "untrained.trust.json"
    kept.write_text(kept.read_text() + "\n")
    done = run("weights", "verify")
    assert done.code == 2 and "SHA-256" in done.err and len(done.err.splitlines()) == 1
    kept.unlink()
    assert run("weights", "verify").code == 2


def test_the_shipped_weights_come_with_their_trust() -> None:
    model = load_model()
    trust = load_trust(None, model)
    assert trust is not None and trust.record.cases >= 5 and trust.record.method == model.header.method
    for measured in trust.record.regions.values():
        raw, fitted = (measured.checks.calibration[way] for way in ("raw", "fitted"))
        assert fitted.cross_entropy < raw.cross_entropy
        assert measured.checks.dice.mean_absolute_error < measured.checks.dice.by_modalities_alone
        assert list(measured.belief.calibration.subsets) == [*measured.belief.gains, "FLAIR+T1+T1c+T2"]
