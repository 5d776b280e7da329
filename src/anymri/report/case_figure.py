"""One case as the papers of the field show it: the images, the reference, and what trained methods make of chosen subsets."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anymri.data.patients import full_image
from anymri.domain.modality import Subset
from anymri.domain.task import Task, task_named
from anymri.engine.inference import device_named, nested, region_logits_of
from anymri.engine.model import Model
from anymri.errors import CaseError, UsageError
from anymri.metrics.protocol import ANYMRI, DICE, score_masks
from anymri.report.figures import Picture
from anymri.report.preview import AXIAL, UPRIGHT, intensity_window, largest_cut, rings, show_slice
from anymri.report.trainings import Training
from anymri.volumes.store import case_folder, has_labels, read_case, read_labels
from anymri.volumes.volume import Array, Box, Grid, Volume, bounding_box, reoriented
from anymri.weights import load_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL, _TITLE, _SIDE, _FOOT = 1.9, 0.42, 0.3, 0.3  # inches
_DOTS_PER_INCH = 130
_OPACITY = 0.6
_MARGIN_VOXELS = 3


@dataclass(frozen=True)
class CaseRequest:
    """A case to be drawn.

    Attributes:
        name: Of the case.
        data: Prepared cohort that it is in.
        subsets: As they print, such as "FLAIR+T1c"; if none are given, the modalities are added one by one in the task's order.
        device: Where to compute.
    """

    name: str
    data: Path
    subsets: tuple[str, ...] = ()
    device: str = "auto"


@dataclass(frozen=True, eq=False)
class _Shown:
    """A prepared case, upright and cut to what is shown.

    Attributes:
        task: Names and colours.
        images: Modality → its axial slice.
        windows: Modality → intensities shown as black and white.
        background: The modality that colours are laid over: the one that covers most, as a field of view may be cut.
        truth: Slice of class numbers; see ``_classes``.
        extent_mm: Width and height of the slice.
        box: The part of the upright volume that is shown.
        cut: Where the slice lies in the box.
    """

    task: Task
    images: Mapping[str, Array]
    windows: Mapping[str, tuple[float, float]]
    background: str
    truth: Array
    extent_mm: tuple[float, float]
    box: Box
    cut: int


def case_figure(request: CaseRequest, trainings: Sequence[tuple[str, Training]]) -> Picture:
    """Return one axial slice through the largest area of tumour: images and reference above, a row per method below.

    Args:
        request: Which case and which subsets.
        trainings: Label and run folder of every method to be shown; folders without weights are left out.

    Raises:
        UsageError: If no run has weights, the case or a subset does not exist, or a method does not fit the case.
        CaseError: If the case is damaged or has no reference.
    """
    trained = [(label, t) for label, t in trainings if t.weights]
    if not trained:
        raise UsageError(f"--case {request.name}: no run folder with weights was given; give at least one to show what it predicts")
    folder = case_folder(request.data, request.name)
    if not folder.is_dir():
        raise UsageError(f"--case {request.name}: there is no such case in {request.data}; expected the name of a prepared case")
    if not has_labels(folder):
        raise CaseError(f"{folder}: has no reference segmentation; choose a case that has one")
    case = read_case(folder)
    task = task_named(case.task)
    at_hand = task.modalities.subset(case.modalities)
    subsets = _chosen(request, at_hand)
    image, bits, grid = full_image(folder, task), read_labels(folder), Grid.from_lattice(case.grid)
    truth = {r: (bits >> i & 1).astype(bool) for i, r in enumerate(task.region_names) if r in case.known_regions}
    shown = _shown(task, at_hand, image, truth, grid)
    rows: list[tuple[str, list[tuple[str, Array]]]] = []
    notes: list[str] = []
    for label, training in trained:
        model = load_model(training.folder)
        if model.method.task.name != task.name:
            raise UsageError(
                f"{training.folder}: made for task {model.method.task.name}, the case for {task.name}; give another run"
            )
        if case.name in model.header.training.cases:
            notes.append(f"{label} was trained on this case, or chosen by it.")
        rows.append((label, _predicted(model, image, (at_hand, subsets), (shown, truth, grid), request.device)))
    title = f"Case {case.name}"
    legend = "; ".join(f"{_colour_name(ring.colour)} {ring.label}" for ring in rings(task))
    told = ". ".join(f"{label}: " + "; ".join(t.replace("\n", " ") for t, _ in panels) for label, panels in rows)
    notes.insert(0, f"{legend}. Axial slice through the largest area of tumour; R of the patient is on the left.")
    notes.append("Dice of the whole case on the prepared grid, in percent, regions from the outermost.")
    picture = _drawn(shown, rows)
    alternative = f"Images {', '.join(shown.images)} and the reference; predictions below. {told}."
    return Picture(f"figure_case_{case.name}.png", title, alternative, picture, tuple(notes))


def _chosen(request: CaseRequest, at_hand: Subset) -> list[Subset]:
    """Return the subsets to show."""
    modalities = at_hand.of
    if not request.subsets:
        return [modalities.subset(at_hand.names[: k + 1]) for k in range(len(at_hand))]
    chosen = [modalities.subset(text.split("+")) for text in request.subsets]
    for subset in chosen:
        if not subset <= at_hand:
            raise UsageError(f"--subset {subset}: case {request.name} has {at_hand} alone; choose a subset of these")
    return chosen


def _shown(task: Task, at_hand: Subset, image: Array, truth: Mapping[str, Array], grid: Grid) -> _Shown:
    upright = {n: reoriented(Volume(image[task.modalities.index(n)], grid), UPRIGHT) for n in at_hand.names}
    something = np.logical_or.reduce([v.array != 0 for v in upright.values()])
    box = bounding_box(something, margin=_MARGIN_VOXELS)
    classes = _upright(_classes(task, truth, grid.shape), grid)[box]
    cut = largest_cut(classes > 0, AXIAL.axis)
    spacing_mm = next(iter(upright.values())).grid.spacing_mm
    return _Shown(
        task=task,
        images={n: AXIAL.cut(v.array[box], cut) for n, v in upright.items()},
        windows={n: intensity_window(v.array[box]) for n, v in upright.items()},
        background=max(upright, key=lambda n: np.count_nonzero(upright[n].array)),
        truth=AXIAL.cut(classes, cut),
        extent_mm=(classes.shape[AXIAL.across] * spacing_mm[AXIAL.across], classes.shape[AXIAL.down] * spacing_mm[AXIAL.down]),
        box=box,
        cut=cut,
    )


def _predicted(
    model: Model, image: Array, subsets: tuple[Subset, list[Subset]], on: tuple[_Shown, Mapping[str, Array], Grid], device: str
) -> list[tuple[str, Array]]:
    """Return for every subset a title and the slice of class numbers; subsets that the method does not support are empty."""
    (at_hand, chosen), (shown, truth, grid) = subsets, on
    supported = [s for s in chosen if s in model.method.supports()]
    logits = region_logits_of(model, image, at_hand.mask, [s.mask for s in supported], device=device_named(device))
    found: dict[str, tuple[str, Array]] = {}
    for subset, of in zip(supported, logits, strict=True):
        masks = dict(zip(shown.task.region_names, nested(of), strict=True))
        dice = (100 * score_masks(masks[r], t, grid.spacing_mm, ANYMRI)[DICE] for r, t in truth.items())
        classes = AXIAL.cut(_upright(_classes(shown.task, masks, grid.shape), grid)[shown.box], shown.cut)
        found[str(subset)] = f"{subset}\n{' / '.join(f'{d:.0f}' for d in dice)}", classes
    nothing = np.zeros_like(shown.truth)
    return [found.get(str(s), (f"{s}\nnot supported", nothing)) for s in chosen]


def _classes(task: Task, masks: Mapping[str, Array], shape: tuple[int, ...]) -> Array:
    """Return which ring each voxel is in: 0 outside, 1 in the outermost region alone, and so on."""
    found = np.zeros(shape, np.uint8)
    for place, region in enumerate(task.region_names, start=1):
        if region in masks:
            found[masks[region]] = place
    return found


def _upright(classes: Array, grid: Grid) -> Array:
    return reoriented(Volume(classes, grid), UPRIGHT).array


def _drawn(shown: _Shown, rows: Sequence[tuple[str, list[tuple[str, Array]]]]) -> bytes:
    from matplotlib.figure import Figure

    columns = max(len(shown.images) + 1, *(len(panels) for _, panels in rows))
    tall = _PANEL * shown.extent_mm[1] / shown.extent_mm[0]
    width, height = _SIDE + columns * _PANEL, (len(rows) + 1) * (tall + _TITLE) + _FOOT
    figure = Figure(figsize=(width, height), facecolor="white")

    def panel(row: int, column: int, title: str) -> Axes:
        left, bottom = _SIDE + column * _PANEL, height - (row + 1) * (tall + _TITLE)
        axes = figure.add_axes((left / width, bottom / height, 0.97 * _PANEL / width, tall / height), facecolor="black")
        axes.set_title(title, fontsize=8, pad=3)
        return axes

    for column, (name, image) in enumerate(shown.images.items()):
        show_slice(panel(0, column, name), image, shown.extent_mm, shown.windows[name])
    top = [("reference", shown.truth)]
    for row, (label, panels) in enumerate([("", top), *rows]):
        for column, (title, classes) in enumerate(panels, start=len(shown.images) if row == 0 else 0):
            axes = panel(row, column, title)
            show_slice(axes, shown.images[shown.background], shown.extent_mm, shown.windows[shown.background])
            _paint(axes, classes, shown)
        middle = height - (row + 1) * (tall + _TITLE) + tall / 2
        figure.text(0.5 * _SIDE / width, middle / height, label, rotation=90, ha="center", va="center", fontsize=8)
    _legend(figure, shown.task)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
    return drawn.getvalue()


def _paint(axes: Axes, classes: Array, shown: _Shown) -> None:
    """Lay the colours of the rings over a slice."""
    from matplotlib.colors import to_rgb

    colours = np.zeros((*classes.shape, 4), np.float32)
    for place, colour in enumerate(_ring_colours(shown.task), start=1):
        colours[classes == place] = (*to_rgb(colour), _OPACITY)
    width, height = shown.extent_mm
    axes.imshow(colours, extent=(0, width, height, 0), interpolation="nearest", aspect="equal")


def _legend(figure, task: Task) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=ring.colour, label=ring.label) for ring in rings(task)]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=8)


def _ring_colours(task: Task) -> tuple[str, ...]:
    return tuple(ring.colour for ring in rings(task))


def _colour_name(colour: str) -> str:
    """Return the nearest plain name of a colour, for those who read what the picture shows."""
    from matplotlib.colors import to_rgb

    names = ("red", "green", "blue", "yellow", "orange", "purple")
    return min(names, key=lambda n: sum((a - b) ** 2 for a, b in zip(to_rgb(n), to_rgb(colour), strict=True)))
