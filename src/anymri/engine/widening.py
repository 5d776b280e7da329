"""Weights of a narrow network as a start for a wider one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def fits(narrow: Mapping[str, Tensor], wide: nn.Module) -> bool:
    """Return whether a network has the same layers, none narrower, each wider by a whole factor."""
    ours = wide.state_dict()
    return all(
        name in ours
        and ours[name].ndim == value.ndim
        and all(n % m == 0 for n, m in zip(ours[name].shape, value.shape, strict=True))
        for name, value in narrow.items()
    )


def widened(narrow: Mapping[str, Tensor], wide: nn.Module) -> dict[str, Tensor]:
    """Return the state of a wider network that predicts what the narrow one does.

    Channel i of a layer that is k times as wide becomes channel i·k, so that joined features keep their order. The channels between
    are as the wide network was initialised. Nothing that stands for the narrow network reads them yet: those weights are 0, and
    are the first to learn. Exact for layers whose channels meet in convolutions alone, such as those with instance norms.

    Args:
        narrow: Weights by name; names that the wide network alone has are left as they are there.
        wide: What they are for, see ``fits``; not changed.

    Source: after Net2Net (Chen, Goodfellow and Shlens, ICLR 2016), which copies channels instead; two copies would have to be told
        apart by noise.
    """
    turned = {f"{name}.weight" for name, m in wide.named_modules() if isinstance(m, nn.ConvTranspose3d)}
    state = {name: value.clone() for name, value in wide.state_dict().items()}
    for name, value in narrow.items():
        target = state[name]
        places = [slice(None, None, n // m) for n, m in zip(target.shape, value.shape, strict=True)]
        if value.ndim > 1:
            out = 1 if name in turned else 0
            target.transpose(0, out)[places[out]] = 0
        target[tuple(places)] = value
    return state
