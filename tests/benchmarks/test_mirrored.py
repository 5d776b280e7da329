"""A window and its mirror image get mirrored answers, and only then; what is gained is counted in the mirrored table's favour."""

from __future__ import annotations

import torch

from anymri.domain.task import GLIOMA
from anymri.methods.ccsd import CCSDConfig
from anymri.metrics.scores import Score, ScoreTable

from ..material import benchmark

script = benchmark("mirrored")


def test_a_mirrored_window_gets_the_mirrored_answer() -> None:
    torch.manual_seed(0)
    method = CCSDConfig.sized("tiny").build(GLIOMA).eval()
    image, every, here = torch.randn(1, 4, 16, 16, 16), torch.ones((1, 4), dtype=torch.bool), torch.zeros((1, 3), dtype=torch.int64)
    keep = torch.tensor([[True, False, True, False]])
    answers = {}
    for name, engine in {"plain": method, "both": script.Mirrored(method)}.items():
        with torch.inference_mode():
            found = [engine.decode_window(engine.encode(x, every, here), keep) for x in (image, image.flip(2))]
        answers[name] = [engine.finish(logits, [note]) for logits, note in found]
    (plain, plain_of_mirrored), (both, both_of_mirrored) = answers["plain"], answers["both"]
    torch.testing.assert_close(both, both_of_mirrored.flip(2))
    torch.testing.assert_close(both, (plain + plain_of_mirrored.flip(2)) / 2)
    assert not torch.allclose(plain, both, atol=1e-3)


def test_a_gain_is_that_of_the_mirrored_over_the_plain() -> None:
    def scored(single: float, every: float) -> ScoreTable:
        dice = {"T1": single, "T1+T2": every}
        return ScoreTable(
            tuple(Score("m", "c", f"p{c}", s, "WT", "dice", d, "1", 0, "r", "anymri") for c in range(3) for s, d in dice.items())
        )

    found = script.gains(scored(0.5, 0.8), scored(0.4, 0.8))
    assert {part: round(rows[0].estimate.value, 6) for part, rows in found.items()} == {"all subsets": 0.05, "all modalities": 0.0}
