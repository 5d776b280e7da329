"""The exponents of growth are those of what was measured, sizes take turns, and a plot says what it shows."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import pytest

from ..material import benchmark


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return benchmark("growth")


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5])
def test_an_exponent_is_that_of_a_power(script: ModuleType, exponent: float) -> None:
    points = [{"x": x, "cpu": 3 * x**exponent} for x in (2.0, 5.0, 11.0)]
    assert script.Growth("cases", "made up", points).exponent("cpu") == pytest.approx(exponent, abs=1e-12)


def test_what_has_no_logarithm_has_no_exponent(script: ModuleType) -> None:
    assert math.isnan(script.Growth("cases", "made up", [{"x": 1.0, "MiB": 0.0}, {"x": 2.0, "MiB": 1.0}]).exponent("MiB"))
    assert math.isnan(script.Growth("cases", "made up", [{"x": 1.0, "MiB": 1.0}]).exponent("MiB"))


@pytest.mark.parametrize("exponent", [1.0, 1.5])
def test_start_up_hides_no_growth(script: ModuleType, exponent: float) -> None:
    points = [{"x": x, "cpu": 2 + 1.7 * x**exponent, "wall": 3.0, "MiB": 500 + 30.0 * x} for x in (1.0, 2.0, 4.0, 8.0)]
    raw = script.Growth("cases", "made up", points)
    assert raw.exponent("cpu") < exponent - 0.1
    found = script.less(raw, [{"cpu": 2.0, "wall": 1.0, "MiB": 500.0}] * 3)
    assert found.exponent("cpu") == pytest.approx(exponent)
    assert found.exponent("MiB") == pytest.approx(1)
    assert found.verdict("cpu") == ("more than linear" if exponent > 1 else "")
    assert found.start == {"cpu": 2.0, "wall": 1.0, "MiB": 500.0}


def test_start_up_is_what_no_case_adds_to(script: ModuleType) -> None:
    def measure(count: int) -> dict[str, float]:
        return {"cpu": 3.0 + 0.2 * count, "wall": 5.0 + count, "MiB": 300.0 + count}

    (found,) = script.started(measure, 1)
    assert found == pytest.approx({"cpu": 3.0, "wall": 5.0, "MiB": 301.0})


def test_what_is_within_the_noise_is_too_small_to_tell(script: ModuleType) -> None:
    near_zero = script.Growth("voxels", "made up", [{"x": 1.0, "MiB": 0.28}, {"x": 8.0, "MiB": 9.8}])
    assert near_zero.verdict("MiB") == "too small to tell"
    assert script.as_row(near_zero)["exponents"] == {"MiB": None}
    # One point of three is left out: 40 → 320 is linear, and what is below says nothing.
    some = script.Growth("voxels", "made up", [{"x": x, "MiB": y} for x, y in ((1.0, 0.3), (8.0, 40.0), (64.0, 320.0))])
    assert some.exponent("MiB") == pytest.approx(1)
    # Start-up that varies by 2 s leaves 1 s of work within the noise.
    points = [{"x": x, "cpu": 3.0 + x / 2, "MiB": 100.0} for x in (1.0, 2.0)]
    before = [{"cpu": cpu, "MiB": 100.0} for cpu in (2.0, 3.0, 4.0)]
    assert script.less(script.Growth("cases", "made up", points), before).verdict("cpu") == "too small to tell"


def test_each_further_case_needs_no_start_up(script: ModuleType) -> None:
    points = [{"x": x, "cpu": 100 + x**2} for x in (1.0, 2.0, 4.0)]
    assert script.Growth("cases", "made up", points).further("cpu") == [(2.0, 3.0), (4.0, 6.0)]


def test_sizes_take_turns_and_medians_count(script: ModuleType) -> None:
    asked: list[int] = []
    seconds = iter([1.0, 2.0, 20.0, 10.0, 3.0, 2.5])

    def measure(size: int) -> dict[str, float]:
        asked.append(size)
        return {"x": float(size), "cpu": next(seconds)}

    found = script.grown("cases", "made up", [1, 2], 3, measure)
    assert asked == [1, 2, 2, 1, 1, 2]
    assert found.points == [{"x": 1.0, "cpu": 3.0}, {"x": 2.0, "cpu": 2.5}]


def test_a_plot_names_its_axes_and_exponents(script: ModuleType, tmp_path: Path) -> None:
    points = [{"x": 8.0**k, "cpu": 8.0 ** (2 * k), "MiB": 8.0**k} for k in range(4, 7)]
    file = tmp_path / "figures" / "growth.svg"
    found = [script.Growth("voxels", "made up", points)]
    script.drawn("voxels", found, file)
    text = file.read_text()
    script.drawn("voxels", found, file)
    assert file.read_text() == text
    said = ("voxels of the window", "CPU seconds", "peak memory (MiB)", "exponent 2.00", "exponent 1.00", "linear", "16³", "64³")
    for words in said:
        assert words in text
    assert len(text) < 40_000


def test_a_plot_of_cases_shows_what_each_adds_and_says_what_is_too_small(script: ModuleType, tmp_path: Path) -> None:
    points = [{"x": x, "cpu": 1.7 * x, "MiB": 0.5 * x} for x in (1.0, 2.0, 4.0)]
    script.drawn("cases", [script.Growth("cases", "made up", points)], tmp_path / "growth.svg")
    text = (tmp_path / "growth.svg").read_text()
    for words in ("CPU seconds per further case", "above start-up", "exponent 1.00", "too small to tell"):
        assert words in text
