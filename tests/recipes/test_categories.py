"""One method of each category, side by side."""

from __future__ import annotations

import pytest

from anymri.compare import check_alike
from anymri.errors import UsageError
from anymri.methods import METHODS, method_named
from anymri.recipes import runs_named
from anymri.recipes.categories import REPRESENTATIVES, six_categories
from anymri.recipes.ccsd import small
from anymri.recipes.default import BRIEF, default, side_by_side


def test_each_category_has_its_representatives_at_one_size_and_budget() -> None:
    runs = six_categories()
    assert {run.method: method_named(run.method).category for run in runs.values()} == {
        name: category for category, names in REPRESENTATIVES.items() for name in names
    }
    check_alike(runs)
    assert all(run.config == method_named(run.method).config.sized("small").model_dump(mode="json") for run in runs.values())
    assert runs["shaspec"].config["absent"] == "shared_mean"
    assert len({(r.optimiser, r.weight_decay, r.precision) for r in runs.values()}) == 1
    assert set(REPRESENTATIVES) == {entry.category for entry in METHODS}
    shared = {**BRIEF, "candidates": (1.0,)}
    assert runs.pop("adamm").model_dump(include=set(BRIEF)) == {**shared, "learning_rate": 1e-3}
    assert all(run.model_dump(include=set(BRIEF)) == shared for run in (*runs.values(), small()))


def test_one_patch_and_window_fit_all() -> None:
    runs = side_by_side({"a": ("adamm", "small"), "b": ("dropout_unet", "paper")})
    multiples = [run.method_config.multiple for run in runs.values()]
    assert multiples[0] < multiples[1]
    assert runs["a"].patch == runs["b"].patch == default("dropout_unet", "paper").patch
    assert runs["a"].window == runs["b"].window


def test_one_run_under_two_names_is_refused() -> None:
    with pytest.raises(UsageError, match="'ccsd' and 'ccsd.tiny' are the same run"):
        runs_named(["ccsd", "ccsd.tiny"], size="tiny")
    assert list(runs_named(["ccsd", "ccsd"], size="tiny")) == ["ccsd"]
