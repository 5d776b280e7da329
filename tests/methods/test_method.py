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
    names = ", ".join(entry.name for entry in METHODS)
    with pytest.raises(UsageError, match=f"'nothing' is unknown; expected one of {names}"):
        method_named("nothing")
