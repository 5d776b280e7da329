"""What is generated, and how strongly; nothing, unless it is asked for."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Generation(BaseModel):
    """How many patches of a training are generated. A patch is synthetic, or mixed, or has a transplant, or is as it was cut.

    Attributes:
        mix: Probability that a patch, if it is not synthetic, takes over a region around the lesion of another patient.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mix: float = Field(default=0.0, ge=0, le=1)

    @property
    def active(self) -> bool:
        """Whether anything is generated."""
        return self.mix > 0
