"""Artefacts: background stays, what is absent stays as it is, a slab hides what nobody sees, each has its strength."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from anymri.data.artefacts import Artefacts, ArtefactsDraw, draw_artefacts, with_artefacts
from anymri.data.augment import Augmentation, apply_augmentation, draw_augmentation
from anymri.data.batch import Batch
from anymri.domain.task import GLIOMA
from anymri.engine.run import checked_run
from anymri.errors import UsageError

from ..material import made_batch, short_run, with_absent

NONE = Artefacts(bias=0, thick=0, motion=0, noise=0, slab=0)
STRONG = Artefacts(bias=0.8, thick=0.8, motion=0.8, noise=0.8, slab=0.8)
ALL = torch.ones(4, dtype=torch.bool)


def drawn(settings: Artefacts, seed: int = 0, batch: int = 2) -> ArtefactsDraw:
    return draw_artefacts(settings, batch, 4, torch.Generator().manual_seed(seed))


def made(settings: Artefacts, seed: int = 0, batch: Batch | None = None) -> Batch:
    batch = batch or made_batch(GLIOMA, edge=16)
    draw = drawn(settings, seed)
    pairs = [
        with_artefacts(image, target, present, draw, b)
        for b, (image, target, present) in enumerate(zip(batch.image_BMDHW, batch.target_BRDHW, batch.present_BM, strict=True))
    ]
    return replace(batch, image_BMDHW=torch.stack([p[0] for p in pairs]), target_BRDHW=torch.stack([p[1] for p in pairs]))


def test_nothing_drawn_changes_nothing() -> None:
    batch = made_batch(GLIOMA, edge=16)
    found = made(NONE)
    assert torch.equal(found.image_BMDHW, batch.image_BMDHW) and torch.equal(found.target_BRDHW, batch.target_BRDHW)


def test_the_same_seed_gives_the_same_bits() -> None:
    first, again, other = (made(STRONG, seed).image_BMDHW for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_background_stays_zero() -> None:
    batch = made_batch(GLIOMA, edge=16)
    for seed in range(5):
        assert (made(STRONG, seed).image_BMDHW[batch.image_BMDHW == 0] == 0).all()


@pytest.mark.parametrize("kind", ["bias", "thick", "motion", "noise"])
def test_each_alone_changes_images_and_no_reference(kind: str) -> None:
    batch, found = made_batch(GLIOMA, edge=16), made(NONE.model_copy(update={kind: 1.0}))
    brain = batch.image_BMDHW != 0
    assert (found.image_BMDHW != batch.image_BMDHW)[brain].float().mean() > 0.9
    assert torch.equal(found.target_BRDHW, batch.target_BRDHW)


def test_what_is_absent_stays_and_does_not_spread() -> None:
    batch = made_batch(GLIOMA, edge=16, present=((True, False, True, True), (False, True, True, False)))
    for seed in range(6):
        zero, spoilt = (made(STRONG, seed, with_absent(batch, v)) for v in (0.0, torch.nan))
        assert torch.equal(zero.image_BMDHW[batch.present_BM], spoilt.image_BMDHW[batch.present_BM])
        assert spoilt.image_BMDHW[~batch.present_BM].isnan().all() and torch.equal(zero.target_BRDHW, spoilt.target_BRDHW)


@pytest.mark.parametrize("end", range(6))
def test_where_no_image_shows_anything_nothing_is_to_be_segmented(end: int) -> None:
    batch = made_batch(GLIOMA, edge=16, size=1)
    settings = Artefacts(bias=0, thick=0, motion=0, noise=0, slab=1, slab_extent=(0.25, 0.25), slab_all=1)
    draw = replace(drawn(settings, batch=1), end_B=torch.tensor([end]))
    image, target = with_artefacts(batch.image_BMDHW[0], batch.target_BRDHW[0], ALL, draw, 0)
    start = 12 if end % 2 else 0
    for found, before in ((image, batch.image_BMDHW[0]), (target, batch.target_BRDHW[0])):
        assert not found.narrow(1 + end // 2, start, 4).any()
        assert torch.equal(
            found.narrow(1 + end // 2, 0 if end % 2 else 4, 12), before.narrow(1 + end // 2, 0 if end % 2 else 4, 12)
        )


def test_one_image_at_hand_shows_the_whole_unless_none_does() -> None:
    batch = made_batch(GLIOMA, edge=16, present=((True, False, True, False),) * 2)
    settings = Artefacts(bias=0, thick=0, motion=0, noise=0, slab=1, slab_extent=(0.5, 0.5), slab_all=0)
    cut = 0
    for seed in range(20):
        found = made(settings, seed, batch)
        whole = (found.image_BMDHW == batch.image_BMDHW).flatten(2).all(2)
        assert whole[:, [0, 2]].any(1).all() and whole[:, [1, 3]].all()
        assert torch.equal(found.target_BRDHW, batch.target_BRDHW)
        cut += int((~whole).sum())
    assert 8 < cut < 32  # Of 40: the one of two that is not spared, half of the time.


def test_how_often_and_how_much() -> None:
    draw, settings = drawn(Artefacts(), batch=2000), Artefacts()
    for values, still, probability in (
        (draw.bias_BMN.abs().amax(2), 0.0, settings.bias),
        (draw.thickness_BM, 1.0, settings.thick),
        (draw.ghosts_BM, 0, settings.motion),
        (draw.noise_BM, 0.0, settings.noise),
        (draw.slab_B, 0.0, settings.slab),
    ):
        assert (values != still).float().mean().item() == pytest.approx(probability, abs=0.03)
    assert draw.bias_BMN.abs().max() <= settings.bias_log and draw.noise_BM.max() <= settings.noise_level
    assert settings.slab_extent[0] <= draw.slab_B[draw.slab_B > 0].min() and draw.slab_B.max() <= settings.slab_extent[1]
    assert set(draw.ghosts_BM.unique().tolist()) == {0, 2, 3, 4, 5, 6}


def test_a_part_of_augmentation_that_is_drawn_last() -> None:
    batch = made_batch(GLIOMA, edge=16)

    def of(settings: Augmentation) -> Batch:
        return apply_augmentation(batch, draw_augmentation(settings, 2, 4, torch.Generator().manual_seed(0)))

    without, still, strong = (of(Augmentation(artefacts=a)) for a in (None, NONE, STRONG))
    assert torch.equal(without.image_BMDHW, still.image_BMDHW) and torch.equal(without.target_BRDHW, still.target_BRDHW)
    assert not torch.equal(without.image_BMDHW, strong.image_BMDHW)
    assert Augmentation.none().model_copy(update={"artefacts": NONE}).recolours


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"augmentation": {"artefacts": {"ghosts": [6, 2]}}}, "augmentation.artefacts.ghosts': a range from 6 to 2; .* at least 2"),
        ({"augmentation": {"artefacts": {"ghosts": [0, 2]}}}, "augmentation.artefacts.ghosts': a range from 0 to 2; .* at least 2"),
        ({"augmentation": {"artefacts": {"slab_extent": [0.5, 2]}}}, "slab_extent': .* from 0.5 to 2; .* at least 0 and at most 1"),
        ({"augmentation": {"artefacts": {"slab_extent": [-0.1, 0.5]}}}, "slab_extent': a range from -0.1 to 0.5"),
        ({"generation": {"artefacts": {"thickness": [0.5, 3]}}}, "generation.artefacts.thickness': .* 0.5 to 3; .* at least 1"),
        ({"generation": {"artefacts": {"thickness": [3, 2]}}}, "generation.artefacts.thickness': a range from 3 to 2"),
        (
            {"generation": {"mass_effect_mm": [10, 2]}},
            "generation.mass_effect_mm': a range from 10 to 2; expected the lower end first",
        ),
        ({"generation": {"mass_effect_mm": [-1, 2]}}, "generation.mass_effect_mm': a range from -1 to 2; .* both at least 0"),
        ({"augmentation": {"sizes": [1.4, 0.7]}}, "augmentation.sizes': a range from 1.4 to 0.7"),
        ({"augmentation": {"sizes": [0, 1]}}, "augmentation.sizes': a range from 0 to 1; .* both above 0"),
        ({"augmentation": {"flip": [0.5, 2, 0]}}, "augmentation.flip.1': Input should be less than or equal to 1; found 2"),
        ({"augmentation": {"rotation_degrees": float("inf")}}, "augmentation.rotation_degrees': Input should be a finite number"),
    ],
)
def test_a_range_that_is_none_is_one_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"^setting '.*{said}") as caught:
        checked_run({**short_run("dropout_unet").model_dump(), **settings})
    assert "\n" not in str(caught.value)


def test_a_range_may_be_one_value_and_reach_its_bounds() -> None:
    settings = Artefacts(thickness=(1.0, 1.0), ghosts=(2, 2), slab_extent=(0.0, 1.0), thick=1, motion=1, slab=1)
    found = made(settings)
    assert found.image_BMDHW.isfinite().all() and drawn(settings).ghosts_BM.eq(2).all()
