"""What a training says of itself on disk: JSON lines, and TensorBoard where it is installed."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from anymri.engine.run import RunFolder
from anymri.errors import OutputError
from anymri.volumes.store import make_folder
from anymri.volumes.writing import write_text

LOGGER = logging.getLogger(__name__)  # Python shows its warnings on standard error, unless a program wants them elsewhere.

Logger = Callable[[Mapping[str, Any]], None]


def log(folder: RunFolder, line: Mapping[str, Any]) -> None:
    """Append one line to log.jsonl.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        with open(folder.log, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(dict(line)) + "\n")
    except OSError as error:
        check_there(folder)
        raise OutputError(f"{folder.log}: cannot be written ({error.strerror}); free some space and resume") from None


def check_there(folder: RunFolder) -> None:
    """Refuse to write into a folder that somebody has taken away: half a run folder would come of it.

    Raises:
        OutputError: If it is not there.
    """
    if not folder.path.is_dir():
        raise OutputError(
            f"{folder.path}: the run folder has vanished while the training ran; bring it back and resume, or start again"
        )


def warn(folder: RunFolder, line: str) -> None:
    """Say something that whoever runs the training should know, where they see it and in log.jsonl.

    Raises:
        OutputError: If it cannot be written.
    """
    LOGGER.warning("note: %s", line)
    log(folder, {"warning": line})


def forget_after(folder: RunFolder, step: int) -> None:
    """Take steps after this one out of the log: they are going to be made again. A last line that was cut off goes with them."""
    if not folder.log.exists():
        return
    kept = []
    for text in folder.log.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if line.get("step", 0) <= step:
            kept.append(text + "\n")
    write_text(folder.log, "".join(kept))


def logger_of(folder: RunFolder, *, step: int) -> Logger:
    """Return what logs the steps after this one: a line of JSON, and TensorBoard scalars if that package is there."""
    forget_after(folder, step)
    if find_spec("tensorboard") is None:
        return lambda line: log(folder, line)
    scalars = _scalars_to(folder, step)

    def both(line: Mapping[str, Any]) -> None:
        log(folder, line)
        scalars(line)

    return both


def _scalars_to(folder: RunFolder, step: int) -> Logger:
    """Return what writes numbers for TensorBoard, which is to forget the steps after this one.

    Its own writer works in a thread, where an error is nobody's: a full disk would end in a traceback.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]  (made when it is imported)
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboard.summary.writer.record_writer import RecordWriter

    now = time.time()
    path = (
        folder.path / "tensorboard" / f"events.out.tfevents.{int(now)}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
    )

    def append(*events: Any) -> None:
        try:
            with open(path, "ab") as file:
                for event in events:
                    RecordWriter(file).write(event.SerializeToString())
        except OSError as error:
            check_there(folder)
            raise OutputError(f"{path}: cannot be written ({error.strerror}); free some space and resume") from None

    def write(line: Mapping[str, Any]) -> None:
        values = [Summary.Value(tag=n, simple_value=v) for n, v in line.items() if isinstance(v, int | float) and n != "step"]
        append(Event(wall_time=time.time(), step=line["step"], summary=Summary(value=values)))

    make_folder(path.parent)
    start = SessionLog(status=SessionLog.START)
    append(Event(wall_time=now, file_version="brain.Event:2"), Event(wall_time=now, step=step + 1, session_log=start))
    return write
