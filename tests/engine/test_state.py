"""How much of a budget is spent."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anymri.engine.run import Run
from anymri.engine.state import COARSE_WORK, Place, share_of, work_of


def run_of(**settings: object) -> Run:
    config = {"widths": (4, 8), "depths": (1, 1)}
    return Run.model_validate({"method": "ccsd", "config": config, "patch": (32, 32, 32), **settings})


@given(steps=st.integers(1, 300), coarse=st.floats(0, 0.95))
def test_a_budget_in_steps_has_as_many_and_the_share_of_their_work_that_is_asked_for(steps: int, coarse: float) -> None:
    run, place, shares, works = run_of(steps=steps, coarse=coarse), Place(), [], []
    while (share := share_of(run, place)) < 1:
        shares.append(share)
        works.append(work_of(run, share))
        place = replace(place, step=place.step + 1, work=place.work + works[-1])
    assert len(works) == place.step == steps
    assert shares[0] == 0 and shares == sorted(shares)
    assert works == sorted(works)  # coarse ones first
    spent = sum(w for w in works if w < 1)
    assert spent == pytest.approx(coarse * steps / (1 - coarse + coarse / COARSE_WORK), abs=COARSE_WORK)


def test_without_a_coarse_start_every_step_counts_alike() -> None:
    run = run_of(steps=7)
    assert [share_of(run, Place(step=n, work=float(n))) for n in range(8)] == [n / 7 for n in range(8)]


def test_minutes_are_counted_by_the_clock() -> None:
    run = run_of(minutes=2.0, coarse=0.5)
    assert share_of(run, Place(step=50, work=50.0, seconds=30.0)) == 0.25
    assert share_of(run, Place(seconds=120.0)) == 1
