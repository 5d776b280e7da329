"""Words of a command that contradict each other, name nothing, or are out of range."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ..entry import Entry, Kit, Refused

KIND = "command line"
# Placeholders: OUT where results go, T1 a good image, STUDY a good study, DATA a prepared cohort, RUN a run, W good weights.
_LINES: tuple[tuple[str, str], ...] = (
    ("nonsense", "No such command 'nonsense'"),
    ("segment", "give either"),
    ("segment --t1 T1 STUDY", "give either"),
    ("weights where --name", "No such option: --name"),
    ("prepare STUDY OUT --task", "requires an argument"),
    ("segment --t1 T1 --nonsense", "No such option: --nonsense"),
    ("segment --t1 T1 --t1 T1", "T1 was given 2 times"),
    ("segment --t1 T1 --image T1=T1", "T1 was given 2 times"),
    ("segment --image PET=T1", "'PET' is unknown"),
    ("segment --t1 T1 --precision half", "precision 'half' is unknown"),
    ("segment --t1 T1 --device abacus", "abacus"),
    ("segment --t1 T1 --device cuda:999", "cuda:999"),
    ("segment --t1 T1 --labels brats1999", "brats1999"),
    ("segment --t1 T1 --labels wt", "scheme wt cannot write"),
    ("segment --t1 T1 --weights nobody", "'nobody' are neither"),
    ("segment --t1 T1 --workers 0", "--workers"),
    ("segment --t1 T1 --workers -1", "--workers"),
    ("segment --t1 T1 --workers 1e9", "--workers"),
    ("segment --cohort nowhere", "nowhere"),
    ("segment --cohort STUDY --shard 0/2", "shard"),
    ("segment --cohort STUDY --shard 3/2", "shard"),
    ("segment --cohort STUDY --shard a/b", "shard"),
    ("segment --cohort STUDY --shard 1", "shard"),
    ("segment --cohort STUDY --t1 T1", "cohort"),
    ("prepare", "Missing argument 'source'"),
    ("prepare STUDY", "Missing argument 'out'"),
    ("prepare STUDY OUT --layout magic", "layout 'magic' is unknown"),
    ("prepare STUDY OUT --task knee", "knee"),
    ("prepare STUDY OUT --task prostate", "prostate|T2w"),
    ("prepare STUDY OUT --scheme brats1999", "brats1999"),
    ("prepare STUDY OUT --scheme brats2023", "holds the value 4"),
    ("prepare STUDY OUT --workers 0", "--workers"),
    ("prepare STUDY OUT --workers many", "--workers"),
    ("prepare STUDY OUT --layout msd", "dataset.json|MSD|msd"),
    ("prepare STUDY OUT --layout nnunet", "dataset.json|nnU-Net|nnunet"),
    ("prepare STUDY OUT --layout bids", "BIDS|bids|sub-"),
    ("prepare STUDY OUT --layout table", "table"),
    ("train --data DATA --out OUT", "give either a method or recipe"),
    ("train ccsd --from RUN --data DATA --out OUT", "give either a method or recipe"),
    ("train magic --data DATA --out OUT", "magic"),
    ("train ccsd.huge --data DATA --out OUT", "huge"),
    ("train ccsd --data nowhere --out OUT", "nowhere"),
    ("train ccsd --data DATA --out OUT --steps 0", "--steps"),
    ("train ccsd --data DATA --out OUT --steps -5", "--steps"),
    ("train ccsd --data DATA --out OUT --steps 1.5", "--steps"),
    ("train ccsd --data DATA --out OUT --steps 1 --minutes 1", "not both"),
    ("train ccsd --data DATA --out OUT --minutes 0", "minutes"),
    ("train ccsd --data DATA --out OUT --minutes nan", "minutes"),
    ("train ccsd --data DATA --out OUT --minutes inf", "minutes"),
    ("train ccsd --data DATA --out OUT --minutes -1", "minutes"),
    ("train ccsd --data DATA --out OUT --steps 1 --fold 7", "fold 7 does not exist"),
    ("train ccsd --data DATA --out OUT --steps 1 --fold -1", "fold -1 does not exist"),
    ("train ccsd --data DATA --out OUT --steps 1 --seed -1", "seed"),
    ("train ccsd --data DATA --out OUT --steps 1 --seed x", "--seed"),
    ("train ccsd --data DATA --out OUT --steps 1 --init nobody", "'nobody' are neither"),
    ("train ccsd --data DATA --out OUT --steps 1 --init T1 --set validation=0", "not a safetensors file"),
    ("train ccsd --data DATA --out OUT --steps 1 --set batch", "expected FIELD=VALUE"),
    ("train ccsd --data DATA --out OUT --steps 1 --set batch=0", "batch"),
    ("train ccsd --data DATA --out OUT --steps 1 --set batch=many", "batch"),
    ("train ccsd --data DATA --out OUT --steps 1 --set nonsense=1", "nonsense"),
    ("train ccsd --data DATA --out OUT --steps 1 --set a.b.c=1", "no group 'a'"),
    ("train ccsd --data DATA --out OUT --steps 1 --set =1", "FIELD=VALUE|setting"),
    ("train ccsd --data DATA --out OUT --steps 1 --set learning_rate=Infinity", "learning_rate"),
    ("train ccsd --data DATA --out OUT --steps 1 --set learning_rate=NaN", "learning_rate"),
    ("train ccsd --data DATA --out OUT --steps 1 --set patch=[7,7,7]", "patch"),
    ("train ccsd --data DATA --out OUT --steps 1 --set patch=[0,0,0]", "patch"),
    ("train ccsd --data DATA --out OUT --steps 1 --set patch=BRACKETS", "patch"),
    ("train ccsd --data DATA --out OUT --steps 1 --set config.nonsense=1", "nonsense"),
    ("train ccsd --data DATA --out OUT --steps 1 --set task=prostate", "prostate"),
    ("train ccsd --data DATA --out OUT --steps 1 --set validation=99", "too few"),
    ("train --resume --out OUT --data DATA", "run.json"),
    ("train --from nowhere --out OUT --data DATA", "nowhere"),
    ("train --from RUN --data DATA --out OUT --device abacus", "abacus"),
    ("evaluate", "Missing argument|give either"),
    ("evaluate nobody --data DATA --out OUT.csv", "'nobody' are neither"),
    ("evaluate W --data nowhere --out OUT.csv", "nowhere"),
    ("evaluate W --data DATA --out OUT.txt", "ends in .csv"),
    ("evaluate W --data DATA --out OUT.csv --protocol magic", "magic"),
    ("evaluate W --data DATA --out OUT.csv --fold 9", "fold 9 does not exist"),
    ("evaluate W --data DATA --out OUT.csv --fold x", "--fold"),
    ("evaluate W --data DATA --out OUT.csv --device abacus", "abacus"),
    ("evaluate W --data DATA --out OUT.csv --masks STUDY", "masks"),
    ("evaluate --data DATA --out OUT.csv --masks nowhere", "nowhere|masks"),
    ("report --out OUT", "give|expected|no "),
    ("report nowhere --out OUT", "nowhere"),
    ("report T1 --out OUT", "good_t1"),
    ("report --published nobody --out OUT", "nobody"),
    ("report W --out OUT", "untrained"),
    ("list", "Missing argument 'what'"),
    ("list nonsense", "'nonsense' cannot be listed"),
    ("weights where", "Missing argument 'name'"),
    ("weights where nobody", "'nobody' are neither"),
    ("weights import", "Missing argument 'file'"),
    ("weights import nowhere", "nowhere"),
    ("weights import T1", "not a safetensors file"),
    ("weights nonsense", "No such command 'nonsense'"),
)


def entries() -> Iterator[Entry]:
    """Yield the entries."""
    for line, says in _LINES:
        yield Refused(KIND, line, partial(_words, line), says, batch=True)


def _words(line: str, folder: Path, kit: Kit) -> list[object]:
    places: dict[str, object] = {
        "OUT": folder / "out",
        "OUT.csv": folder / "scores.csv",
        "OUT.txt": folder / "scores.txt",
        "T1": kit.image("t1"),
        "T1=T1": f"T1={kit.image('t1')}",
        "PET=T1": f"PET={kit.image('t1')}",
        "STUDY": kit.study,
        "DATA": kit.prepared,
        "RUN": kit.run,
        "W": kit.weights,
        "patch=BRACKETS": "patch=" + "[" * 50_000,
    }
    return [places.get(word, word) for word in line.split()]
