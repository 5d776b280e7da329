"""All that is needed to repeat a training, and the folder that it leaves on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from anymri.data.augment import Augmentation
from anymri.data.generation.settings import Generation
from anymri.data.patients import Intensity
from anymri.domain.appearance import appearance_of
from anymri.domain.task import GLIOMA, Task, task_named
from anymri.errors import TrainingError, UsageError
from anymri.methods import method_named
from anymri.methods.method import MethodConfig, Size
from anymri.volumes.store import parsed_json, write_json


class Window(BaseModel):
    """How weights look at a case, at any machine: a property of the weights.

    Attributes:
        stride: Edge of the model's voxels, in voxels of the task's grid.
        size: Largest window, in the model's voxels; a smaller case is taken whole.
        overlap: Share by which neighbouring windows overlap.
        intensity: What the network is given: z-scores as they are stored, or each image with its darkest voxel of the foreground
            at 0 and its brightest at 1.
        least_component: Components of the outermost region smaller than this share of the largest are left out of a prediction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    stride: int = Field(default=2, ge=1, le=6)
    size: tuple[PositiveInt, PositiveInt, PositiveInt] = (96, 112, 96)
    overlap: float = Field(default=0.5, ge=0, lt=1)
    intensity: Intensity = "z_score"
    least_component: float = Field(default=0.0, ge=0, le=1)


class Parts(BaseModel):
    """Which cases serve what.

    Attributes:
        train: Cases that are trained on.
        validation: Complete cases taken out of the training to choose the checkpoint by.
        test: Cases that are scored in the end; never seen here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every case."""
        return (*self.train, *self.validation, *self.test)

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if len(set(self.all)) < len(self.all):
            twice = sorted({n for n in self.all if self.all.count(n) > 1})
            raise ValueError(f"case {twice[0]} is listed more than once; a case serves one purpose")
        return self


