"""What only a process of its own shows: encodings of the terminal, workers, and the memory that a machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anymri import cli

from .images import nifti, put, setting

NAME = os.fsdecode(b"a\xff \xf0\x9f\xa7\xa0\n")  # A byte that is no text, a face, a line break.


def anymri(*words: object, **environment: str) -> tuple[int, bytes, bytes]:
    """Run the command line in a process of its own."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-m", "anymri", *map(os.fsencode, map(str, words))], capture_output=True, env=settings, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_no_encoding_of_the_terminal_makes_a_traceback(tmp_path: Path, encoding: str) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    put(folder / f"{NAME}_t1ce.nii", nifti()[:900])
    (folder / f"{NAME}.nii").write_bytes(b"")
    code, out, err = anymri("prepare", folder, tmp_path / "out", "--workers", 1, PYTHONIOENCODING=encoding, LC_ALL="C.UTF-8")
    assert code == 2 and b"Traceback" not in err
    assert err.count(b"\n") == 1 and err.startswith(b"error: ")
    assert rb"\udcff" in out + err and rb"\n" in out + err
    out.decode(encoding), err.decode(encoding)


@pytest.mark.slow
def test_a_worker_says_its_line_and_the_others_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    put(folder / "good_flair.nii.gz", nifti())
    put(folder / "cut_flair.nii.gz", nifti()[:1000])
    put(folder / "huge_flair.nii.gz", nifti(change=setting("dim", [3, 1000, 1000, 1000, 1, 1, 1, 1])))
    code, _, err = anymri("prepare", folder, tmp_path / "out", "--workers", 2)
    *failed, line = err.decode().splitlines()
    assert code == 2 and line.startswith("error: 2 of 3 cases")
    assert sorted(f.split(":")[1].strip() for f in failed) == ["cut", "huge"]
    assert sorted(p.name for p in (tmp_path / "out" / "cases").iterdir()) == ["good"]


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), OSError(28, "No space left on device", "a\nfile")],
)
def test_a_machine_that_has_no_room_is_told_so(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1


def test_what_is_no_mistake_of_the_user_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("a fault of the program")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(RuntimeError, match="a fault of the program"):
        cli.main()
