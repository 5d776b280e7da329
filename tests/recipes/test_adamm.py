"""AdaMM on the data of its paper."""

from __future__ import annotations

from dataclasses import replace

from anymri.domain.case import Split
from anymri.domain.task import GLIOMA, METASTASIS
from anymri.engine.parts import parts_of
from anymri.engine.run import Run
from anymri.methods.adamm import AdaMMConfig
from anymri.recipes import run_named
from anymri.recipes.adamm import ABLATION
from anymri.recipes.categories import six_categories
from anymri.recipes.default import default
from anymri.recipes.splits import split_lists


def recipe(name: str) -> Run:
    found = run_named(name)
    assert isinstance(found, Run)
    return found


def test_the_published_training_is_that_of_the_paper() -> None:
    run = recipe("adamm_published")
    assert (run.patch, run.window.size, run.window.stride, run.batch, run.accumulate) == ((160, 192, 128), (160, 192, 128), 1, 1, 1)
    assert (run.optimiser, run.learning_rate, run.weight_decay, run.schedule, run.warm_up) == ("adam", 1e-4, 1e-5, "poly", 0.0)
    assert run.window.intensity == "min_max" and run.tumour_share == 0.0 and run.average == 0.0
    assert run.augmentation.flip == (0.5, 0.5, 0.5) and not run.augmentation.recolours and run.augmentation.spatial == 0.0
    assert run.steps == 200 * 1080 and run.fold == 0
    # An epoch is every training case once: none is taken out, since none chooses.
    cases = [f"BraTS-GLI-{i:05d}-100" for i in range(1350)]
    parts = parts_of(run, Split(tuple(tuple(cases[i::5]) for i in range(5))))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (1080, 0, 270) and run.candidates == (1.0,)
    paper = default("adamm", "paper").config
    assert run.config == {**paper, "style_scale": "absolute"} and paper["style_scale"] == "relative"


def test_the_other_data_sets_have_the_recipe_of_all_methods() -> None:
    usual = default("adamm", "paper")
    assert recipe("adamm.brats2018") == usual.model_copy(update={"cases": split_lists("brats2018")})
    assert recipe("adamm.brats2024") == usual.model_copy(update={"fold": 0})
    assert recipe("adamm.metastasis") == usual.model_copy(update={"fold": 0, "task": "metastasis"})


def test_the_ablation_leaves_out_one_module_at_a_time() -> None:
    for name, base in (("adamm.ablation", recipe("adamm.brats2018")), ("adamm.ablation.small", six_categories()["adamm"])):
        runs = run_named(name)
        assert not isinstance(runs, Run) and list(runs) == list(ABLATION) and runs["whole"] == base
        assert all(run.model_copy(update={"config": base.config}) == base for run in runs.values())
        for row, changed in ABLATION.items():
            assert {k: v for k, v in runs[row].config.items() if v != base.config[k]} == changed
        distils = AdaMMConfig.model_validate(runs["without_bbdm"].config).distils
        assert not distils and AdaMMConfig.model_validate(base.config).distils


def test_a_resection_cavity_is_no_part_of_the_tumour() -> None:
    for task in (GLIOMA, METASTASIS):
        scheme = task.scheme("brats2024")
        assert scheme.regions[4] == () and scheme.known == task.region_names


def test_metastases_are_written_as_gliomas_are() -> None:
    for scheme in METASTASIS.schemes:
        assert replace(GLIOMA.scheme(scheme.name), description=scheme.description) == scheme
    assert [s.name for s in METASTASIS.schemes] == ["brats2023", "brats2021", "brats2024", "wt"]
    assert METASTASIS.scheme().regions == {1: ("WT", "TC"), 2: ("WT",), 3: ("WT", "TC", "ET")}
