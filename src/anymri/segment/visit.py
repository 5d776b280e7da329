"""What is segmented: the raw files of one visit, or the case that was prepared from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from anymri.data.patients import full_image
from anymri.domain.case import Source
from anymri.domain.modality import Subset
from anymri.domain.task import Task
from anymri.errors import CaseError, InputFileError, UsageError
from anymri.preparation.pipeline import prepare_images
from anymri.volumes.images import read_image
from anymri.volumes.store import read_case
from anymri.volumes.volume import Array, Grid, Volume, resampled

Facts = dict[str, str | int | None]


@dataclass(frozen=True)
class Visit:
    """A patient to segment.

    Attributes:
        name: Of the patient.
        images: Modality name → where its voxels are; empty for a prepared case.
        case: Folder of a prepared case; None for raw files.
    """

    name: str
    images: Mapping[str, Source] = field(default_factory=dict[str, Source])
    case: Path | None = None


@dataclass(frozen=True, eq=False)
class Opened:
    """A visit that has been read, on the way to the model.

    Attributes:
        files: Modality name → file that it comes from, as it is to be named.
        subset: Modalities at hand.
        image_MDHW: All modalities of the task on the prepared grid; rows of absent ones are zero.
        grid: The prepared grid.
        pictures: Modality name → image on the patient's own grid, that of the first modality at hand.
    """

    files: dict[str, str]
    subset: Subset
    image_MDHW: Array
    grid: Grid
    pictures: dict[str, Volume]

    @property
    def native(self) -> Grid:
        """The patient's own grid."""
        return self.pictures[self.subset.names[0]].grid

    @property
    def coverage(self) -> dict[str, float]:
        """Modality name → share of what the images show together that this one shows: below 1 where its field of view is cut."""
        shown = self.image_MDHW[np.array(self.subset.mask)] != 0
        together = max(int(shown.any(0).sum()), 1)
        return {n: round(int(s.sum()) / together, 3) for n, s in zip(self.subset.names, shown, strict=True)}


def absolute(visit: Visit) -> Visit:
    """Return a visit whose files are found from any folder."""
    images = {n: replace(source, path=source.path.absolute()) for n, source in visit.images.items()}
    return Visit(visit.name, images, visit.case.absolute() if visit.case else None)


def checked_images(visit: Visit, task: Task) -> dict[str, Source]:
    """Return the raw images of a visit in the task's order.

    Raises:
        UsageError: If there is none, a modality is unknown, or two modalities name one image.
        InputFileError: If a file is missing.
    """
    if not visit.images:
        raise UsageError(f"no image was given; expected at least one of {', '.join(task.modalities.names)}")
    images = {n: visit.images[n] for n in task.modalities.subset(visit.images).names}
    seen: dict[tuple[Path, int | None], str] = {}
    for modality, source in images.items():
        if not source.path.is_file():
            found = "a folder" if source.path.is_dir() else "no regular file" if source.path.exists() else "nothing"
            raise InputFileError(f"{source.path} ({modality}): expected an image file, found {found}; check the path")
        real = source.path.resolve(), source.channel
        if real in seen:
            raise UsageError(
                f"{source}: given for both {seen[real]} and {modality}; "
                "give each modality its own file, and leave out what is missing"
            )
        seen[real] = modality
    return images


def inputs_of(visit: Visit) -> dict[str, Facts]:
    """Return what tells the files of a visit from others: path, channel, size in bytes, time of the last change (UTC).

    Raises:
        InputFileError: If one is missing.
    """
    if visit.case is not None:
        return {name: _facts(Source(visit.case / name)) for name in ("case.json", "image.b2nd")}
    return {modality: _facts(source) for modality, source in visit.images.items()}


def _facts(source: Source) -> Facts:
    try:
        found = source.path.stat()
    except OSError as error:
        raise InputFileError(f"{source}: cannot be read ({error.strerror}); check the path") from error
    changed = datetime.fromtimestamp(found.st_mtime, UTC).isoformat()
    return {"file": os.path.abspath(source.path), "channel": source.channel, "bytes": found.st_size, "changed": changed}


def read_images(images: Mapping[str, Source]) -> dict[str, Volume]:
    """Return raw images, modality name → image, read side by side.

    Raises:
        AnymriError: If a file cannot be used; the message names it.
    """
    with ThreadPoolExecutor(max(1, len(images))) as pool:
        volumes = pool.map(lambda source: read_image(source.path, channel=source.channel), images.values())
        return dict(zip(images, volumes, strict=True))


def opened_images(visit: Visit, volumes: dict[str, Volume], task: Task) -> Opened:
    """Return raw images as the model wants them. Only what is at hand is looked at.

    Raises:
        AnymriError: If an image cannot be used; the message names its file.
    """
    prepared = prepare_images(volumes, task, files={n: f"{visit.images[n]} ({n})" for n in volumes})
    subset = task.modalities.subset(volumes)
    image = np.zeros((len(task.modalities), *prepared.grid.shape), np.float32)
    image[np.array(subset.mask)] = prepared.image_MDHW
    return Opened({n: str(visit.images[n]) for n in volumes}, subset, image, prepared.grid, volumes)


def opened_case(folder: Path, task: Task) -> Opened:
    """Return a prepared case as the model wants it; its raw files are not needed.

    The pictures are made of the stored intensities, with their mean and deviation put back: background is 0 again.

    Raises:
        CaseError: If the case is missing, damaged, or made for another task.
    """
    case = read_case(folder)
    if case.task != task.name:
        raise CaseError(
            f"{folder}: prepared for task {case.task}, the weights are for {task.name}; prepare it again with --task {task.name}"
        )
    image = full_image(folder, task)
    grid, native = Grid.from_lattice(case.grid), Grid.from_lattice(case.native)
    pictures: dict[str, Volume] = {}
    for name in case.modalities:
        stored, scale = image[task.modalities.index(name)], case.intensity.get(name, {})
        shown = np.where(stored != 0, stored * scale.get("std", 1.0) + scale.get("mean", 0.0), 0).astype(np.float32)
        pictures[name] = resampled(Volume(shown, grid), native, order=1)
    files = {n: str(case.sources.get(n, {}).get("file", folder)) for n in case.modalities}
    return Opened(files, task.modalities.subset(case.modalities), image, grid, pictures)
