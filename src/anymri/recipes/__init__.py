"""Named runs: functions that return a Run. To add one: write the function and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from anymri.engine.run import Run
from anymri.errors import UsageError
from anymri.methods import METHODS
from anymri.recipes import shipped
from anymri.recipes.default import default

RECIPES: Mapping[str, Callable[[], Run]] = MappingProxyType(
    {
        "shipped.ccsd_small": shipped.ccsd_small,
        "shipped.dropout_unet_small": shipped.dropout_unet_small,
    }
)


def run_named(name: str) -> Run:
    """Return the run of a recipe, or the default one of a method: "ccsd", or at another size "ccsd.small".

    Raises:
        UsageError: If there is neither.
    """
    if name in RECIPES:
        return RECIPES[name]()
    method, _, size = name.partition(".")
    if method in (m.name for m in METHODS):
        return default(method, size) if size else default(method)
    known = ", ".join([*(m.name for m in METHODS), *RECIPES])
    raise UsageError(f"'{name}' is neither a method nor a recipe; expected one of {known}")
