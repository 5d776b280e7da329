from __future__ import annotations

import time
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from anymri.domain.task import GLIOMA, PROSTATE, Task
from anymri.errors import GridMismatchError, OutputError, UsageError
from anymri.report.preview import rings, write_preview
from anymri.volumes.volume import Grid, Volume, reoriented

SHAPE = (40, 48, 20)
GRID = Grid(SHAPE, np.diag([-1.0, -1.0, 3.0, 1.0]))


def _head(seed: int, grid: Grid = GRID) -> Volume:
    """An ellipsoid of noise, zero outside."""
    index = np.indices(grid.shape) - (np.array(grid.shape).reshape(3, 1, 1, 1) - 1) / 2
    inside = ((index / (np.array(grid.shape).reshape(3, 1, 1, 1) / 2)) ** 2).sum(0) < 0.8
    noise = np.random.default_rng(seed).uniform(50, 200, grid.shape)
    return Volume(np.where(inside, noise, 0).astype(np.float32), grid)


def _mask(grid: Grid = GRID) -> Volume:
    """Three nested blocks on the patient's left, classes 2, 3 and 1 from the outside in."""
    labels = np.zeros(grid.shape, np.uint8)
    labels[24:36, 10:24, 5:15] = 2
    labels[26:34, 12:22, 6:14] = 3
    labels[28:32, 14:20, 8:12] = 1
    return Volume(labels, grid)


def _rgb(path: Path) -> np.ndarray:
    return np.rint(matplotlib.image.imread(path)[..., :3] * 255).astype(int)


