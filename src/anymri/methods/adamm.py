"""AdaMM: a student with an adapter per subset, taught by a network that sees everything.

Idea: A teacher sees all modalities, a student a subset of them; small adapters, one set per subset, and a graph module at the
bottleneck (GARM) fit the student to what it has. The student is brought to the teacher at the bottleneck and in its output (BBDM).
A head says which classes are in the window at all; it weighs the Dice loss in training and takes classes out at inference (LGRM).

Paper: "No Modality Left Behind: Adapting to Missing Modalities via Knowledge Distillation for Brain Tumor Segmentation",
arXiv 2509.15017. Its full text was not at hand: formulas follow its abstract, its figures and a review; where those are silent,
the authors' public program ("Code") was read, and nothing of it is copied.

Here: teacher, student → ``AdaptiveUNet``; adapter bank → ``AdapterBank``; GF → the network's own ``Bottleneck``, CF → those of
the sets; GARM → ``GraphRefinement``; L_GSM → term ``style``, L_adv → ``adversary`` and ``discriminator``, L_content → ``content``,
L_out → ``output``, w(t) → ``ramped``; LGRM → ``PresenceHead``, L_cls → ``presence_…``, Dice → ``seg_…``.

Deviations:
    1. Absent means nothing is added: a selection, not a product, so that not even NaN passes. Only what is kept decides
       normalisation and crop.
    2. A subset per sample; Code draws one per batch. Adapters run on the samples of each distinct subset.
    3. 2^N − 2 sets (Code: one more, for the empty subset). ``bank="factored"``, for six and more modalities: the branches of the
       absent modalities add up, N sets in all; CF is the mean of theirs. A subset without a set is an error.
    4. The second convolution of an adapter starts at zero, so that an untrained bank changes nothing; Code's starts as any other.
    5. GroupNorm in GARM and LGRM for Code's BatchNorm, which sees other samples and whose test ran in training mode.
    6. The teacher has no bank and no GARM; Code builds them there and ignores them.
    7. Softmax over background and classes, regions by summation. ``outputs="sigmoid"``: Code's one sigmoid per class.
    8. GARM: node matrices are transposed, where Code reshapes and so scrambles nodes and channels; stage 1 crosses the graphs,
       where Code convolves each by itself; Code's unused adjacency and layers are left out; distances are in single precision.
       ``reproject="both"`` paints with the nodes of both graphs, as the figure does.
    9. L_GSM correlates three layers, free of the crop, and is measured by the teacher's correlations (docs/decisions/0011;
       ``style_scale="absolute"``: as it is). Code correlates batch items of one layer with factor 100, and adds a Gram loss that is
       numerically zero. θ is 1: the paper's value is not known.
    10. The discriminator judges z, after GARM, on any grid, with one optimiser for the whole training; Code judges the style before
        GARM, at one crop size, with an optimiser made anew in every step, hence without momentum.
    11. No distillation term reaches the teacher. ``teacher="attached"``: all do, as in Code; ``"frozen"``: taught first, then held.
    12. L_out compares student and teacher, as Code and figure 1; figure 4 draws the label map in the teacher's place.
    13. Where the student sees all that its teacher sees, nothing is distilled; of an incomplete case a teacher sees what there is.
    14. Dice has a summand for background, of weight 1: else windows without tumour would teach nothing. Classes that a partial
        reference cannot tell apart count as one. |p − y| in its weight carries no gradient.
    15. ``gate="window"`` lowers a class's logit by 1e4 inside ``decode``, in evaluation only; a region of which nothing is left
        has −30, since −1e4 would outvote every neighbour when windows are blended. ``gate="case"`` decides once for all windows.
    16. Without GARM, z is the mean of CF and GF; without adapters there is no CF, hence no GARM. A student whose terms of BBDM are
        all off has no teacher: being detached it would change nothing.
    17. Code evaluates one centre crop of image and truth in training mode, with dropout, and picks the checkpoint on test cases.
        Neither is done here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, final

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from anymri.data.batch import Batch
from anymri.data.draw import draw_subsets, generator_on
from anymri.domain.task import Task
from anymri.losses.alignment import ramped, squared_differences, style_losses, verdict_losses
from anymri.losses.presence import (
    FLOOR,
    Truth,
    class_truth,
    most_present,
    presence_loss,
    weighted_dice_loss,
    without_classes,
)
from anymri.losses.regions import region_logits
from anymri.methods.method import MAIN, Adam, Method, MethodConfig, Note, Size, Term
from anymri.nn.adapters import AdapterBank, AdapterShape
from anymri.nn.adaptive_unet import AdaptiveUNet, Said
from anymri.nn.graph_refinement import GraphRefinement, Reproject
from anymri.nn.heads import Discriminator, PresenceHead
from anymri.nn.leaves import Leaves
from anymri.nn.residual_unet import GROUPS, ResidualUNet

DISCRIMINATOR = "discriminator"
TEACHER, STUDENT = "teacher", "student"
SHARES = {TEACHER: 0.4, STUDENT: 0.6}  # Of the Dice loss.


@final
class AdaMMConfig(MethodConfig):
    """Settings of AdaMM; the defaults are those of the paper.

    Attributes:
        widths: Channels per level, finest first.
        depths: Blocks per level.
        adapters: Have the adapter bank.
        adapter_width: Channels inside an adapter.
        bank: One set per subset, or one per absent modality.
        dropout: In adapters and bottlenecks.
        garm: Have the graph module; it needs the adapters.
        nodes: K_g of each graph.
        reproject: What the graphs paint with.
        output: Height of w(t), the weight of L_out; 0 leaves it out, as with the next three.
        ramp: t_r, the share of the training over which w(t) rises.
        content: Weight of L_content.
        style: θ of L_GSM.
        style_scale: Measure L_GSM by the size of the teacher's correlations, or as it is.
        adversarial: Weight of L_adv.
        lgrm: Have the presence head, its loss, its weights and its gate.
        gate: When a class that is held to be absent is taken out.
        outputs: What the last convolution says.
        teacher: What distillation does to the teacher.
    """

    sizes: ClassVar[tuple[Size, ...]] = ("tiny", "small", "base", "paper")

    widths: tuple[PositiveInt, ...] = Field(default=(16, 32, 64, 128), min_length=3)
    depths: tuple[PositiveInt, ...] = (1, 2, 2, 4)
    adapters: bool = True
    adapter_width: PositiveInt = 64
    bank: Literal["subset", "factored"] = "subset"
    dropout: float = Field(default=0.2, ge=0, lt=1)
    garm: bool = True
    nodes: PositiveInt = 8
    reproject: Reproject = "fused"
    output: float = Field(default=10.0, ge=0)
    ramp: float = Field(default=0.1, ge=0, le=1)
    content: float = Field(default=0.2, ge=0)
    style: float = Field(default=1.0, ge=0)
    style_scale: Literal["relative", "absolute"] = "relative"
    adversarial: float = Field(default=2e-4, ge=0)
    lgrm: bool = True
    gate: Literal["window", "case", "off"] = "window"
    outputs: Literal["softmax", "sigmoid"] = "softmax"
    teacher: Literal["detached", "attached", "frozen"] = "detached"

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if len(self.depths) != len(self.widths) or self.depths[-1] < 2:
            raise ValueError(f"depths {self.depths} must be as many as widths {self.widths}, the last at least 2")
        if any(width % GROUPS for width in self.widths):
            raise ValueError(f"widths {self.widths} must be multiples of {GROUPS}, the groups of the normalisation")
        if self.garm and not self.adapters:
            raise ValueError("garm refines what the adapters make; with adapters=false, set garm=false too")
        if self.teacher == "frozen" and not self.distils:
            raise ValueError("a frozen teacher of whom nothing is learned; set teacher=detached, or a weight of distillation")
        return self

    @property
    def multiple(self) -> int:
        """What spatial sizes must be multiples of."""
        return 2 ** (len(self.widths) - 1)

    @property
    def distils(self) -> bool:
        """Whether there is anything to learn from a teacher."""
        return any((self.output, self.content, self.style, self.adversarial))

    @classmethod
    def sized(cls, size: Size) -> Self:
        """Return the settings of a size; ``base`` has a block less than the paper's network, and so the size of other methods."""
        if size == "tiny":
            return cls(widths=(8, 8, 16), depths=(1, 1, 2), adapter_width=4, nodes=3)
        if size == "small":
            return cls(widths=(8, 16, 32, 64), adapter_width=32)
        return cls(depths=(1, 2, 2, 3)) if size == "base" else cls()

    def build(self, task: Task) -> AdaMM:
        """Return a freshly initialised network."""
        return AdaMM(self, task)


