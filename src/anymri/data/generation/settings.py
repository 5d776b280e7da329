"""What is generated, and how strongly; nothing, unless it is asked for."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from anymri.data.artefacts import Artefacts
from anymri.data.degradation import Range, check_range

_SYNTHETIC = "synthetic:"  # No case can be called so: a colon is in no name of one.


def synthetic_name(anatomy: str) -> str:
    """Return what stands for the name of a case where a patch shows a synthetic patient with this anatomy."""
    return _SYNTHETIC + anatomy


def is_synthetic(name: str) -> bool:
    """Return whether the name of a case in a batch stands for a synthetic patient."""
    return name.startswith(_SYNTHETIC)


class Generation(BaseModel):
    """How many patches of a training are generated. A patch is synthetic, or mixed, or has a transplant, or is as it was cut.

    Attributes:
        synthetic: Share of the patches that show synthetic patients.
        mix: Probability that a patch, if it is not synthetic, takes over a region around the lesion of another patient.
        transplant: Probability that a patch, if it is neither, gets the tumour of another patient; with a complete reference only.
        own_tumours: Share of the synthetic patients whose tumour is that of a training case, not of the material.
        healthy: Share of the synthetic patients without any tumour.
        flip: Probability that an anatomy is mirrored, left to right.
        rotation_degrees: Largest angle of an anatomy about each axis; tumours turn any way.
        scaling: Largest relative change of the size of an anatomy.
        tumour_scaling: The same of a tumour.
        deformation_mm: Standard deviation of how far anatomies are displaced at random, smoothly.
        tumour_deformation_mm: The same of tumours and transplants.
        mass_effect: Probability that a tumour displaces what is around it.
        mass_effect_mm: By how much at most: a range, its lower end first.
        random_contrast: Share of the synthetic patients whose tissues look any way.
        contrast_spread: How far patients lie apart in how their tissues look, relative to real ones.
        texture: How uneven tissues are, relative to real ones; 0 makes them even.
        partial_volume: Largest blur of synthetic images, in voxels of standard deviation; the least is half as large.
        artefacts: What is then done to synthetic images, unless augmentation does such things to all patches; None leaves them be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    synthetic: float = Field(default=0.0, ge=0, le=1)
    mix: float = Field(default=0.0, ge=0, le=1)
    transplant: float = Field(default=0.0, ge=0, le=1)
    own_tumours: float = Field(default=0.5, ge=0, le=1)
    healthy: float = Field(default=0.05, ge=0, le=1)
    flip: float = Field(default=0.5, ge=0, le=1)
    rotation_degrees: float = Field(default=15.0, ge=0)
    scaling: float = Field(default=0.12, ge=0, lt=1)
    tumour_scaling: float = Field(default=0.3, ge=0, lt=1)
    deformation_mm: float = Field(default=3.0, ge=0, le=6)
    tumour_deformation_mm: float = Field(default=2.0, ge=0, le=6)
    mass_effect: float = Field(default=0.7, ge=0, le=1)
    mass_effect_mm: Range = (2.0, 10.0)
    random_contrast: float = Field(default=0.15, ge=0, le=1)
    contrast_spread: float = Field(default=1.3, ge=0)
    texture: float = Field(default=1.0, ge=0)
    partial_volume: float = Field(default=0.8, ge=0, le=1)
    artefacts: Artefacts | None = Artefacts()

    @field_validator("mass_effect_mm")
    @classmethod
    def _in_order(cls, value: Range) -> Range:
        check_range(value, 0.0)
        return value

    @property
    def active(self) -> bool:
        """Whether anything is generated."""
        return any((self.synthetic, self.mix, self.transplant))