class Run(BaseModel):
    """One training, wholly.

    Attributes:
        method: Name of the method.
        config: Its settings, as JSON.
        task: Name of the task.
        window: The grid that the model works on.
        patch: Size of training patches, in the model's voxels.
        coarse: Share of the budget, or of a stage's where a method has several, from its beginning, in which patches are averaged
            to voxels of twice the edge: what is learnt there holds on the finer grid, for a fraction of the time. Of a budget in
            steps it is a share of their work; a coarse step counts as an eighth, so that half of it are eight in nine steps.
        batch: Patches per step.
        accumulate: Batches per optimiser step.
        steps: Optimiser steps; or None if ``minutes`` is the budget.
        minutes: Wall-clock budget of the training steps.
        optimiser: Of every parameter group for which the method names none.
        learning_rate: At its peak, after the warm-up.
        weight_decay: Decoupled for adamw, L2 for adam.
        warm_up: Share of the budget over which the learning rate rises linearly.
        schedule: How it falls from there to zero: as half a cosine, or as the rest of the budget to the power of 0.9.
        clip: Largest norm of the gradient of a group.
        average: Decay per step of the moving average of the weights, which is what is evaluated and shipped.
        precision: bf16 autocasts, float32 does not.
        tumour_share: Share of the patches that are centred on tumour.
        partial_weight: How often a case with some regions unknown is drawn, relative to a complete one.
        augmentation: What is done to patches.
        generation: Which patches are generated; none, unless it is asked for.
        fold: The fold of the cohort's split that is left out for testing; None trains on all.
        cases: The cases for each purpose, if the run itself lists them; then ``fold`` and ``validation`` mean nothing.
        validation: How many training cases are taken out to choose the checkpoint.
        candidates: Shares of the budget at which a candidate checkpoint is kept.
        checkpoint_minutes: Interval between checkpoints.
        runaway: How many times its lowest level the loss may reach before the run is stopped; 0 lets it run.
        material: Folder of label maps that synthetic patients are made from; None if there are none.
        init: Weights file to start from, of the same method and settings; None starts afresh.
        init_sha256: What that file must hash to, if that is known.
        seed: Of everything.
        threads: Of torch; None leaves it as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: str
    config: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    task: str = GLIOMA.name
    window: Window = Window()
    patch: tuple[int, int, int] = (64, 64, 64)
    coarse: float = Field(0.0, ge=0, lt=1)
    batch: int = Field(1, ge=1)
    accumulate: int = Field(1, ge=1)
    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    warm_up: float = Field(0.03, ge=0, lt=1)
    schedule: Literal["cosine", "poly"] = "cosine"
    clip: float = Field(5.0, gt=0)
    average: float = Field(0.995, ge=0, lt=1)
    precision: Literal["float32", "bf16"] = "bf16"
    tumour_share: float = Field(0.75, ge=0, le=1)
    partial_weight: float = Field(0.06, ge=0)
    augmentation: Augmentation = Augmentation()
    generation: Generation = Generation()
    fold: int | None = None
    cases: Parts | None = None
    validation: int = Field(4, ge=0)
    candidates: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(default=(0.7, 0.85, 1.0), min_length=1)
    checkpoint_minutes: float = Field(2.0, ge=0)
    runaway: float = Field(2.5, ge=0)
    material: str | None = None
    init: str | None = None
    init_sha256: str | None = None
    seed: int = Field(default=0, ge=0)
    threads: int | None = Field(default=None, ge=1)

    @field_validator("config")
    @classmethod
    def _complete(cls, value: dict[str, Any], known: Any) -> dict[str, Any]:
        """Return the method's settings with every default written out, as JSON holds them, so that records can be compared."""
        if "method" not in known.data:
            return value
        try:
            return method_named(known.data["method"]).config.model_validate(value).model_dump(mode="json")
        except ValidationError as error:
            raise ValueError(first_fault(error)) from None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("exactly one of steps and minutes is the budget")
        self.task_object  # noqa: B018  (validates)
        if self.window.intensity == "min_max" and self.augmentation.recolours:
            raise ValueError(
                "augmentation of intensities is in standard deviations, which images scaled from 0 to 1 do not have; with "
                "window.intensity=min_max set augmentation.intensity, gamma and noise to 0"
            )
        self._check_material()
        least = 4 if self.precision == "bf16" else 2
        self._check_edges("patch", self.patch, least)
        if self.coarse:
            d, h, w = self.patch
            self._check_edges("half of patch", (d // 2, h // 2, w // 2), least)
        self._check_edges("window.size", self.window.size, 2)
        return self

    def _check_material(self) -> None:
        """Refuse synthetic patients that cannot be made, and material for none."""
        if self.generation.synthetic and appearance_of(self.task_object) is None:
            raise ValueError(f"task {self.task} has no synthetic patients, which are made of brains; set generation.synthetic to 0")
        if self.generation.synthetic and self.window.intensity == "min_max":
            raise ValueError("synthetic patients are in z-scores; with window.intensity=min_max set generation.synthetic to 0")
        if bool(self.generation.synthetic) != bool(self.material):
            raise ValueError(
                "generation.synthetic needs label maps to make patients from; give --material DIR, or set it to 0"
                if self.generation.synthetic
                else "material is for synthetic patients, of which there are none; set generation.synthetic above 0, or give none"
            )

    def _check_edges(self, name: str, edges: tuple[int, int, int], least: int) -> None:
        """Refuse sizes that the network cannot halve often enough, or that leave fewer than ``least`` voxels at its deepest level.

        Normalisation needs two. In bf16 oneDNN's weight gradient of a 3×3×3 convolution on a map of 2×2×2 reads memory that nobody
        wrote: at random, gradients are NaN. On four it does not.
        """
        multiples = self.method_config.multiples
        if any(edge % multiple or edge < least * multiple for edge, multiple in zip(edges, multiples, strict=True)):
            alike = len(set(multiples)) == 1
            of, at_least = (m[0] if alike else m for m in (multiples, tuple(least * m for m in multiples)))
            raise ValueError(
                f"{name} is {edges}; for this {self.method} with precision {self.precision} "
                f"every edge must be a multiple of {of} and at least {at_least}"
            )

    @property
    def method_config(self) -> MethodConfig:
        """The method's settings, typed."""
        return method_named(self.method).config.model_validate(self.config)

    @property
    def task_object(self) -> Task:
        """The task itself."""
        return task_named(self.task)

    @classmethod
    def of(cls, method: str, size: Size, settings: Mapping[str, Any]) -> Run:
        """Return a run of a method at one of its sizes, with some settings other than the defaults.

        Raises:
            UsageError: If the method has no such size, or a setting does not exist.
        """
        entry = method_named(method)
        if size not in entry.config.sizes:
            raise UsageError(f"method {method} has no size '{size}'; expected one of {', '.join(entry.config.sizes)}")
        return checked_run({"method": method, "config": entry.config.sized(size).model_dump(mode="json"), **settings})


def checked_run(content: dict[str, Any]) -> Run:
    """Return a run from plain values.

    Raises:
        UsageError: One line that names the first setting that does not fit.
    """
    try:
        return Run.model_validate(content)
    except ValidationError as error:
        raise UsageError(first_fault(error)) from None


def first_fault(error: ValidationError) -> str:
    """Return one line about the first setting that does not fit."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    named = f"setting '{where}': " if where else ""
    if first["type"] == "value_error":  # Our own: says what was found.
        return named + first["msg"].removeprefix("Value error, ")
    return f"{named}{first['msg']}; found {first['input']!r:.200}"


@dataclass(frozen=True)
class RunFolder:
    """Where a training leaves what it makes.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def record(self) -> Path:
        """run.json: the run, versions, data and command."""
        return self.path / "run.json"

    @property
    def log(self) -> Path:
        """log.jsonl: one line per logged step."""
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of resumable states."""
        return self.path / "checkpoints"

    @property
    def candidates(self) -> Path:
        """Folder of averaged weights to choose from."""
        return self.path / "candidates"

    @property
    def selection(self) -> Path:
        """selection.json: the candidates, their validation scores and the choice."""
        return self.path / "selection.json"

    @property
    def weights(self) -> Path:
        """The chosen weights."""
        return self.path / "weights.safetensors"

    def write_record(self, run: Run, facts: Mapping[str, Any]) -> None:
        """Write run.json."""
        write_json(self.record, {"run": run.model_dump(mode="json"), **facts})

    def read_facts(self) -> dict[str, Any]:
        """Return what run.json holds.

        Raises:
            TrainingError: If it cannot be read.
        """
        try:
            return dict(parsed_json(self.record))
        except (OSError, ValueError, TypeError) as error:
            raise TrainingError(
                f"{self.record}: cannot be read ({error}); expected a folder that 'anymri train' has made"
            ) from None

    def read_cases(self) -> dict[str, tuple[str, ...]]:
        """Return which cases serve what, as the record has them; empty if it has none.

        Raises:
            TrainingError: If the record is damaged.
        """
        cases = self.read_facts().get("cases", {})
        if not isinstance(cases, dict) or not all(isinstance(names, list) for names in cases.values()):
            raise TrainingError(f"{self.record}: its cases are damaged; expected lists of names; start anew")
        return {part: tuple(names) for part, names in cases.items()}

    def read_run(self) -> Run:
        """Return the run that was written.

        Raises:
            TrainingError: If the folder holds none.
        """
        try:
            content = parsed_json(self.record)["run"]
            if not isinstance(content, dict):
                raise ValueError(f"its run is {type(content).__name__}")
            return checked_run(content)
        except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
            raise TrainingError(f"{self.record}: not a run ({error}); expected a folder that 'anymri train' has made") from None
