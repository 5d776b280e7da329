"""A method as ONNX: one graph per subset, the images that are kept in, what windows are blended of out.

Which modalities are kept is settled while the graph is made, so that it holds nothing for absent ones. The size of the window is
left open.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from anymri.errors import UsageError
from anymri.methods.method import Method
from anymri.nn.blocks import InstanceNorm

OPSET = 18
IMAGE, LOGITS, NOTE = "image", "logits", "note"
_AXES = {2: "D", 3: "H", 4: "W"}


def graph_of(method: Method, keep: Sequence[bool]) -> bytes:
    """Return the ONNX graph of a method for one subset.

    Its input ``image`` is (1, K, D, H, W), float32: the K images that are kept, in the task's order, on the model's grid; sizes are
    multiples of ``Method.multiple``. Its output ``logits`` is what ``Method.decode_window`` returns, and ``note`` what that notes,
    if it does.

    Args:
        method: In evaluation mode.
        keep: One flag per modality.

    Raises:
        UsageError: If the package onnx is not installed, or the method cannot be written as a graph.
    """
    try:
        import onnx  # noqa: F401  torch writes graphs with it
    except ImportError:
        raise UsageError("graphs are made with onnx, which is not installed: pip install 'anymri[onnx]'") from None
    module = _OneSubset(_exportable(method), keep)
    # Twice what the network divides by: no axis may look as if it were always one voxel at the bottom.
    example = torch.randn((1, sum(keep), *(2 * method.multiple,) * 3), generator=torch.Generator().manual_seed(0))
    # Gradients are asked for, and none is there to be had: a method keeps no constants of one size of window then.
    with torch.enable_grad(), warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="anymri-") as folder:
        # It traces; what of the course depends on the flags alone is meant to be settled, and is said to be each time.
        warnings.simplefilter("ignore")
        file = Path(folder) / "graph.onnx"
        try:
            named = [IMAGE, LOGITS, NOTE][: 2 + module.notes(example)]
            torch.onnx.export(
                module,
                (example,),
                file,
                dynamo=False,
                opset_version=OPSET,
                input_names=named[:1],
                output_names=named[1:],
                dynamic_axes={IMAGE: _AXES, LOGITS: _AXES},
            )
        except (RuntimeError, ValueError) as error:  # What torch cannot write, each under a name of its own.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UsageError(f"method {type(method).__name__} cannot be written as an ONNX graph ({reason}); use torch") from None
        return _without_copies(file.read_bytes())


def _without_copies(content: bytes) -> bytes:
    """Return a graph in which weights that are alike are one; torch copies the first to the others too late for them to be read."""
    import onnx

    model = onnx.load_from_string(content)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    copies = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Identity" and n.input[0] in weights}
    kept = [node for node in graph.node if not (node.op_type == "Identity" and node.output[0] in copies)]
    for node in kept:
        node.input[:] = [copies.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(kept)
    return model.SerializeToString()


class _OneSubset(nn.Module):
    """A method as a function of the images that are kept, (1, K, D, H, W)."""

    def __init__(self, method: Method, keep: Sequence[bool]) -> None:
        super().__init__()
        self.method = method
        self.keep = tuple(keep)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        rows = iter(image.split(1, 1))
        nothing = torch.zeros_like(image[:, :1])
        whole = torch.cat([next(rows) if kept else nothing for kept in self.keep], 1)
        keep = torch.tensor([self.keep])
        features = self.method.encode(whole, keep, torch.zeros((1, 3), dtype=torch.int64))
        logits, note = self.method.decode_window(features, keep)
        if not (note is None or isinstance(note, Tensor)):
            raise ValueError("what it notes of a window is no tensor")
        return logits.float() if note is None else (logits.float(), note)

    def notes(self, image: Tensor) -> bool:
        """Return whether the method notes anything of a window."""
        return isinstance(self(image), tuple)


def _exportable(method: Method) -> Method:
    """Return a copy of a method, frozen, whose norms are arithmetic that every runtime computes to the same numbers."""
    copied = copy.deepcopy(method, {id(method.task): method.task}).to("cpu").requires_grad_(False)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, InstanceNorm):
                setattr(module, name, _Norm(None, child.weight, child.bias))
            elif isinstance(child, nn.GroupNorm):
                setattr(module, name, _GroupNorm(child))
    return copied.eval()


class _Norm(nn.Module):
    """Instance or group normalisation whose sums are taken row by row.

    The operator for it adds up half a million voxels one by one in single precision, in ONNX Runtime and in OpenVINO. Where most of
    them are one background value, each addition errs in the same direction, and logits end up 0.02 off.
    """

    def __init__(self, groups: int | None, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight, self.bias = _per_channel(weight), _per_channel(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (1, C, D, H, W) at mean 0 and variance 1 in each group of channels, scaled and shifted."""
        channels = x.shape[1]
        grouped = x if self.groups is None else x.reshape(1, self.groups, -1, x.shape[3], x.shape[4])
        rows = grouped.shape[2] * grouped.shape[3]
        mean = grouped.mean(4, keepdim=True).sum((2, 3), keepdim=True) / rows
        square = grouped.norm(dim=4, keepdim=True).square().sum((2, 3), keepdim=True) / (rows * grouped.shape[4])
        factor = ((square - mean.square()).clamp(min=0) + self.eps).rsqrt()
        if self.groups is not None:
            mean, factor = (t.repeat_interleave(int(channels) // self.groups, 1) for t in (mean, factor))
        if self.weight is not None:
            factor = factor * self.weight
        shift = -mean * factor
        return x * factor + (shift if self.bias is None else shift + self.bias)


class _GroupNorm(nn.Module):
    """Group normalisation of what has voxels by ``_Norm``, of anything else as it is."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.of_maps = _Norm(norm.num_groups, norm.weight, norm.bias, norm.eps)
        self.of_others = norm

    def forward(self, x: Tensor) -> Tensor:
        """Return the shape of ``x``."""
        return self.of_maps(x) if x.dim() == 5 else self.of_others(x)


def _per_channel(values: Tensor | None) -> nn.Parameter | None:
    return None if values is None else nn.Parameter(values.detach().clone()[:, None, None, None], requires_grad=False)
