"""What an entry of the corpus is: files made by code, the words of a command, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kit:
    """What is good, made once: an entry takes of it what it does not spoil itself.

    Attributes:
        weights: Untrained tiny weights for gliomas.
        prostate: The same for another task.
        study: A folder with the files of one patient under the names of BraTS.
        prepared: A prepared cohort of two cases in two folds.
        run: A finished run folder.
    """

    weights: Path
    prostate: Path
    study: Path
    prepared: Path
    run: Path

    def image(self, suffix: str) -> Path:
        """Return a good file of the patient."""
        return self.study / f"good_{suffix}.nii.gz"


Words = Callable[[Path, Kit], Sequence[object]]


@dataclass(frozen=True)
class Refused:
    """Bad input that a command must refuse: one line, exit code 2, nothing written.

    Attributes:
        kind: Group of the corpus.
        name: What is wrong.
        words: Writes files into a folder and returns the words of the command; the folder ``out`` in it is where results go.
        says: Pattern that the line must hold.
        batch: Whether lines that begin with ``failed: `` or ``left out: `` or ``note: `` may come before it.
        leaves: Paths in ``out`` that the documentation allows to be left.
    """

    kind: str
    name: str
    words: Words
    says: str
    batch: bool = False
    leaves: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unread:
    """Bad input that a reader must refuse: an ``AnymriError`` of one line that names the file.

    Attributes:
        kind: Group of the corpus.
        name: What is wrong.
        read: Writes a file into a folder and reads it.
        says: Pattern that the line must hold.
    """

    kind: str
    name: str
    read: Callable[[Path], object]
    says: str


@dataclass(frozen=True)
class Harmless:
    """Odd input that means the same: the check fails if anything differs.

    Attributes:
        kind: Group of the corpus.
        name: What is odd.
        check: Writes into a folder, reads, and compares.
    """

    kind: str
    name: str
    check: Callable[[Path], object]


Entry = Refused | Unread | Harmless
