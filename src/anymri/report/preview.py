"""One patient → one picture: slices through the tumour in three planes, the mask as contours."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anymri.domain.task import Task
from anymri.errors import GridMismatchError, UsageError
from anymri.volumes.volume import Array, Box, Grid, Volume, bounding_box, reoriented, same_grid
from anymri.volumes.writing import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _PAPER = "#e8e8e8", "#101010"
_DOTS_PER_INCH = 110
_PANEL, _GAP, _SIDE, _FOOT = 2.6, 0.04, 0.3, 0.42  # inches
_LEGEND_ENTRY, _LINE = 2.3, 0.17  # inches
# Rings touch. Contours drawn a little inside each ring lie side by side instead of on top of each other.
_CONTOUR_LEVEL = 0.7
_WINDOW_PERCENTILES = (0.5, 99.5)
_MARGIN_VOXELS = 3
UPRIGHT = "LPS"  # What planes cut: axes that run to the patient's left, to the back and up.


@dataclass(frozen=True)
class Ring:
    """The part of a region that lies in none of the regions nested inside it.

    Attributes:
        region: Name of that region.
        classes: Class indices as they stand in a mask.
        label: For legends, such as "ED: whole tumour outside TC".
        colour: RGB hex.
    """

    region: str
    classes: tuple[int, ...]
    label: str
    colour: str


@dataclass(frozen=True)
class Plane:
    """How one anatomical plane is cut from an array whose axes run to the patient's left, to the back and up.

    Attributes:
        name: For people.
        axis: Array axis that the plane is perpendicular to.
        across: Array axis that runs from left to right of the picture.
        down: Array axis that runs from top to bottom.
        reverse_down: The head would be at the bottom otherwise.
        letters: Directions at the left, right, top and bottom edge of the picture.
    """

    name: str
    axis: int
    across: int
    down: int
    reverse_down: bool
    letters: tuple[str, str, str, str]

    def cut(self, array: Array, position: int) -> Array:
        """Return one slice as it is seen, rows from top to bottom."""
        seen = np.moveaxis(array, (self.down, self.across, self.axis), (0, 1, 2))[:, :, position]
        return seen[::-1] if self.reverse_down else seen


AXIAL = Plane("axial", 2, 0, 1, False, ("R", "L", "A", "P"))
_PLANES = (
    AXIAL,
    Plane("coronal", 1, 0, 2, True, ("R", "L", "S", "I")),
    Plane("sagittal", 0, 1, 2, True, ("A", "P", "S", "I")),
)


@dataclass(frozen=True)
class _Sheet:
    """Where things stand on the picture, in inches from its left and top."""

    width: float
    height: float
    head: float
    panel_heights: tuple[float, ...]

    def box(self, column: int, row: int) -> tuple[float, float, float, float]:
        """Return a panel's place as matplotlib wants it: fractions, from the bottom."""
        left = _SIDE + column * (_PANEL + _GAP)
        bottom = self.head + sum(self.panel_heights[: row + 1]) + row * _GAP
        return left / self.width, 1 - bottom / self.height, _PANEL / self.width, self.panel_heights[row] / self.height


def rings(task: Task) -> tuple[Ring, ...]:
    """Return what a picture outlines, outermost first: each region without those nested inside it."""
    found: list[Ring] = []
    for region, inner, colour in zip(task.regions, (*task.regions[1:], None), task.colours, strict=True):
        own = tuple(name for name in region.classes if inner is None or name not in inner.classes)
        label = f"{' and '.join(own)}: {region.description}" + (f" outside {inner.name}" if inner else "")
        found.append(Ring(region.name, tuple(task.classes.index(name) for name in own), label, colour))
    return tuple(found)


