"""Nobody sees half of a file, and nobody's file is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anymri.errors import OutputError
from anymri.volumes.writing import filling, replacing, write_bytes, write_text


def test_a_file_appears_whole_under_folders_that_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "é")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "é".encode()
    assert os.listdir(tmp_path / "a") == ["b.txt"]


def test_what_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_bytes(target, b"before")
    with pytest.raises(ZeroDivisionError), replacing(target) as temporary:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert target.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "case"
    for content in ("first", "second"):
        with replacing(target) as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert os.listdir(target) == ["second"]
    assert os.listdir(tmp_path) == ["case"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("")
    target, line = tmp_path / "in the way" / "file", r"in the way/file: table cannot be written \(.+\); choose another"
    with pytest.raises(OutputError, match=line) as caught, replacing(target, what="table", advice="choose another"):
        raise AssertionError("never reached")
    assert "\n" not in str(caught.value)


def test_what_a_killed_process_left_goes_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from anymri.volumes.writing import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as t: t.write_bytes(b'half'); os._exit(9)"
    )
    target = tmp_path / "file"
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == 9
    (left,) = tmp_path.iterdir()
    alive = tmp_path / left.name.replace(left.name.rsplit("-", 1)[1], f"{os.getppid()}.tmp")
    alive.write_bytes(b"another's")
    write_bytes(target, b"whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["file", alive.name])


@pytest.mark.parametrize("content", [b"", b"x" * 10_000])
def test_a_full_disk_loses_nothing(tmp_path: Path, content: bytes) -> None:
    target = tmp_path / "file"
    write_bytes(target, b"before")
    code = (
        "import pathlib, resource, signal, sys\n"
        "from anymri.errors import OutputError\n"
        "from anymri.volumes.writing import write_bytes\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_bytes(pathlib.Path(sys.argv[1]), sys.stdin.buffer.read())\n"
        "except OutputError as error: print(error); sys.exit(2)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], input=content, capture_output=True, check=False)
    too_large = len(content) > 4096
    assert done.returncode == (2 if too_large else 0), done.stderr
    assert target.read_bytes() == (b"before" if too_large else content)
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_is_filled_beside_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").write_text("kept")
    for files in (("a", "old_1", "last"), ("a", "last", "z")):
        with filling(tmp_path, last="last", stale="old_*") as part:
            for name in files:
                (part / name).write_text(f"{name} of {len(files)}")
    assert sorted(os.listdir(tmp_path)) == ["a", "last", "theirs.txt", "z"]


def test_a_folder_whose_filling_fails_is_as_it_was(tmp_path: Path) -> None:
    with filling(tmp_path, last="last") as part:
        (part / "last").write_text("before")
    with pytest.raises(ZeroDivisionError), filling(tmp_path, last="last") as part:
        (part / "last").write_text("half")
        raise ZeroDivisionError
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"last": "before"}


def test_what_says_that_all_is_there_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with filling(tmp_path, last="b") as part:
        (part / "b").write_text("before")
    moved = os.replace

    def fails_at_c(source: Path, target: Path) -> None:
        if target.name == "c":
            raise OSError(28, "No space left on device")
        moved(source, target)

    monkeypatch.setattr(os, "replace", fails_at_c)
    with pytest.raises(OutputError, match="No space left"), filling(tmp_path, last="b") as part:
        for name in "abc":
            (part / name).write_text("after")
    assert os.listdir(tmp_path) == ["a"]
