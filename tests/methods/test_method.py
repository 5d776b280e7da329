"""The list of methods and what the interface itself promises."""

from __future__ import annotations

import pytest

from anymri.errors import UsageError
from anymri.methods import METHODS, method_named


def test_methods_are_found_by_name() -> None:
    assert len({entry.name for entry in METHODS}) == len(METHODS)
    for entry in METHODS:
        assert method_named(entry.name) is entry
        assert entry.category and entry.paper
    with pytest.raises(UsageError, match="'nothing' is unknown; expected one of ccsd, dropout_unet"):
        method_named("nothing")
