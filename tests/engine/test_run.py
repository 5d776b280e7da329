"""What a run may say, in one line where it may not; and its record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anymri.engine.run import Run, RunFolder, Window, checked_run
from anymri.errors import TrainingError, UsageError
from anymri.methods import METHODS, method_named
from anymri.recipes import RECIPES, run_named

from ..material import short_run


@pytest.mark.parametrize("name", [*RECIPES, *(m.name for m in METHODS)])
def test_every_recipe_is_a_valid_run_that_survives_json(name: str) -> None:
    found = run_named(name)
    for run in [found] if isinstance(found, Run) else found.values():
        assert checked_run(json.loads(json.dumps(run.model_dump(mode="json")))) == run


def test_settings_of_the_method_are_completed() -> None:
    run = checked_run({"method": "ccsd", "steps": 5, "config": {"skips": "fused"}})
    assert run.config == {**method_named("ccsd").config.sized("base").model_dump(mode="json"), "skips": "fused"}
    assert checked_run({"method": "ccsd", "steps": 5}).config == method_named("ccsd").config.sized("base").model_dump(mode="json")
    # However they were written.
    assert checked_run({"method": "ccsd", "steps": 5, "config": {"widths": (8, 16), "depths": (1, 1)}}) == checked_run(
        {"method": "ccsd", "steps": 5, "config": {"widths": [8, 16], "depths": [1, 1]}}
    )


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no budget": ({"steps": None}, "exactly one of steps and minutes is the budget"),
    "two budgets": ({"minutes": 1.0}, "exactly one of steps and minutes is the budget"),
    "unknown method": ({"method": "nothing"}, "method 'nothing' is unknown; expected one of adamm, ccsd"),
    "unknown task": ({"task": "heart"}, "task 'heart' is unknown; expected one of glioma"),
    "unknown setting": ({"learning_speed": 1}, "setting 'learning_speed': Extra inputs are not permitted; found 1"),
    "wrong value": ({"optimiser": "lion"}, "setting 'optimiser': Input should be 'adamw', 'adam' or 'sgd'; found 'lion'"),
    "wrong type": ({"batch": "many"}, "setting 'batch': Input should be a valid integer"),
    "out of range": ({"threads": 0}, "setting 'threads': Input should be greater than or equal to 1; found 0"),
    "unknown option": (
        {"config": {"skips": "all"}},
        "setting 'config': setting 'skips': Input should be 'shared' or 'fused'; found 'all'",
    ),
    "options that do not fit": (
        {"config": {"widths": [4, 6, 8]}},
        "setting 'config': depths (2, 2, 2, 2) must be as many as widths",
    ),
    "candidate beyond the end": ({"candidates": [0.5, 1.5]}, "setting 'candidates.1': Input should be less than or equal to 1"),
    "no candidate": ({"candidates": []}, "setting 'candidates':"),
    "patch that cannot be halved": (
        {"patch": [12, 12, 10], "config": {"widths": [4, 4, 4], "depths": [1, 1, 1]}},
        "patch is (12, 12, 10); for this ccsd with precision float32 every edge must be a multiple of 4 and at least 8",
    ),
    # oneDNN's bf16 gradients of a 2×2×2 map are random.
    "patch too small for bf16": (
        {"patch": [8, 8, 4], "precision": "bf16"},
        "patch is (8, 8, 4); for this ccsd with precision bf16 every edge must be a multiple of 2 and at least 8",
    ),
    "patch of one voxel at the bottom": ({"patch": [2, 8, 8]}, "patch is (2, 8, 8); "),
    "window that cannot be halved": ({"window": {"size": [8, 9, 8]}}, "window.size is (8, 9, 8); "),
    "patch too small for a coarse start": ({"coarse": 0.5, "patch": [8, 8, 4]}, "half of patch is (4, 4, 2); for this ccsd"),
    "no window": ({"window": {"size": [8, 0, 8]}}, "setting 'window.size.1': Input should be greater than 0; found 0"),
    "curves of intensities that have another scale": (
        {"window": {"size": [8, 8, 8], "intensity": "min_max"}},
        "with window.intensity=min_max set augmentation.intensity, gamma and noise to 0",
    ),
    "window without overlap": ({"window": {"overlap": 1.0}}, "setting 'window.overlap': Input should be less than 1; found 1.0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_in_one_line(case: str) -> None:
    settings, line = WRONG[case]
    with pytest.raises(UsageError) as caught:
        checked_run({**short_run("ccsd").model_dump(), **settings})
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_the_patch_that_made_gradients_random_is_refused() -> None:
    """dropout_unet small halves four times: a patch of 32 leaves 2×2×2."""
    settings = {"steps": 1, "patch": (32, 32, 32)}
    with pytest.raises(UsageError, match="multiple of 16 and at least 64"):
        Run.of("dropout_unet", "small", settings)
    assert Run.of("dropout_unet", "small", {**settings, "precision": "float32"}).patch == (32, 32, 32)
    assert Run.of("dropout_unet", "small", {"steps": 1}).patch == (64, 64, 64)


def test_a_network_may_divide_its_axes_differently() -> None:
    settings = {"steps": 1, "window": {"size": (80, 160, 160)}}
    assert Run.of("ccsd", "paper", {**settings, "patch": (80, 160, 160)}).patch == (80, 160, 160)
    with pytest.raises(UsageError, match=r"every edge must be a multiple of \(16, 32, 32\) and at least \(64, 128, 128\)"):
        Run.of("ccsd", "paper", {**settings, "patch": (160, 160, 80)})


def test_sizes_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(method_named("ccsd").config, "sizes", ("tiny", "small", "base"))
    with pytest.raises(UsageError, match="method ccsd has no size 'paper'; expected one of tiny, small, base"):
        Run.of("ccsd", "paper", {"steps": 1})


def test_a_record_comes_back(tmp_path: Path) -> None:
    run, folder = short_run("ccsd"), RunFolder(tmp_path)
    folder.write_record(run, {"cohort": {"name": "c"}})
    assert folder.read_run() == run
    assert json.loads(folder.record.read_text())["cohort"] == {"name": "c"}


def test_a_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Fields that came later have their defaults, in the run as in the method's settings."""
    run, folder = short_run("ccsd"), RunFolder(tmp_path)
    content = run.model_dump(mode="json")
    del content["init"], content["config"]["rescore"], content["schedule"], content["window"]["intensity"]
    folder.record.write_text(json.dumps({"run": content}))
    assert folder.read_run() == run


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"run": 3}', '{"run": {"method": "ccsd"}}'])
def test_what_is_no_record_is_refused_in_one_line(content: str | None, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    if content is not None:
        folder.record.write_text(content)
    with pytest.raises(TrainingError, match=r"run\.json: not a run \(") as caught:
        folder.read_run()
    assert "\n" not in str(caught.value)


def test_a_window_is_the_weights_own() -> None:
    assert short_run("ccsd").window == Window(stride=1, size=(8, 8, 8))
