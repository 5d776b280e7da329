"""Writing a report file so that nobody ever sees half of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from anymri.errors import OutputError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside its place, then rename it; folders are made where they are missing.

    Raises:
        OutputError: If the file cannot be written; what was there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); choose a folder that is writable") from error
