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
