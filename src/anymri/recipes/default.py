"""What a method is trained with if nothing is said: the same for all, so that a comparison compares methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

from anymri.engine.run import Run, Window, checked_run
from anymri.errors import UsageError
from anymri.methods import method_named
from anymri.methods.method import MethodConfig, Size

# What small comparisons and ablations share: as many steps of one patch as a processor makes in minutes, fold 0 left out.
BRIEF: Mapping[str, Any] = {"steps": 1000, "batch": 1, "learning_rate": 3e-3, "validation": 0, "candidates": [1.0], "fold": 0}


def default(method: str, size: str = "base") -> Run:
    """Return a method's run at one of its sizes: patches of 128 mm at 2 mm, 20 000 steps of AdamW, two patches each.

    Patch and window grow to what a deeper network needs.

    Raises:
        UsageError: If there is no such method, or it has no such size.
    """
    return side_by_side({method: (method, size)})[method]


def side_by_side(methods: Mapping[str, tuple[str, str]]) -> dict[str, Run]:
    """Return the default runs of several methods, with one patch and one window that fit all of them.

    Args:
        methods: What a run is called → the name of its method, and a size.

    Raises:
        UsageError: If there is no such method, or it has no such size.
    """
    configs = {name: _config(*which) for name, which in methods.items()}
    multiple = math.lcm(*(config.multiple for config in configs.values()))

    def filled(edge: int) -> int:
        return -(-edge // multiple) * multiple

    usual = Window()
    window = usual.model_copy(update={"size": tuple(map(filled, usual.size))})
    settings = {"steps": 20_000, "batch": 2, "patch": (max(filled(64), 4 * multiple),) * 3, "window": window.model_dump()}
    return {name: Run.of(method, cast(Size, size), settings) for name, (method, size) in methods.items()}


def varied(base: Callable[[], Run], rows: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Run]:
    """Return one run for each row, which differs from the base in the method's settings alone."""
    content = base().model_dump(mode="json")
    return {name: checked_run({**content, "config": {**content["config"], **change}}) for name, change in rows.items()}


def _config(method: str, size: str) -> MethodConfig:
    config = method_named(method).config
    if size not in config.sizes:
        raise UsageError(f"method {method} has no size '{size}'; expected one of {', '.join(config.sizes)}")
    return config.sized(cast(Size, size))
