"""Named runs: functions that return a Run, or several by name that belong together. A new one is a function and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from anymri.engine.run import Run
from anymri.errors import UsageError
from anymri.methods import METHODS
from anymri.recipes import adamm, ccsd, dropout_unet, shipped
from anymri.recipes.categories import six_categories
from anymri.recipes.default import default, side_by_side

Recipe = Callable[[], Run] | Callable[[], Mapping[str, Run]]

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "adamm.ablation": adamm.ablation,
        "adamm.ablation.small": adamm.ablation_small,
        "adamm.brats2018": adamm.brats2018,
        "adamm.brats2024": adamm.brats2024,
        "adamm.metastasis": adamm.metastasis,
        "adamm_published": adamm.published,
        "ccsd.brats2018": ccsd.brats2018,
        "ccsd.brats2020": ccsd.brats2020,
        "ccsd.table1": ccsd.table1,
        "ccsd.table1.small": ccsd.table1_small,
        "ccsd.table2": ccsd.table2,
        **ccsd.TABLE_SETS,
        "dropout_unet.nnunet": dropout_unet.nnunet,
        "dropout_unet.nnunet.base": dropout_unet.nnunet_base,
        "shipped.ccsd_base": shipped.ccsd_base,
        "shipped.ccsd_small": shipped.ccsd_small,
        "shipped.dropout_unet_base": shipped.dropout_unet_base,
        "six_categories": six_categories,
    }
)


def run_named(name: str) -> Run | Mapping[str, Run]:
    """Return the run of a recipe, or its runs by name if it is a set, or the default run of a method: "ccsd", "ccsd.small".

    Raises:
        UsageError: If there is neither.
    """
    return RECIPES[name]() if name in RECIPES else default(*_method_and_size(name, "base"))


def runs_named(names: Sequence[str], *, size: str) -> dict[str, Run]:
    """Return the runs of several names: recipes as they are, sets run by run, methods with one patch that fits all of these.

    Args:
        names: Of recipes and methods.
        size: Of methods whose name says none.

    Raises:
        UsageError: If there is neither a recipe nor a method of a name, two different runs have one name, or one run has two.
    """
    methods = side_by_side({name: _method_and_size(name, size) for name in names if name not in RECIPES})
    found: dict[str, Run] = {}
    for name in names:
        recipe = RECIPES[name]() if name in RECIPES else methods[name]
        for own, run in ({name: recipe} if isinstance(recipe, Run) else recipe).items():
            if found.setdefault(own, run) != run:
                raise UsageError(
                    f"'{own}' is there twice, with different settings (the second time by {name}); leave one of them out"
                )
    check_apart(found)
    return found


def check_apart(runs: Mapping[str, Run]) -> None:
    """Refuse to do one run twice.

    Raises:
        UsageError: It gives two names of the same run.
    """
    for own, run in runs.items():
        twin = next(other for other, its in runs.items() if its == run)
        if twin != own:
            raise UsageError(f"'{twin}' and '{own}' are the same run; leave one of them out, or the setting that makes them one")


def _method_and_size(name: str, usual: str) -> tuple[str, str]:
    """Return the method that a name stands for and its size, the usual one if it says none."""
    method, _, size = name.partition(".")
    sizes = next((m.config.sizes for m in METHODS if m.name == method), ())
    if sizes and (not size or size in sizes):
        return method, size or usual
    related = [n for n in RECIPES if n.startswith((f"{method}.", f"{method}_"))]
    if sizes:
        raise UsageError(
            f"'{name}' is neither a size of {method} ({', '.join(sizes)}) nor a recipe ({', '.join(related) or 'none'})"
        )
    known = ", ".join(m.name for m in METHODS)
    raise UsageError(f"'{name}' is neither a method nor a recipe; expected one of {known}, or of 'anymri list recipes'")
