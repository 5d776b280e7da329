"""A loss that runs away is told from one that is merely noisy."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from anymri.domain.task import GLIOMA
from anymri.engine.divergence import PATIENCE, WINDOW, Course, followed, runs_away
from anymri.engine.run import RunFolder
from anymri.engine.training import fit
from anymri.errors import TrainingError

from ..material import made_patient, short_run

CPU = torch.device("cpu")
FACTOR = 2.5


def course_of(losses: list[float], factor: float = FACTOR) -> tuple[Course, int | None, int | None]:
    """Return the last course, the first step of doubt and the step at which the loss has run away."""
    course, doubt = Course(), None
    for step, loss in enumerate(losses, 1):
        course = followed(course, loss, factor)
        doubt = step if doubt is None and course.doubtful else doubt
        if runs_away(course, factor):
            return course, doubt, step
    return course, doubt, None


def usual(steps: int, *, seed: int, spread: float = 0.45) -> list[float]:
    """Return losses as those of a training with a batch of one: 6.4 falls to 0.8 within some hundred steps; logarithmic noise."""
    rng = np.random.default_rng(seed)
    return [float((0.8 + 5.6 * math.exp(-n / 60)) * rng.lognormal(0, spread)) for n in range(steps)]


@pytest.mark.parametrize("seed", range(20))
def test_a_usual_training_does_not_run_away(seed: int) -> None:
    assert course_of(usual(3000, seed=seed))[2] is None


def test_small_losses_may_vary() -> None:
    rng = np.random.default_rng(0)
    losses = usual(400, seed=0) + [float(x) for x in rng.uniform(0.01, 0.02, 50)] + [float(x) for x in rng.uniform(0.1, 0.5, 200)]
    assert course_of(losses)[2] is None


def test_what_loses_less_than_half_of_what_it_has_learned_may_come_back() -> None:
    """As ShaSpec did at a high rate: from 3 to 0.28, up to 0.75 for two hundred steps, and down again."""
    learned = [0.28 + 2.8 * math.exp(-n / 80) for n in range(450)]
    assert course_of([*learned, *([0.75] * 200), *([0.3] * 100)])[2] is None
    assert course_of([*learned, *([1.8] * 200)])[2] is not None


def test_losses_around_zero_may_vary() -> None:
    rng = np.random.default_rng(1)
    assert course_of([float(x) for x in rng.normal(0, 1, 3000)])[2] is None


@pytest.mark.parametrize("after", [60, 300, 1000])
@pytest.mark.parametrize("to", [3.0, 100.0])
def test_what_has_learned_and_loses_it_is_stopped(after: int, to: float) -> None:
    level = usual(after, seed=3)[-1] if after < 300 else 0.8
    losses = usual(after, seed=3) + [float(x) for x in np.linspace(level, to * max(level, 1), 20)] + [to * max(level, 1)] * 60
    _, doubt, step = course_of(losses)
    assert step is not None and after < step <= after + 60
    assert doubt is not None and doubt < step - 5  # Checkpoints stop before.


def test_what_explodes_from_the_start_is_stopped() -> None:
    assert course_of([4.4 * 1.05**n for n in range(100)])[2] is not None


@pytest.mark.parametrize(
    "losses",
    [[5.0] + [500.0] * 50, [5.0] * 10 + [1e6] * 50, [5.0] * 24 + [1e6] * 50, [5.0, 1e3] + [9e16 * 0.9**n for n in range(80)]],
)
def test_what_blows_up_within_the_first_steps_is_stopped(losses: list[float]) -> None:
    step = course_of(losses)[2]
    assert step is not None and step <= 40


@pytest.mark.parametrize("first", [1.7, 20.0, 1e4])
def test_a_first_loss_that_is_far_from_the_usual_stops_nothing(first: float) -> None:
    assert course_of([first, *usual(500, seed=5)[1:]])[2] is None


def test_spikes_do_not_stop_it_nor_does_factor_zero() -> None:
    losses = usual(500, seed=4)
    for n in range(100, 500, 7):
        losses[n] = 1e6
    assert course_of(losses)[2] is None
    assert course_of([1.0] * 50 + [1e9] * 100, 0.0)[1:] == (None, None)


def test_a_doubt_that_is_not_confirmed_is_dropped() -> None:
    course, doubt, step = course_of([1.0] * 60 + [2.0] * (PATIENCE + 20))
    assert doubt is not None and step is None and not course.doubtful


def test_a_course_is_short(tmp_path: Path) -> None:
    course, _, _ = course_of(usual(100, seed=0))
    assert len(course.recent) == WINDOW
    fit(short_run("dropout_unet", steps=3), [made_patient(GLIOMA, 0)], RunFolder(tmp_path), resume=False, device=CPU)
    facts = json.loads((tmp_path / "checkpoints" / "step_00000003" / "facts.json").read_text())
    assert set(facts["course"]) == {"recent", "first", "start", "lowest", "spread", "doubt"} and len(facts["course"]["recent"]) == 3


def test_a_training_that_goes_wrong_is_stopped_and_its_last_checkpoint_is_from_before(tmp_path: Path) -> None:
    settings = {"optimiser": "adam", "learning_rate": 10.0, "warm_up": 0.3, "clip": 1e9, "checkpoint_minutes": 0.0}
    run = short_run("dropout_unet", steps=300, batch=2, **settings)
    with pytest.raises(TrainingError) as caught:
        fit(run, [made_patient(GLIOMA, seed) for seed in range(3)], RunFolder(tmp_path), resume=False, device=CPU)
    message = str(caught.value)
    assert re.match(
        r"loss runs away: .* at step \d+; cases of the batch: case_\d.* --set learning_rate=3 .*--set runaway=0 ", message
    )
    assert "\n" not in message
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    facts = json.loads((newest / "facts.json").read_text())
    step = int(message.split("at step ")[1].split(";")[0])
    assert facts["step"] <= step - 5 and facts["course"]["doubt"] == 0
