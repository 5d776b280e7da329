"""One thread: the workers of the test run are what keeps the cores busy, and sums come out the same."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
