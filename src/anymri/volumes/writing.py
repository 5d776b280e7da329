"""Writing so that nobody ever sees half of a file: under a temporary name first, on the disk for good, then renamed."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from anymri.errors import OutputError

ADVICE = "free some space or choose a folder that is writable"


@contextmanager
def replacing(path: Path, *, what: str = "", advice: str = ADVICE) -> Iterator[Path]:
    """Give a temporary name for a file or a folder; rename it when the block ends, remove it when the block fails.

    Folders above it are made. What processes that were killed left behind under this name goes first. A folder is replaced whole.

    Args:
        path: Where it shall lie.
        what: What it is, for the message.
        advice: What to do if it cannot be written.

    Raises:
        OutputError: If it cannot be written; what was there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{_host()}-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_behind in _left_behind(path):
            _remove(left_behind)
        yield temporary
        for file in sorted(f for f in temporary.rglob("*") if f.is_file()) if temporary.is_dir() else [temporary]:
            _flush(file)
        _put(temporary, path)
    except OSError as error:
        _remove(temporary)
        named = f"{what} " if what else ""
        raise OutputError(f"{path}: {named}cannot be written ({error.strerror or error}); {advice}") from error
    except BaseException:
        _remove(temporary)
        raise


@contextmanager
def filling(folder: Path, *, last: str, stale: str = "", advice: str = ADVICE) -> Iterator[Path]:
    """Give a temporary folder inside a folder; when the block ends its files move into the folder, when it fails it is removed.

    What else lies in the folder stays. What processes that were killed left behind goes first.

    Args:
        folder: Where the files shall lie; made if it is missing.
        last: Name of the file that says that all others are there: an old one goes before the first moves, the new one comes last.
        stale: Pattern of files that an earlier time may have left and that go with it.
        advice: What to do if it cannot be written.

    Raises:
        OutputError: If it cannot be written.
    """
    temporary = folder / f".part.{_host()}-{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left_behind in (*_left_behind(folder / "part"), temporary):
            _remove(left_behind)
        temporary.mkdir()
        yield temporary
        made = sorted(temporary.iterdir(), key=lambda file: (file.name == last, file.name))
        for file in made:
            _flush(file)
        for file in (folder / last, *(folder.glob(stale) if stale else ())):
            file.unlink(missing_ok=True)
        for file in made:
            os.replace(file, folder / file.name)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error}); {advice}") from error
    finally:
        _remove(temporary)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OutputError: If it cannot be written; what was there before is untouched.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a file of UTF-8 text whole or not at all.

    Raises:
        OutputError: If it cannot be written; what was there before is untouched.
    """
    write_bytes(path, content.encode())


def _put(temporary: Path, path: Path) -> None:
    """Rename; a folder in the way is moved aside first, because only an empty one can be replaced."""
    if not (temporary.is_dir() and path.exists()):
        os.replace(temporary, path)
        return
    aside = temporary.with_name(f"{temporary.name[:-4]}-old.tmp")
    os.replace(path, aside)
    os.replace(temporary, path)
    _remove(aside)


def _left_behind(path: Path) -> list[Path]:
    """Return temporary names of this path whose process, on this machine, is no longer alive."""
    start = f".{path.name}.{_host()}-"
    found = []
    for name in os.listdir(path.parent):
        number = name.removeprefix(start).removesuffix(".tmp").removesuffix("-old")
        if name.startswith(start) and name.endswith(".tmp") and number.isdigit() and not _alive(int(number)):
            found.append(path.parent / name)
    return found


def _alive(process: int) -> bool:
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _host() -> str:
    return "".join(c if c.isalnum() else "-" for c in socket.gethostname())


def _flush(file: Path) -> None:
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