@dataclass(frozen=True)
class Identity:
    """Early fusion: nothing can be computed before the subset is known."""

    image_BMDHW: Tensor


def _network(config: AdaMMConfig, task: Task, *, student: bool) -> AdaptiveUNet:
    """Return a teacher, or a student, who has the bank and GARM besides."""
    n, k, widths = len(task.modalities), len(task.classes), config.widths
    bank = refinement = None
    if student and config.adapters:
        shape = AdapterShape(widths, config.adapter_width, config.dropout)
        bank = AdapterBank(n, shape, factored=config.bank == "factored")
    if student and config.garm:
        refinement = GraphRefinement(widths[-1], config.nodes, reproject=config.reproject)
    return AdaptiveUNet(
        ResidualUNet(n, widths, config.depths, classes=k, dropout=config.dropout),
        bank=bank,
        refinement=refinement,
        presence=PresenceHead(widths[0], k - 1) if config.lgrm else None,
    )


@final
class AdaMM(Method):
    """The networks and objective of AdaMM. Only the student is used after training: ``strip`` drops the others."""

    def __init__(self, config: AdaMMConfig, task: Task) -> None:
        super().__init__(task)
        self.config = config
        self.multiple = config.multiple
        self.student = _network(config, task, student=True)
        self.teacher = _network(config, task, student=False) if config.distils else None
        self.discriminator = Discriminator(config.widths[-1]) if config.adversarial else None
        self.stages = (TEACHER, STUDENT) if config.teacher == "frozen" else (MAIN,)
        self.enter_stage(self.stages[0])

    def enter_stage(self, stage: str) -> None:
        """Freeze what the stage does not train; with a teacher that is not frozen there is one stage, which trains all."""
        self.stage = stage
        for part, trained in ((self.teacher, TEACHER), (self.student, STUDENT), (self.discriminator, STUDENT)):
            if part is not None:
                part.requires_grad_(stage in (trained, MAIN))

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Return the trainable parameters; the discriminator's are a group of their own."""
        groups: dict[str, list[nn.Parameter]] = {MAIN: [], DISCRIMINATOR: []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups[DISCRIMINATOR if name.startswith(f"{DISCRIMINATOR}.") else MAIN].append(parameter)
        return {name: parameters for name, parameters in groups.items() if parameters}

    def own_optimisers(self) -> Mapping[str, Adam]:
        """Return the discriminator's."""
        return {DISCRIMINATOR: Adam(1e-4, betas=(0.9, 0.99))}

    def strip(self) -> None:
        """Drop teacher and discriminator."""
        self.teacher = self.discriminator = None

    def encode(self, image_BMDHW: Tensor, present_BM: Tensor, origin_B3: Tensor) -> Identity:
        """Return the image itself."""
        return Identity(image_BMDHW)

    def decode(self, features: Identity, keep_BM: Tensor) -> Tensor:
        """Return logits_BRDHW from one pass of the student; gated in evaluation mode, if windows are gated one by one."""
        said = self.student(features.image_BMDHW, keep_BM, None)
        gated = self.config.gate == "window" and not self.training
        return self._regions(said.logits, said.presence if gated else None)

    def decode_window(self, features: Identity, keep_BM: Tensor) -> tuple[Tensor, Note]:
        """Return logits, and the presence of classes if the case is to be gated as a whole; then logits are those of classes."""
        if self.config.gate != "case":
            return self.decode(features, keep_BM), None
        said = self.student(features.image_BMDHW, keep_BM, None)
        return said.logits.float(), said.presence

    def finish(self, blended: Tensor, notes: Sequence[Note]) -> Tensor:
        """Return logits_BRDHW; with ``gate="case"`` a class is taken out if no window holds it to be present."""
        if self.config.gate != "case":
            return blended
        return self._regions(blended, most_present(notes) if self.config.lgrm else None)

    def losses(self, batch: Batch, *, progress: float, generator: torch.Generator) -> Iterator[Term]:
        """Yield the teacher's terms, the student's, those of distillation, and what carries them into the networks.

        Raises:
            RuntimeError: If the method was stripped.
        """
        if self.config.distils and self.teacher is None:
            raise RuntimeError("a stripped method cannot be trained: it has no teacher any more")
        truth = class_truth(batch.target_BRDHW, batch.known_BR, self.task.membership)
        keep = draw_subsets(batch.present_BM, generator)
        chance = generator_on(batch.image_BMDHW.device, generator)
        attached = self.config.teacher == "attached"
        teacher, student = Leaves(), Leaves()
        taught = None
        if self.teacher is not None:
            learns = self.stage != STUDENT
            with torch.set_grad_enabled(learns):
                taught = self.teacher(batch.image_BMDHW, batch.present_BM, chance if learns else None).mapped(teacher.cut)
            if learns:
                yield from _gathered(self._own(taught, truth, TEACHER), teacher)
            if learns and not attached:
                yield Term(TEACHER, teacher.carried(), measured=False)
                teacher = Leaves()  # Frees its graph before the student's is made.
        if self.stage == TEACHER:
            return
        learned = self.student(batch.image_BMDHW, keep, chance).mapped(student.cut)
        yield from _gathered(self._own(learned, truth, STUDENT), student)
        rows = (keep != batch.present_BM).any(1)
        if taught is not None and rows.any():
            held = taught if attached else taught.mapped(Tensor.detach)
            yield from _gathered(self._distilled(held, learned, rows, progress), student, teacher)
        yield Term(STUDENT, student.carried(), measured=False)
        if attached and taught is not None:
            yield Term(TEACHER, teacher.carried(), measured=False)

    def _own(self, said: Said, truth: Truth, who: str) -> Iterator[Term]:
        """Yield L_cls and the weighted Dice of a network."""
        if said.presence is not None:
            yield Term(f"presence_{who}", presence_loss(said.presence, truth))
        exclusive = self.config.outputs == "softmax"
        dice = weighted_dice_loss(self._probability(said), truth, said.presence, exclusive=exclusive)
        yield Term(f"seg_{who}", dice, SHARES[who])

    def _distilled(self, teacher: Said, student: Said, rows: Tensor, progress: float) -> Iterator[Term]:
        """Yield the terms of BBDM over the samples in question; every sample of the batch counts alike."""
        config = self.config

        def of(*maps: Tensor) -> list[Tensor]:
            return [x[rows] for x in maps]

        def mean(losses: Tensor) -> Tensor:
            return losses.sum() / len(rows)

        if config.output:
            apart = squared_differences(*of(self._probability(teacher), self._probability(student)))
            yield Term("output", mean(apart), config.output * ramped(progress, config.ramp))
        if config.content:
            yield Term("content", mean(squared_differences(*of(teacher.content, student.content))), config.content)
        if config.style:
            maps = [of(s.style, s.decoded, s.z) for s in (teacher, student)]
            yield Term("style", mean(style_losses(*maps, relative=config.style_scale == "relative")), config.style)
        if config.adversarial:
            yield Term("adversary", mean(verdict_losses(self._verdict(*of(student.z)), true=True)), config.adversarial)
            real, made = of(teacher.z.detach(), student.z.detach())
            judged = verdict_losses(self._verdict(real), true=True) + verdict_losses(self._verdict(made), true=False)
            yield Term("discriminator", mean(judged), group=DISCRIMINATOR)

    def _verdict(self, z: Tensor) -> Tensor:
        if self.discriminator is None:
            raise RuntimeError("a stripped method has no discriminator any more")
        with torch.autocast(z.device.type, enabled=False):
            return self.discriminator(z.float())

    def _probability(self, said: Said) -> Tensor:
        logits = said.logits.float()
        return logits.softmax(1) if self.config.outputs == "softmax" else logits.sigmoid()

    def _regions(self, logits: Tensor, presence: Tensor | None) -> Tensor:
        """Return logits of regions; classes whose presence is given and not likely are taken out."""
        logits = logits.float() if presence is None else without_classes(logits, presence <= 0)
        if self.config.outputs == "softmax":
            regions = region_logits(logits, self.task.membership)
        else:
            inside = [[k for k, belongs in enumerate(row) if belongs] for row in self.task.membership]
            regions = torch.stack([logits[:, k].amax(1) for k in inside], 1)
        return regions if presence is None else regions.clamp(min=FLOOR)


def _gathered(terms: Iterator[Term], *leaves: Leaves) -> Iterator[Term]:
    """Yield the terms; what each leaves behind is taken over before the next."""
    for term in terms:
        yield term
        for of in leaves:
            of.gather()
