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
_CHECK_ENDING = ".check.json"


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
    checked: Annotated[
        str | None,
        typer.Option(
            "--check", metavar="TRUST", help="Measure nothing anew: how far does this trust file, or that of these weights, hold?"
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Measure how far to trust weights: calibration, expected Dice and which missing modality helps, on cases new to them."""
    from anymri.engine.inference import device_named
    from anymri.trust.measurement import assigned, check, measure
    from anymri.trust.record import TrustCheck, write_trust
    from anymri.weights import load_model

    _check_out(out, checked, also)
    models, others = [load_model(name) for name in weights], [load_model(name) for name in also or []]
    trust = None if checked is None else _trust_of(checked, models)
    pairs = assigned(models, data, fold=fold)
    _note_differences(models[0], others)
    where, parts = device_named(device), out.with_name(f".{out.name}.parts")
    with progress_bar("asking", len(pairs)) as advance:
        how: Any = {"parts": parts, "device": where, "report": lambda done, total, name: advance(done, name)}
        found = measure(pairs, others, **how) if trust is None else check(pairs, trust, **how)
    write_trust(out, found)
    shutil.rmtree(parts, ignore_errors=True)
    if isinstance(found, TrustCheck):
        for region, held in found.regions.items():
            _print(region, held.checks, held.empty)
        print(f"{found.cases} cases of {found.cohort}, all by what the trust file of {checked} says; figures in {out}")
        return
    for region, measured in found.regions.items():
        _print(region, measured.checks, measured.belief.empty)
    print(f"{found.cases} cases of {found.cohort}, each by what the others taught; trust in {out}")
    _say_where_it_belongs(out, [*weights, *(also or [])])


def _check_out(out: Path, checked: str | None, also: list[str] | None) -> None:
    if checked is None and not out.name.endswith(_ENDING):
        raise UsageError(f"--out {out}: expected a file that ends in {_ENDING}, named as the weights that it will lie beside")
    if checked is not None and not out.name.endswith(_CHECK_ENDING):
        raise UsageError(f"--out {out}: --check makes figures and no trust file; give a file that ends in {_CHECK_ENDING}")
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; expected a file to write")
    if checked is not None and also:
        raise UsageError("--for and --check: a check makes no trust file that could be lent; leave one of them out")


def _trust_of(checked: str, models: list[Any]) -> Any:
    """Return the trust file that is to be checked, given as a file or by its weights; note whose it is not."""
    from anymri.trust.measurement import check_fits
    from anymri.trust.record import read_trust
    from anymri.weights import load_model, load_trust

    if checked.endswith(".json"):
        if not Path(checked).is_file():
            raise UsageError(f"--check {checked}: there is no such file; expected a trust file, or weights that have one")
        trust = read_trust(Path(checked), weights=None)
    elif (trust := load_trust(checked, load_model(checked))) is None:
        raise UsageError(
            f"--check {checked}: no trust file lies beside these weights; 'anymri calibrate' without --check makes one"
        )
    check_fits(models, trust)
    for model in models:
        if model.sha256 not in trust.record.weights:
            said = f"'{model.header.name}' is not among the weights that the trust file belongs to"
            print(one_line(f"note: {said}: it is checked as if it were lent to them"), file=sys.stderr)
    return trust


def _note_differences(model: Any, others: list[Any]) -> None:
    asked = _circumstances(model)
    for other in others:
        for what, value in _circumstances(other).items():
            if value != asked[what]:
                said = f"'{other.header.name}' was trained with {what} {value}, what is measured with {asked[what]}"
                print(one_line(f"note: {said}: how far it is to be trusted may differ"), file=sys.stderr)


def _say_where_it_belongs(out: Path, weights: list[str]) -> None:
    from anymri.trust.record import beside
    from anymri.weights import named

    print(f"SHA-256 {hashlib.sha256(out.read_bytes()).hexdigest()}")
    places = [line for name in weights if beside((line := named(name)).file).resolve() != out.resolve()]
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
        f"{region}  calibration error {before.everywhere['each']:.2%} → {after.everywhere['each']:.2%}, "
        f"near the tumour {before.band['each']:.2%} → {after.band['each']:.2%} "
        f"({after.band['patient']:.2%} in a single patient)"
    )
    if dice is None:
        print(f"{space}  no Dice is expected: too few masks were not empty")
    else:
        alone = "" if dice.by_modalities_alone is None else f" ({dice.by_modalities_alone:.3f} from the modalities alone)"
        print(
            f"{space}  expected Dice off by {dice.mean_absolute_error:.3f}{alone}, correlation {dice.correlation:.2f}, "
            f"{dice.coverage:.0%} in the range"
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
