"""What the layouts share: walking through folders, reading what lies beside the images, telling cases apart."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from anymri.domain.case import Split, Study
from anymri.errors import CaseError, InputFileError
from anymri.volumes.images import ending_of
from anymri.volumes.store import read_split

LeftOut = list[tuple[Path, str]]
_LARGEST = 2**26  # Bytes of a description; the longest list of cases stays far below.


def walk(source: Path) -> Iterator[Path]:
    """Yield every file below a folder that is not hidden, sorted; links are followed, each real folder once, so that loops end."""
    seen: set[str] = set()
    for folder, children, files in os.walk(source, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            children.clear()
            continue
        seen.add(real)
        children[:] = sorted(c for c in children if not c.startswith("."))
        yield from (Path(folder, f) for f in sorted(files) if not f.startswith("."))


def stem_of(path: Path) -> str | None:
    """Return the name of an image file without its ending; None if it is no image that can be read."""
    ending = ending_of(path.name)
    return path.name[: -len(ending)] if ending else None


def checked_folder(source: Path, expected: str) -> None:
    """Make sure that a source is a folder.

    Raises:
        InputFileError: If it is not.
    """
    if not source.is_dir():
        found = "is a file" if source.is_file() else "is not a folder"
        raise InputFileError(f"{source}: {found}; expected {expected}")


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Raises:
        InputFileError: If it cannot be read or is none.
    """
    expected = "expected a JSON object"
    try:
        if path.stat().st_size > _LARGEST:
            raise InputFileError(f"{path}: is {path.stat().st_size} bytes long; {expected} of at most {_LARGEST}")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputFileError(f"{path}: not found; {expected}") from None
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise InputFileError(f"{path}: is no JSON ({error}); {expected}; correct it") from error
    if not isinstance(content, dict):
        raise InputFileError(f"{path}: holds {type(content).__name__}; {expected}; correct it")
    return content


def inside(folder: Path, text: str) -> Path | None:
    """Return the file that a path in a description means, relative to the description's folder; None if it leads out of that."""
    if not text.strip() or "\0" in text or "\\" in text or PurePosixPath(text).is_absolute():
        return None
    parts = PurePosixPath(os.path.normpath(text)).parts
    return None if not parts or parts[0] == ".." else folder.joinpath(*parts)


def distinct(studies: Iterable[Study], left_out: LeftOut) -> list[Study]:
    """Return the studies sorted by name, without those that share theirs: which one is meant cannot be told."""
    by_name: dict[str, list[Study]] = defaultdict(list)
    for study in studies:
        by_name[study.name].append(study)
    for same in (s for s in by_name.values() if len(s) > 1):
        folders = [next(iter(s.images.values())).path.parent for s in same]
        for i, folder in enumerate(folders):
            left_out.append((folder, f"{same[0].name} is also in {folders[0 if i else 1]}; rename or remove one"))
    return [same[0] for _, same in sorted(by_name.items()) if len(same) == 1]


def first_reason(left_out: LeftOut) -> str:
    """Return the first reason in brackets, for an error that says that nothing is left."""
    return f" ({left_out[0][0].name}: {left_out[0][1]})" if left_out else ""


def split_beside(source: Path, names: set[str]) -> Split | None:
    """Return the folds that a splits.json in the folder describes, if there is one.

    Raises:
        CaseError: If it is damaged or names cases that are not there.
    """
    path = source / "splits.json"
    if not path.is_file():
        return None
    split = read_split(path)
    missing = [n for part in (*split.folds, split.train_only) for n in part if n not in names]
    if missing:
        shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        raise CaseError(f"{path}: names {len(missing)} cases that are not there: {shown}; add them or take them out")
    return split
