"""Weights by name: those that come with the package, whose hashes are in manifest.json, and those that were imported."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymri.engine.model import Model, read_model
from anymri.errors import OutputError, WeightsError
from anymri.methods import method_named
from anymri.trust.record import Trust, beside, read_trust
from anymri.volumes.store import parsed_json, write_json
from anymri.volumes.writing import replacing

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Known:
    """Weights that can be named.

    Attributes:
        name: The word on the command line.
        file: The safetensors file.
        sha256: What it must hash to.
        task: Name of the task.
        default: Whether it is used when no weights are named.
        holds: What it holds of single patients, as its method says; empty if nothing.
        trust: What the trust file beside it must hash to; empty if that is not known.
    """

    name: str
    file: Path
    sha256: str
    task: str
    default: bool = False
    holds: str = ""
    trust: str = ""

    @property
    def caution(self) -> str:
        """A line for whoever might pass the weights on; empty if there is no reason for one."""
        return caution(self.holds)


def caution(holds: str) -> str:
    """Return a line on weights that hold something of single patients; empty if they hold nothing."""
    if not holds:
        return ""
    return f"these weights hold {holds}; do not pass them on unless those who answer for the patients' data have agreed"


def imported_folder() -> Path:
    """Return where imported weights lie: $ANYMRI_WEIGHTS, or the user's data folder."""
    if "ANYMRI_WEIGHTS" in os.environ:
        return Path(os.environ["ANYMRI_WEIGHTS"])
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "anymri" / "weights"


def known() -> tuple[Known, ...]:
    """Return all weights that can be named: the package's first."""
    found = []
    for folder in (FOLDER, imported_folder()):
        manifest = folder / "manifest.json"
        if manifest.is_file():
            found += [_line(w, manifest) for w in _lines(manifest)]
    return tuple(found)


def _lines(manifest: Path) -> list[dict[str, Any]]:
    try:
        lines = parsed_json(manifest)["weights"]
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{manifest}: damaged ({error}); remove it and import the weights again") from None
    keys = ("name", "file", "sha256", "task")
    if not isinstance(lines, list) or not all(isinstance(w, dict) and all(isinstance(w.get(k), str) for k in keys) for w in lines):
        raise WeightsError(f"{manifest}: damaged (a line without {', '.join(keys)}); remove it and import the weights again")
    return lines


def _line(content: dict[str, Any], manifest: Path) -> Known:
    file = manifest.parent / content["file"]
    holds, trust = (found if isinstance(found := content.get(key), str) else "" for key in ("holds", "trust"))
    return Known(content["name"], file, content["sha256"], content["task"], content.get("default") is True, holds, trust)


def named(name: str | Path | None) -> Known:
    """Return weights by name, by path of a file or of a run folder, or the default ones.

    Raises:
        WeightsError: If there are none, their file is gone, or what lies here has the name of others.
    """
    lines = known()
    path = Path(name or "") / "weights.safetensors" if Path(name or "").is_dir() else Path(name or "")
    for line in lines:
        if not (line.default if name is None else str(name) == line.name):
            continue
        if name is not None and path.is_file():
            raise WeightsError(
                f"'{name}' is the name of weights in {line.file.parent} and of what lies here; give ./{name} for what lies here, "
                f"or {line.file} for the others"
            )
        if not line.file.is_file():
            raise WeightsError(
                f"{line.file}: not found, though {line.file.with_name('manifest.json')} names it; import '{line.name}' again"
            )
        return line
    if name is None:
        raise WeightsError("no weights come with this installation; name a .safetensors file")
    if not path.is_file():
        known_names = ", ".join(w.name for w in lines) or "(none is installed)"
        raise WeightsError(f"weights '{name}' are neither a file nor a run folder nor one of {known_names}")
    return Known(path.stem, path, "", "")


def load_model(name: str | Path | None = None) -> Model:
    """Return the model of some weights, as ``named`` finds them.

    Raises:
        WeightsError: If there are none of that name, the file cannot be trusted, or it is for another task than it is listed for.
    """
    return model_of(named(name))


