"""A trained method with all that is needed to use it, and its one file: safetensors, half precision, a JSON header."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from anymri.domain.task import Task, task_named
from anymri.engine.checkpoint import write_tensors
from anymri.engine.run import Window, first_fault
from anymri.errors import AnymriError, UsageError, WeightsError
from anymri.methods import method_named
from anymri.methods.method import Features, Method, MethodConfig, Note

FORMAT = "anymri-weights/1"
_KEY = "anymri"


class Training(BaseModel):
    """What a weights file says of where it comes from.

    Attributes:
        cohort: Name, licence and citation of the data.
        cases: Every case that was trained on or chosen by; empty if that is not recorded.
        seed: Of the training.
        fold: The fold of the cohort that was left out, if any.
        budget: Steps or minutes.
        versions: Of the programs.
        material: ``sha256`` over the label maps that synthetic patients were made from, and their ``source``, as their folder says;
            empty if there were none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cohort: dict[str, str] = {}
    cases: tuple[str, ...] = ()
    seed: int | None = None
    fold: int | None = None
    budget: str = ""
    versions: dict[str, str] = {}
    material: dict[str, str] = {}


class WeightsHeader(BaseModel):
    """What a weights file says of itself.

    Attributes:
        format: Version of this layout.
        name: For people and tables.
        method: Name of the method.
        config: Its settings.
        task: Name of the task.
        window: How the weights look at a case.
        training: Data, seed, budget, versions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = FORMAT
    name: str = Field(pattern=r"^\w[\w.+ -]*$")  # It becomes a file's name.
    method: str
    config: dict[str, Any]
    task: str
    window: Window
    training: Training = Training()


@runtime_checkable  # Type hints are checked in tests.
class Engine(Protocol):
    """What computes windows: a method by itself, or another engine that is given its weights. The names are those of ``Method``."""

    def encode(self, image_BMDHW: Tensor, present_BM: Tensor, origin_B3: Tensor) -> Features:
        """Return all that does not depend on which of the present modalities are kept."""
        ...

    def decode_window(self, features: Features, keep_BM: Tensor) -> tuple[Tensor, Note]:
        """Return what windows are blended of, (B, any, D, H, W), and a note of this window for ``finish``."""
        ...

    def finish(self, blended: Tensor, notes: Sequence[Note]) -> Tensor:
        """Return logits_BRDHW of a case."""
        ...


@dataclass(frozen=True)
class Model:
    """A method in evaluation mode, with its header.

    Attributes:
        method: With weights, float32, without what only training uses.
        header: What the file says.
        sha256: Of the file; empty for a model that never was one.
        other_engine: What computes windows in the method's place; None if the method does.
        changed: Settings of the method that are not those of the file, by name.
    """

    method: Method
    header: WeightsHeader
    sha256: str = ""
    other_engine: Engine | None = None
    changed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """What score tables call it: the method, with the settings that are not those it was trained with."""
        told = ", ".join(f"{name}={v if isinstance(v, str) else json.dumps(v)}" for name, v in self.changed.items())
        return f"{self.header.method} ({told})" if told else self.header.method

    @property
    def engine(self) -> Engine:
        """What computes windows."""
        return self.other_engine or self.method


def write_weights(path: Path, tensors: dict[str, Tensor], header: WeightsHeader) -> None:
    """Write weights in half precision, under a temporary name first.

    Raises:
        OutputError: If the file cannot be written.
    """
    half = {k: v.detach().to("cpu", torch.float16 if v.is_floating_point() else v.dtype).contiguous() for k, v in tensors.items()}
    write_tensors(path, half, metadata={_KEY: header.model_dump_json()})


def read_model(path: Path, *, sha256: str | None = None) -> Model:
    """Return the model that a weights file holds. Nothing but safetensors is ever opened.

    Args:
        path: The file.
        sha256: What the file must hash to, if that is known.

    Raises:
        WeightsError: If the file is missing, not safetensors, changed, or does not fit its own header.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"{path}: weights cannot be read ({error.strerror}); give a .safetensors file or a name of 'anymri weights list'"
        ) from None
    if sha256 is not None and digest != sha256:
        raise WeightsError(f"{path}: SHA-256 is {digest}, expected {sha256}; the file was changed or damaged, install it again")
    _refuse_foreign(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            if text is None:
                raise WeightsError(f"{path}: has no anymri header; these are weights of another program")
            names = tuple(file.keys())
            header, method = _built(path, text, {name: tuple(file.get_slice(name).get_shape()) for name in names})
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error}); only safetensors are loaded") from None
    odd = [k for k, v in method.state_dict().items() if v.is_floating_point() != tensors[k].is_floating_point()]
    if odd:
        raise WeightsError(f"{path}: tensor '{odd[0]}' is of type {tensors[odd[0]].dtype}; the file does not fit its header")
    method.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    bad = [k for k, v in method.state_dict().items() if not torch.isfinite(v).all()]
    if bad:
        raise WeightsError(f"{path}: tensor '{bad[0]}' holds values that are not finite; train or fetch the weights again")
    return Model(method.eval(), header, digest)


