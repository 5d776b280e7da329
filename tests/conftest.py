"""Type hints of the whole package are checked while tests run; outside of tests they cost nothing."""

from __future__ import annotations

from beartype import BeartypeConf
from beartype.claw import beartype_package

# These import types for the static checker alone, so that they start at once.
# Parameters and results alone: what a function does with its own variables is for the static checker.
_UNTYPED = ("anymri.cli", "anymri.report.preview", "anymri.report.figures", "anymri.report.case_figure")
_UNWRAPPABLE = ("anymri.segment.actors",)  # Ray cannot wrap a class that beartype has marked.
beartype_package("anymri", conf=BeartypeConf(claw_is_pep526=False, claw_skip_package_names=_UNTYPED + _UNWRAPPABLE))