def model_of(line: Known) -> Model:
    """Return the model of weights that were found.

    Raises:
        WeightsError: As ``load_model``.
    """
    model = read_model(line.file, sha256=line.sha256 or None)
    if line.task and line.task != model.header.task:
        raise WeightsError(
            f"{line.file}: weights for task {model.header.task}, but {line.file.with_name('manifest.json')} lists them for "
            f"{line.task}; import the weights again"
        )
    return model


def load_trust(name: str | Path | None, model: Model) -> Trust | None:
    """Return how far to trust some weights, from the file beside them; None if that has not been measured.

    A copy of weights that can be named is trusted as they are.

    Args:
        name: As for ``load_model``.
        model: What that returned.

    Raises:
        WeightsError: If there is a trust file and it is damaged, was changed, or belongs to other weights.
    """
    return _trust(named(name), model.sha256) or trust_of(model)


def namesake(model: Model) -> str:
    """Return a line on weights that bear the name of others that can be named; empty if they do not."""
    name = model.header.name
    if all(line.name != name or line.sha256 == model.sha256 for line in known()):
        return ""
    return (
        f"These weights call themselves {name}, but are not the {name} of 'anymri weights list': changed, damaged or trained anew."
    )


def verify(line: Known) -> None:
    """Check weights and their trust file against their hashes, whatever else has their name where one stands.

    Raises:
        WeightsError: If one is missing, damaged, was changed, or does not belong to the other.
    """
    _trust(line, model_of(line).sha256)


def trust_of(model: Model) -> Trust | None:
    """Return how far to trust a model whose weights came with the package or were imported; None for any other.

    Raises:
        WeightsError: As ``load_trust``.
    """
    line = next((line for line in known() if model.sha256 and line.sha256 == model.sha256), None)
    return None if line is None else _trust(line, model.sha256)


def _trust(line: Known, sha256: str) -> Trust | None:
    path = beside(line.file)
    if not line.trust and not path.exists():
        return None
    return read_trust(path, weights=sha256, sha256=line.trust or None)


def import_file(path: Path) -> Known:
    """Check a weights file and keep a copy under the name in its header, and of the trust file beside it if there is one.

    If there is none, the one of an earlier import goes: what is said of the weights is what came with them.

    Raises:
        WeightsError: If the file cannot be trusted, comes with the package, or other weights have that name.
        OutputError: If the folder cannot be written.
    """
    model = read_model(path)
    measured = read_trust(beside(path), weights=model.sha256) if beside(path).exists() else None
    name, folder = model.header.name, imported_folder()
    if any(line.file.parent == FOLDER and line.sha256 == model.sha256 for line in known()):
        raise WeightsError(f"{path}: these weights come with the package; say --weights {name}")
    if any(line.name == name and line.sha256 != model.sha256 for line in known()):
        raise WeightsError(f"{path}: other weights are called '{name}' already; train under another folder name or remove those")
    holds = method_named(model.header.method).config.holds
    trust = measured.sha256 if measured else ""
    line = Known(name, folder / f"{name}.safetensors", model.sha256, model.header.task, holds=holds, trust=trust)
    manifest = folder / "manifest.json"
    advice = "set ANYMRI_WEIGHTS to a folder that can be written"
    with replacing(line.file, advice=advice) as part:
        shutil.copyfile(path, part)
    if measured is not None:
        with replacing(beside(line.file), advice=advice) as part:
            shutil.copyfile(beside(path), part)
    else:
        _removed(beside(line.file), advice)
    lines = [w for w in (_lines(manifest) if manifest.is_file() else []) if w["name"] != name]
    told = {key: word for key, word in {"holds": holds, "trust": trust}.items() if word}
    lines.append({"name": name, "file": line.file.name, "sha256": line.sha256, "task": line.task, **told})
    write_json(manifest, {"weights": lines})
    return line


def _removed(path: Path, advice: str) -> None:
    """Remove a file if it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be removed ({error.strerror}); {advice}") from error
