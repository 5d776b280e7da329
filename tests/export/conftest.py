"""One thread, tiny untrained weights, synthetic patients, a way to run the command line."""

from __future__ import annotations

import torch

from ..backends.conftest import cache
from ..cli.conftest import images, patients, run, weights

torch.set_num_threads(1)

__all__ = ["cache", "images", "patients", "run", "weights"]