def with_settings(model: Model, config: Mapping[str, Any]) -> Model:
    """Return the same weights under other settings of their method, such as another way to use what they say.

    Args:
        model: As it was read; its own method computes windows.
        config: Every setting of the method, as JSON.

    Raises:
        UsageError: If a setting does not exist or fit, or changes what the weights hold.
    """
    kind, task = method_named(model.header.method).config, model.method.task
    try:
        before, now = kind.model_validate(model.header.config), kind.model_validate(config)
    except ValidationError as error:
        raise UsageError(f"setting 'config': {first_fault(error)}") from None
    old, new = before.model_dump(mode="json"), now.model_dump(mode="json")
    changed = {name: value for name, value in new.items() if value != old[name]}
    shapes = shapes_of(before, task), shapes_of(now, task)
    if shapes[0] != shapes[1]:
        odd = sorted(k for k in shapes[0].keys() | shapes[1].keys() if shapes[0].get(k) != shapes[1].get(k))[0]
        raise UsageError(
            f"{', '.join(f'config.{name}' for name in changed)}: changes the parameters of the network ('{odd}' from "
            f"{shapes[0].get(odd)} to {shapes[1].get(odd)}); finished weights take settings that change none, train with the others"
        )
    method = now.build(task)
    method.strip()
    method.load_state_dict(model.method.state_dict())
    return replace(model, method=method.eval(), header=model.header.model_copy(update={"config": new}), changed=changed)


def _refuse_foreign(path: Path) -> None:
    """Refuse pickles, zips and other bytes before anything parses them: safetensors start with the length of a JSON header."""
    with open(path, "rb") as file:
        start = file.read(9)
    length = struct.unpack("<Q", start[:8])[0] if len(start) == 9 else 0
    if not 2 <= length <= path.stat().st_size or start[8:9] != b"{":
        raise WeightsError(f"{path}: not a safetensors file; pickled weights (.pt, .pth, .ckpt) are never loaded")


def _built(path: Path, text: str, found: dict[str, tuple[int, ...]]) -> tuple[WeightsHeader, Method]:
    """Return the header and the method it describes, freshly initialised, if the shapes of the tensors fit it."""
    try:
        header = WeightsHeader.model_validate_json(text)
        config = method_named(header.method).config.model_validate(header.config)
        task = task_named(header.task)
    except ValidationError as error:
        raise WeightsError(f"{path}: header does not fit this version of anymri: {first_fault(error)}") from None
    except AnymriError as error:
        raise WeightsError(f"{path}: header does not fit this version of anymri: {error}") from None
    if header.format != FORMAT:
        raise WeightsError(f"{path}: format '{header.format}', expected {FORMAT}; use the version of anymri that wrote it")
    if any(edge % multiple for edge, multiple in zip(header.window.size, config.multiples, strict=True)):
        of = config.multiple if len(set(config.multiples)) == 1 else config.multiples
        raise WeightsError(f"{path}: window {header.window.size} does not fit the network; every edge must be a multiple of {of}")
    expected = shapes_of(config, task)  # Compared before memory is taken: a header may claim any size.
    if expected != found:
        odd = sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k))[0]
        raise WeightsError(
            f"{path}: tensor '{odd}' has shape {found.get(odd)}, expected {expected.get(odd)}; the file does not fit its header"
        )
    method = config.build(task)
    method.strip()
    return header, method


def shapes_of(config: MethodConfig, task: Task) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what a weights file of these settings holds, without taking memory for them."""
    with torch.device("meta"):
        method = config.build(task)
    method.strip()
    return {k: tuple(v.shape) for k, v in method.state_dict().items()}