def load_plotting() -> None:
    """Import what pictures are drawn with, so that it need not be waited for later: it takes a second, and no graphics card."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401


def write_preview(
    path: Path, images: Mapping[str, Volume], mask: Volume, task: Task, *, marks: Mapping[str, str] | None = None
) -> None:
    """Write a PNG: a column per modality at hand; axial, coronal and sagittal slices as rows; the mask as contours.

    Each plane is cut where the mask is largest, or through the middle if the mask is empty. Sides are as radiologists expect
    them: the patient's right is on the left of the picture, as the affine tells it.

    Args:
        path: Where to write; replaced only when the picture is complete.
        images: Modality name → image, for those at hand.
        mask: Class indices of the task, 0 background, on the grid of the images; the order of axes may differ between them.
        task: Gives the order of the columns and the colours.
        marks: Region → what is to be read of its mask, such as "may be wrong": its contour is dashed, and the picture says why.

    Raises:
        UsageError: If there is no image, or one of a modality that the task does not have.
        GridMismatchError: If an image is on another grid than the mask.
        OutputError: If the file cannot be written.
    """
    shown = task.modalities.subset(images)
    if not shown.names:
        raise UsageError("a preview needs at least one image; none was given")
    upright = {name: reoriented(images[name], UPRIGHT) for name in shown.names}
    upright_mask = reoriented(mask, UPRIGHT)
    for name, image in upright.items():
        if not same_grid(image.grid, upright_mask.grid):
            raise GridMismatchError(f"preview: image {name} and the mask are on different grids; bring them onto one first")
    figure = _drawn(upright, upright_mask, task, {region: mark for region, mark in (marks or {}).items() if mark})
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_DOTS_PER_INCH, facecolor=_PAPER)
    write_bytes(path, png.getvalue())


def _drawn(images: Mapping[str, Volume], mask: Volume, task: Task, marks: Mapping[str, str]) -> Figure:
    """Return the whole picture; all volumes are upright by now."""
    from matplotlib.figure import Figure

    box = _box_shown(images, mask)
    labels = mask.array[box]
    cuts = [largest_cut(labels > 0, plane.axis) for plane in _PLANES]
    extents_mm = [_extent_mm(labels.shape, mask.grid.spacing_mm, plane) for plane in _PLANES]
    windows = [intensity_window(image.array[box]) for image in images.values()]
    sheet = _sheet(extents_mm, columns=len(images), entries=len(task.regions), marked=bool(marks))
    figure = Figure(figsize=(sheet.width, sheet.height), facecolor=_PAPER)
    for row, (plane, cut, extent_mm) in enumerate(zip(_PLANES, cuts, extents_mm, strict=True)):
        left, bottom, _, height = sheet.box(0, row)
        label = f"{plane.name}, {_position(mask.grid, plane, cut + int(box[plane.axis].start))}"
        figure.text(left / 2, bottom + height / 2, label, color=_INK, ha="center", va="center", rotation=90, fontsize=8)
        outlined = plane.cut(labels, cut)
        for column, image in enumerate(images.values()):
            axes = figure.add_axes(sheet.box(column, row), facecolor=_PAPER)
            show_slice(axes, plane.cut(image.array[box], cut), extent_mm, windows[column])
            _outline(axes, outlined, extent_mm, [(ring, ring.region in marks) for ring in rings(task)])
            _letter(axes, plane)
    _caption(figure, sheet, tuple(images), task, marks if labels.any() else None)
    return figure


def _box_shown(images: Mapping[str, Volume], mask: Volume) -> Box:
    """Return the box of all that is not background, with a margin."""
    something = mask.array > 0
    for image in images.values():
        something = something | (np.nan_to_num(image.array) != 0)
    return bounding_box(something, margin=_MARGIN_VOXELS)


def largest_cut(tumour: Array, axis: int) -> int:
    """Return the position along an axis where the tumour's cross-section is largest, of several the middle one."""
    areas = tumour.sum(axis=tuple(a for a in range(3) if a != axis))
    largest = np.flatnonzero(areas == areas.max())
    return int(largest[len(largest) // 2])


def _extent_mm(shape: tuple[int, ...], spacing_mm: tuple[float, ...], plane: Plane) -> tuple[float, float]:
    """Return width and height of a plane."""
    return shape[plane.across] * spacing_mm[plane.across], shape[plane.down] * spacing_mm[plane.down]


def _position(grid: Grid, plane: Plane, cut: int) -> str:
    """Return where a slice lies: "slice 23 of 72". A side of the body is not told: many files have their origin in a corner."""
    return f"slice {cut + 1} of {grid.shape[plane.axis]}"


def _sheet(extents_mm: list[tuple[float, float]], *, columns: int, entries: int, marked: bool) -> _Sheet:
    """Lay out the picture: one scale for all planes, so that a centimetre is as long in each of them."""
    scale = _PANEL / max(width for width, _ in extents_mm)
    heights = tuple(max(height * scale, 0.3) for _, height in extents_mm)
    width = _SIDE + columns * (_PANEL + _GAP)
    head = _LINE * (math.ceil(entries / _legend_columns(width)) + 2.0)
    return _Sheet(width, head + sum(heights) + _GAP * len(heights) + _FOOT + _LINE * marked, head, heights)


def _legend_columns(width: float) -> int:
    """Return how many legend entries fit side by side."""
    return max(1, int(width / _LEGEND_ENTRY))


def intensity_window(array: Array) -> tuple[float, float]:
    """Return the intensities shown as black and white: percentiles, because a few bright vessels would darken all else."""
    inside = array[np.isfinite(array) & (array != 0)]
    if inside.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(inside, _WINDOW_PERCENTILES)
    return float(low), max(float(high), float(low) + 1e-6)


def show_slice(axes: Axes, seen: Array, extent_mm: tuple[float, float], window: tuple[float, float]) -> None:
    """Draw one slice in grey at its true proportions."""
    width, height = extent_mm
    # Exactly zero is background in every stripped image; it must not turn grey where intensities are z-scores.
    background = ~np.isfinite(seen) | (seen == 0)
    axes.imshow(
        np.ma.masked_array(seen, background),
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        extent=(0, width, height, 0),
        interpolation="bilinear",
        interpolation_stage="data",
        aspect="equal",
    )
    axes.set_axis_off()


def _outline(axes: Axes, labels: Array, extent_mm: tuple[float, float], drawn: Sequence[tuple[Ring, bool]]) -> None:
    """Draw the contours of every ring that this slice meets, dashed or not."""
    rows, columns = labels.shape
    # A border of background closes the contours of what touches the edge.
    across = (np.arange(columns + 2) - 0.5) * extent_mm[0] / columns
    down = (np.arange(rows + 2) - 0.5) * extent_mm[1] / rows
    for ring, dashed in drawn:
        inside = np.pad(np.isin(labels, ring.classes), 1)
        if inside.any():
            axes.contour(
                across,
                down,
                inside.astype(np.float32),
                levels=[_CONTOUR_LEVEL],
                colors=[ring.colour],
                linewidths=1.1,
                linestyles="dashed" if dashed else "solid",
            )


def _letter(axes: Axes, plane: Plane) -> None:
    """Mark the four directions at the edges of a panel."""
    places = (
        (0.015, 0.5, "left", "center"),
        (0.985, 0.5, "right", "center"),
        (0.5, 0.985, "center", "top"),
        (0.5, 0.015, "center", "bottom"),
    )
    for letter, (x, y, horizontal, vertical) in zip(plane.letters, places, strict=True):
        axes.text(x, y, letter, transform=axes.transAxes, color=_INK, fontsize=7, ha=horizontal, va=vertical)


def _caption(figure: Figure, sheet: _Sheet, shown: tuple[str, ...], task: Task, marks: Mapping[str, str] | None) -> None:
    """Write the legend and the modalities above, and below what must be known of it; ``marks`` is None if nothing was found."""
    from matplotlib.lines import Line2D

    if marks is None:
        figure.text(
            0.5, 1 - _LINE / sheet.height, "No tumour found. Middle slices.", color=_INK, ha="center", va="center", fontsize=11
        )
    else:
        figure.legend(
            handles=[
                Line2D(
                    [],
                    [],
                    color=ring.colour,
                    linewidth=2.5,
                    label=ring.label,
                    linestyle="dashed" if ring.region in marks else "solid",
                )
                for ring in rings(task)
            ],
            loc="upper center",
            bbox_to_anchor=(0.5, 1 - 0.4 * _LINE / sheet.height),
            ncols=_legend_columns(sheet.width),
            frameon=False,
            fontsize=8,
            labelcolor=_INK,
            borderaxespad=0,
            borderpad=0,
            handlelength=1.4,
        )
    for column, name in enumerate(shown):
        left, bottom, width, height = sheet.box(column, 0)
        figure.text(left + width / 2, bottom + height + 0.3 * _LINE / sheet.height, name, color=_INK, ha="center", fontsize=11)
    missing = task.modalities.subset(shown).missing
    lines = (
        *_marked(marks or {}),
        (f"Missing: {', '.join(missing)}. " if missing else "") + "R is the patient's right.",
        "Research use only. Not a medical device.",
    )
    for line, text in enumerate(reversed(lines)):
        figure.text(_SIDE / 3 / sheet.width, (0.6 + line) * _LINE / sheet.height, text, color=_INK, fontsize=8)


def _marked(marks: Mapping[str, str]) -> list[str]:
    """Return a line on the regions that have a mark, those with the same together; none if there are none."""
    words = [f"{', '.join(r for r, m in marks.items() if m == mark)} ({mark})" for mark in dict.fromkeys(marks.values())]
    return [f"Dashed: {'; '.join(words)}."] if words else []
