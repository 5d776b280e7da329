"""anymri calibrate."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from anymri.cli.options import Data, Device, Out, progress_bar
from anymri.errors import UsageError, one_line

_ENDING = ".trust.json"


def calibrate(
    weights: Annotated[list[str], typer.Argument(metavar="WEIGHTS_OR_RUN", help="Weights, or the runs of several folds.")],
    data: Data = Path("prepared"),
    out: Out = Path("weights.trust.json"),
    fold: Annotated[
        int | None, typer.Option(help="Fold to ask about; what the weights were not trained on if none is given.")
    ] = None,
    also: Annotated[
        list[str] | None, typer.Option("--for", metavar="WEIGHTS", help="Weights trained likewise on all cases: it is theirs, too.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Measure how far to trust weights: calibration, expected Dice and which missing modality helps, on cases new to them."""
    from anymri.engine.inference import device_named
    from anymri.trust.measurement import assigned, measure
    from anymri.trust.record import beside, write_trust
    from anymri.weights import load_model, named

    if not out.name.endswith(_ENDING):
        raise UsageError(f"--out {out}: expected a file that ends in {_ENDING}, named as the weights that it will lie beside")
    models, others = [load_model(name) for name in weights], [load_model(name) for name in also or []]
    pairs = assigned(models, data, fold=fold)
    asked = _circumstances(models[0])
    for other in others:
        for what, value in _circumstances(other).items():
            if value != asked[what]:
                said = f"'{other.header.name}' was trained with {what} {value}, what is measured with {asked[what]}"
                print(one_line(f"note: {said}: how far it is to be trusted may differ"), file=sys.stderr)
    parts = out.with_name(f".{out.name}.parts")
    with progress_bar("asking", len(pairs)) as advance:
        record = measure(
            pairs, others, parts=parts, device=device_named(device), report=lambda done, total, name: advance(done, name)
        )
    write_trust(out, record)
    shutil.rmtree(parts, ignore_errors=True)
    for region, measured in record.regions.items():
        _print(region, measured.checks, measured.belief.empty)
    print(f"{record.cases} cases of {record.cohort}, each by what the others taught; trust in {out}")
    print(f"SHA-256 {hashlib.sha256(out.read_bytes()).hexdigest()}")
    places = [line for name in [*weights, *(also or [])] if beside((line := named(name)).file).resolve() != out.resolve()]
    if free := [str(beside(line.file)) for line in places if not line.trust]:
        print(f"it is used where it lies beside the weights: copy it to {', '.join(free)}")
    for line in places:
        if line.trust:
            print(f"{line.name} has a trust file that is told by its hash; to use this one, put it beside a copy of {line.file}")


def _circumstances(model: Any) -> dict[str, str]:
    """Return in what trainings of one method and configuration may still differ."""
    training = model.header.training
    cohort, material = training.cohort.get("name"), training.material.get("sha256")
    return {"budget": training.budget or "unknown", "cohort": cohort or "unknown", "material": material or "none"}


def _print(region: str, checks: Any, empty: Any) -> None:
    before, after, dice, advice = checks.calibration["raw"], checks.calibration["fitted"], checks.dice, checks.advice
    space = " " * len(region)
    print(
        f"{region}  calibration error {before.everywhere['all']:.2%} → {after.everywhere['all']:.2%}, "
        f"near the tumour {before.band['all']:.2%} → {after.band['all']:.2%}"
    )
    if dice is None:
        print(f"{space}  no Dice is expected: too few cases had a mask that was not empty")
    else:
        print(
            f"{space}  expected Dice off by {dice.mean_absolute_error:.3f} ({dice.by_modalities_alone:.3f} from the "
            f"modalities alone), correlation {dice.correlation:.2f}, {dice.coverage:.0%} in the range"
        )
    if caution := checks.caution:
        warned = caution.doubtful_poor + caution.uncertain_poor
        print(
            f"{space}  caution: {warned} of {caution.poor} masks with a Dice below 0.5 were warned of; right were "
            f"{caution.doubtful_poor} of {caution.doubtful} 'do not rely on', "
            f"{caution.uncertain_poor} of {caution.uncertain} 'may be wrong'"
        )
    if empty.masks:
        print(
            f"{space}  {empty.masks} empty masks of {empty.cases} cases, {empty.right} of them rightly; in no range and no advice"
        )
    if advice is not None:
        print(
            f"{space}  advice: best in {advice.best:.0%} of {advice.choices} choices"
            + (f" ({advice.unnamed} more where none is named)" if advice.unnamed else "")
            + f", gains {advice.gain:.3f} of {advice.possible:.3f} possible; always "
            + ", ".join(
                f"{name} {a.gain:.3f} and best in {a.best:.0%} (advice there {a.advised:.3f}, {a.advised_best:.0%})"
                for name, a in advice.always.items()
            )
        )