def _where(picture: np.ndarray, colour: str) -> np.ndarray:
    """Return rows and columns of the pixels that are nearly of a colour, below the legend."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    near = np.abs(picture - wanted).max(-1) < 40
    near[:90] = False
    return np.argwhere(near)


def test_rings_carry_the_colours_of_the_field() -> None:
    names = {tuple(GLIOMA.classes[c] for c in ring.classes): ring.colour for ring in rings(GLIOMA)}
    assert names == {("ED",): "#2ca02c", ("NCR",): "#d62728", ("ET",): "#ffd92f"}
    assert [ring.label for ring in rings(GLIOMA)][0] == "ED: whole tumour outside TC"
    assert [ring.classes for ring in rings(PROSTATE)] == [(1,), (2,)]


@pytest.mark.parametrize("task", [GLIOMA, PROSTATE], ids=lambda t: t.name)
def test_every_modality_gets_a_column(tmp_path: Path, task: Task) -> None:
    mask = Volume(np.minimum(_mask().array, len(task.classes) - 1), GRID)
    widths = []
    for count in (1, len(task.modalities)):
        images = {name: _head(i) for i, name in enumerate(task.modalities.names[:count])}
        write_preview(tmp_path / "p.png", images, mask, task)
        widths.append(_rgb(tmp_path / "p.png").shape[1])
    assert widths[1] > 0.9 * len(task.modalities) * widths[0]
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


def test_contours_of_all_rings_are_drawn_on_the_right_side(tmp_path: Path) -> None:
    write_preview(tmp_path / "p.png", {"T1c": _head(0)}, _mask(), GLIOMA)
    picture = _rgb(tmp_path / "p.png")
    for ring in rings(GLIOMA):
        found = _where(picture[: picture.shape[0] // 2], ring.colour)
        assert len(found) > 20
        # The tumour lies on the patient's left, thus on the right of the picture.
        assert found[:, 1].mean() > 0.55 * picture.shape[1]


def test_a_region_not_to_be_relied_on_is_dashed(tmp_path: Path) -> None:
    write_preview(tmp_path / "plain.png", {"T1c": _head(0)}, _mask(), GLIOMA, marks={"WT": "", "ET": ""})
    write_preview(tmp_path / "marked.png", {"T1c": _head(0)}, _mask(), GLIOMA, marks={"WT": "", "ET": "do not rely on it"})
    plain, marked = (_rgb(tmp_path / f"{name}.png") for name in ("plain", "marked"))
    assert marked.shape[0] > plain.shape[0] and marked.shape[1] == plain.shape[1]  # A line says why.
    counts = {ring.region: [len(_where(picture, ring.colour)) for picture in (plain, marked)] for ring in rings(GLIOMA)}
    kept = {region: after / before for region, (before, after) in counts.items()}
    assert 0.4 < kept["ET"] < 0.8 < 0.85 < min(kept["WT"], kept["TC"])  # Of what is not marked only the edges of pixels move.


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL"])
def test_the_picture_does_not_depend_on_how_the_file_is_laid_out(tmp_path: Path, codes: str) -> None:
    write_preview(tmp_path / "a.png", {"T2": _head(3)}, _mask(), GLIOMA)
    write_preview(tmp_path / "b.png", {"T2": reoriented(_head(3), codes)}, reoriented(_mask(), codes), GLIOMA)
    write_preview(tmp_path / "c.png", {"T2": _head(3)}, reoriented(_mask(), codes), GLIOMA)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()


def test_an_oblique_grid_and_thick_slices_are_shown_at_their_proportions(tmp_path: Path) -> None:
    turn = np.eye(4)
    angle = np.deg2rad(12)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    heights = []
    for thickness in (1.0, 3.0):
        grid = Grid(SHAPE, turn @ np.diag([-1.0, -1.0, thickness, 1.0]))
        write_preview(tmp_path / "p.png", {"T1": _head(1, grid)}, _mask(grid), GLIOMA)
        heights.append(_rgb(tmp_path / "p.png").shape[0])
    assert heights[1] > heights[0] + 50


@pytest.mark.parametrize("content", ["zero", "nan", "constant"])
def test_without_a_tumour_there_is_a_picture_and_no_contour(tmp_path: Path, content: str) -> None:
    array = {"zero": np.zeros(SHAPE), "nan": np.full(SHAPE, np.nan), "constant": np.ones(SHAPE)}[content]
    empty = Volume(np.zeros(SHAPE, np.uint8), GRID)
    write_preview(tmp_path / "p.png", {"T1c": _head(0), "T2": Volume(array.astype(np.float32), GRID)}, empty, GLIOMA)
    assert not len(_where(_rgb(tmp_path / "p.png"), GLIOMA.colours[0]))


def test_a_mask_that_fills_everything_is_drawn(tmp_path: Path) -> None:
    full = Volume(np.full(SHAPE, 2, np.uint8), GRID)
    write_preview(tmp_path / "p.png", {"T1c": _head(0)}, full, GLIOMA)
    assert len(_where(_rgb(tmp_path / "p.png"), GLIOMA.colours[0]))


def test_misuse_is_one_clear_line_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "p.png"
    with pytest.raises(UsageError, match="at least one image"):
        write_preview(target, {}, _mask(), GLIOMA)
    with pytest.raises(UsageError, match="'CT' is unknown"):
        write_preview(target, {"CT": _head(0)}, _mask(), GLIOMA)
    elsewhere = Grid(SHAPE, np.diag([1.0, 1.0, 1.0, 1.0]))
    with pytest.raises(GridMismatchError, match="T2"):
        write_preview(target, {"T1": _head(0), "T2": _head(0, elsewhere)}, _mask(), GLIOMA)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write_preview(tmp_path / "file" / "p.png", {"T1": _head(0)}, _mask(), GLIOMA)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_picture_of_a_full_study_is_quick(tmp_path: Path) -> None:
    grid = Grid((240, 240, 155), np.diag([-1.0, -1.0, 1.0, 1.0]))
    image = _head(0, grid)
    mask = Volume(np.zeros(grid.shape, np.uint8), grid)
    mask.array[140:180, 80:120, 60:90] = 2
    began = time.process_time()
    write_preview(tmp_path / "p.png", dict.fromkeys(GLIOMA.modalities.names, image), mask, GLIOMA)
    assert time.process_time() - began < 6  # about one second; the bound leaves room for a busy machine
