"""The experiments of CCSD's paper, as the package names them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from anymri.cli.listing import _listing
from anymri.engine.run import Run
from anymri.errors import UsageError
from anymri.recipes import RECIPES, run_named
from anymri.recipes.ccsd import TABLE_SETS, brats2018, brats2020, small
from anymri.recipes.splits import split_lists

# The settings in which the rows of a table differ, and how many rows there are.
TABLES = {
    "table3": ({"hmsd", "dmcd"}, 4),
    "table4": ({"hmsd", "dmcd", "distilled"}, 9),
    "table5": ({"path"}, 3),
    "table6": ({"path", "criticality"}, 3),
    "absent": ({"hmsd", "dmcd", "absent"}, 8),
}


def rows(name: str) -> Mapping[str, Run]:
    found = run_named(name)
    assert not isinstance(found, Run)
    return found


@pytest.mark.parametrize("ending", ["", ".small"])
@pytest.mark.parametrize("table", TABLES)
def test_the_runs_of_a_table_differ_in_what_it_is_about_alone(table: str, ending: str) -> None:
    runs, (settings, count) = rows(f"ccsd.{table}{ending}"), TABLES[table]
    configs = [run.config for run in runs.values()]
    assert len(runs) == count and all(configs.count(c) == 1 for c in configs)
    assert {name for c in configs for name in c if c[name] != configs[0][name]} == settings
    base = small() if ending else brats2018()
    assert all(run.model_copy(update={"config": base.config}) == base for run in runs.values())
    if table in ("table5", "table6"):
        assert {c["hmsd"] for c in configs} == {1.0}  # HMSD stays on


def test_the_protocol_is_that_of_the_paper() -> None:
    for run, steps, cases in ((brats2018(), 1659, 199), (brats2020(), 1825, 219)):
        assert run.cases is not None and len(run.cases.train) == cases
        assert (run.steps, run.batch * run.accumulate, run.patch) == (steps, 12, (80, 160, 160))  # 100 epochs of batches of 12
        assert (run.optimiser, run.learning_rate, run.weight_decay, run.warm_up) == ("adam", 1e-2, 0.0, 0.0)
        assert run.config["encoder"] == "shaspec" and run.config["absent"] == "zero"
        assert run.augmentation.flip == (0.5, 0.5, 0.5) and run.augmentation.rotation_degrees > 0
        assert run.augmentation.noise == run.augmentation.scaling == 0.0


def test_tables_1_and_2_are_trained_on_the_lists_of_their_cohorts() -> None:
    assert [run.cases for run in rows("ccsd.table1").values()] == [split_lists("brats2018", n) for n in (1, 2, 3)]
    assert [run.cases for run in rows("ccsd.table2").values()] == [split_lists("brats2020")]


def test_every_recipe_says_what_it_is() -> None:
    lines = _listing("recipes")
    assert [line.split()[0] for line in lines] == list(RECIPES)
    assert not [line for line in lines if "partial" in line or len(line.split()) < 4]
    assert len({line.split(maxsplit=1)[1] for line in lines}) == len(lines)
    assert set(TABLE_SETS) == {f"ccsd.{t}{e}" for t in TABLES for e in ("", ".small")}


def test_a_name_that_is_nearly_a_recipe_names_those_there_are() -> None:
    with pytest.raises(
        UsageError, match=r"'ccsd.tabel3' is neither a size of ccsd \(tiny, .*paper\) nor a recipe \(.*ccsd.table3, "
    ):
        run_named("ccsd.tabel3")
    with pytest.raises(UsageError, match=r"nor a recipe \(none\)"):
        run_named("shaspec.huge")
