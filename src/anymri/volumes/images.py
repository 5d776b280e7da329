"""Image files of every format that is read, told by the ending of their names."""

from __future__ import annotations

from pathlib import Path

from anymri.errors import InputFileError
from anymri.volumes import itk, nifti
from anymri.volumes.volume import Volume

ENDINGS = (".nii.gz", ".nii", *itk.ENDINGS)
# Formats that keep header and voxels in two files, which get parted from each other.
_DETACHED = {".mhd": ".mha", ".nhdr": ".nrrd", ".hdr": ".nii.gz", ".img": ".nii.gz", ".raw": ".mha"}


def ending_of(name: str) -> str | None:
    """Return the ending of a file's name that tells an image that can be read, as it is written; None if there is none."""
    ending = next((e for e in ENDINGS if name.lower().endswith(e)), None)
    return name[-len(ending) :] if ending and len(name) > len(ending) else None


def unreadable(name: str) -> str | None:
    """Return why a file that looks like an image cannot be read and what to do, by its name alone; None if it can, or is none."""
    suffix = Path(name).suffix.lower()
    if suffix in _DETACHED:
        return f"{suffix} files keep header and voxels apart; save it as a single {_DETACHED[suffix]}"
    if suffix in (".mgz", ".mgh", ".mnc", ".tif", ".tiff", ".npy", ".npz"):
        return f"{suffix} files are not read; convert it to .nii.gz"
    return None


def read_image(path: Path | str, *, channel: int | None = None) -> Volume:
    """Return an image: finite voxels, float32, not all the same.

    Args:
        path: A .nii, .nii.gz, .mha or .nrrd file. Any other is taken for NIfTI, which its content must then be.
        channel: Which channel of a file with several.

    Raises:
        InputFileError: If the file is missing, unreadable, truncated or of another kind.
        ImageContentError: If its voxels cannot be used.
        GridMismatchError: If its spacing or orientation makes no sense.
    """
    return itk.read_itk(path, channel=channel) if _is_itk(Path(path)) else nifti.read_nifti(path, channel=channel)


def read_label_map(path: Path | str, *, channel: int | None = None) -> Volume:
    """Return a label map: int32; it may be empty.

    Raises:
        InputFileError: If the file is missing, unreadable, truncated or of another kind.
        ImageContentError: If a value is not a whole number.
        GridMismatchError: If its spacing or orientation makes no sense.
    """
    return itk.read_itk_labels(path, channel=channel) if _is_itk(Path(path)) else nifti.read_labels(path, channel=channel)


def _is_itk(path: Path) -> bool:
    if path.suffix.lower() in _DETACHED and path.is_file():
        raise InputFileError(f"{path}: {unreadable(path.name)}")
    return path.name.lower().endswith(itk.ENDINGS)
