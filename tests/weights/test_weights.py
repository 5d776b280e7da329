"""Weights by name: what the manifest says of a file must be so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from anymri.cli.weights import weights_list
from anymri.domain.task import GLIOMA
from anymri.engine.model import WeightsHeader, write_weights
from anymri.engine.run import Window
from anymri.errors import WeightsError
from anymri.methods import method_named
from anymri.trust.record import beside, write_trust
from anymri.weights import import_file, known, load_model, load_trust, named, verify

from ..trust.made import made_record


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights for glioma, outside of the folder of imported ones."""
    monkeypatch.setenv("ANYMRI_WEIGHTS", str(tmp_path / "imported"))
    torch.manual_seed(0)
    config = method_named("dropout_unet").config.sized("tiny")
    network, path = config.build(GLIOMA), tmp_path / "mine.safetensors"
    network.strip()
    header = WeightsHeader(
        name="mine",
        method="dropout_unet",
        config=config.model_dump(mode="json"),
        task=GLIOMA.name,
        window=Window(stride=4, size=(16, 16, 16)),
    )
    write_weights(path, network.state_dict(), header)
    return path


def changed_line(manifest: Path, **words: str) -> None:
    (line,) = json.loads(manifest.read_text())["weights"]
    manifest.write_text(json.dumps({"weights": [{**line, **words}]}))


def test_imported_weights_are_loaded_by_name(weights: Path) -> None:
    line = import_file(weights)
    assert (line.name, line.task) == ("mine", "glioma")
    assert load_model("mine").sha256 == load_model(weights).sha256 == line.sha256


def test_importing_again_without_a_trust_file_forgets_the_earlier_one(weights: Path, tmp_path: Path) -> None:
    write_trust(beside(weights), made_record(GLIOMA, load_model(weights).sha256))
    line, manifest = import_file(weights), tmp_path / "imported" / "manifest.json"
    assert line.trust and load_trust("mine", load_model("mine")) is not None
    beside(weights).unlink()
    again = import_file(weights)
    assert not again.trust and not beside(again.file).exists() and "trust" not in manifest.read_text()
    assert load_trust("mine", load_model("mine")) is None


def test_a_manifest_that_names_another_task_is_refused(weights: Path, tmp_path: Path) -> None:
    import_file(weights)
    changed_line(tmp_path / "imported" / "manifest.json", task="prostate")
    with pytest.raises(
        WeightsError, match=r"mine.safetensors: weights for task glioma, but .*manifest.json lists them for prostate"
    ) as e:
        load_model("mine")
    assert "\n" not in str(e.value)
    load_model(weights)  # Of a file by its path nothing is listed.


def test_a_run_folder_of_the_same_name_is_not_passed_over(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_file(weights)
    (tmp_path / "here" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert named("mine").sha256  # An empty folder holds no weights.
    shutil.copyfile(weights, tmp_path / "here" / "mine" / "weights.safetensors")
    with pytest.raises(WeightsError, match=r"'mine' is the name of weights in .* and of what lies here; give ./mine for what"):
        named("mine")
    verify(next(line for line in known() if line.name == "mine"))
    assert named("./mine").file == Path("mine/weights.safetensors") and not named("./mine").sha256


def test_weights_of_the_package_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYMRI_WEIGHTS", str(tmp_path / "imported"))
    copy = tmp_path / "copy.safetensors"
    shutil.copyfile(named("ccsd-small").file, copy)
    with pytest.raises(WeightsError, match="copy.safetensors: these weights come with the package; say --weights ccsd-small"):
        import_file(copy)
    assert not (tmp_path / "imported").exists()


def test_imported_weights_whose_file_is_gone_stop_no_others(weights: Path, tmp_path: Path, capsys) -> None:
    file = import_file(weights).file
    file.unlink()
    with pytest.raises(WeightsError, match=r"mine.safetensors: not found, though .*manifest.json names it; import 'mine' again"):
        named("mine")
    assert load_model().sha256 == named(None).sha256
    weights_list()
    assert "missing" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mine "))
    assert import_file(weights).file == file == named("mine").file
