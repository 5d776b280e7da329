"""Named runs: functions that return a Run, or several by name that belong together. A new one is a function and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from anymri.engine.run import Run
from anymri.errors import UsageError
from anymri.methods import METHODS
from anymri.recipes import ccsd, shipped
from anymri.recipes.default import default

Recipe = Callable[[], Run] | Callable[[], Mapping[str, Run]]

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "ccsd.brats2018": ccsd.brats2018,
        "ccsd.brats2020": ccsd.brats2020,
        "ccsd.table1": ccsd.table1,
        "ccsd.table1.small": ccsd.table1_small,
        "ccsd.table2": ccsd.table2,
        **ccsd.TABLE_SETS,
        "shipped.ccsd_small": shipped.ccsd_small,
        "shipped.dropout_unet_small": shipped.dropout_unet_small,
    }
)


def run_named(name: str) -> Run | Mapping[str, Run]:
    """Return the run of a recipe, or its runs by name if it is a set, or the default run of a method: "ccsd", "ccsd.small".

    Raises:
        UsageError: If there is neither.
    """
    if name in RECIPES:
        return RECIPES[name]()
    method, _, size = name.partition(".")
    sizes = next((m.config.sizes for m in METHODS if m.name == method), ())
    if sizes and not size:
        return default(method)
    if size in sizes:
        return default(method, size)
    related = [n for n in RECIPES if n.startswith(f"{method}.")]
    if sizes:
        raise UsageError(
            f"'{name}' is neither a size of {method} ({', '.join(sizes)}) nor a recipe ({', '.join(related) or 'none'})"
        )
    known = ", ".join([*(m.name for m in METHODS), *RECIPES])
    raise UsageError(f"'{name}' is neither a method nor a recipe; expected one of {known}")
