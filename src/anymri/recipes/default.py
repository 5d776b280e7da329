"""What a method is trained with if nothing is said: the same for all, so that a comparison compares methods."""

from __future__ import annotations

from typing import cast

from anymri.engine.run import Run, Window
from anymri.errors import UsageError
from anymri.methods import method_named
from anymri.methods.method import Size


def default(method: str, size: str = "base") -> Run:
    """Return a method's run at one of its sizes: patches of 128 mm at 2 mm, 20 000 steps of AdamW, two patches each.

    Patch and window grow to what a deeper network needs.

    Raises:
        UsageError: If there is no such method, or it has no such size.
    """
    config = method_named(method).config
    if size not in config.sizes:
        raise UsageError(f"method {method} has no size '{size}'; expected one of {', '.join(config.sizes)}")
    multiple = config.sized(cast(Size, size)).multiple
    usual = Window()
    window = usual.model_copy(update={"size": tuple(-(-edge // multiple) * multiple for edge in usual.size)})
    patch = (max(64, 4 * multiple),) * 3
    return Run.of(method, cast(Size, size), {"steps": 20_000, "batch": 2, "patch": patch, "window": window.model_dump()})
