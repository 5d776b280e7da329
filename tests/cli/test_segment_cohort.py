"""anymri segment for many patients: a prepared folder, folders of raw data, shards."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from anymri.domain.task import GLIOMA

from ..material import write_made_cohort


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    write_made_cohort(tmp_path / "prepared", GLIOMA, folds=(("a", "b"),), partly=("c",))
    return tmp_path / "prepared"


def statuses(out: Path) -> dict[str, str]:
    with (out / "volumes.csv").open(newline="") as stream:
        return {row["name"]: row["status"] for row in csv.DictReader(stream)}


def test_a_prepared_cohort(run, weights: Path, prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    image = prepared / "cases" / "b" / "image.b2nd"
    whole = image.read_bytes()
    image.write_bytes(whole[:100])
    done = run("segment", "--cohort", prepared, "--weights", weights, "--out", out)
    assert done.code == 2 and "error: 1 of 3 patients could not be segmented" in done.err
    assert "failed: b: " in done.err and "image.b2nd: damaged" in done.err
    assert f"2 of 3 patients are segmented; volumes in {out}/volumes.csv" in done.out
    assert statuses(out) == {"a": "done", "b": "failed", "c": "done"} and not (out / "b").exists()
    assert json.loads((out / "c" / "summary.json").read_text())["modalities_used"] == ["FLAIR"]
    image.write_bytes(whole)
    done = run("segment", "--cohort", prepared, "--weights", weights, "--out", out)
    assert done.code == 0 and "3 of 3 patients are segmented, 2 of them earlier" in done.out
    assert done.out.startswith("b: WT ") and set(statuses(out).values()) == {"done"}
    assert {p.name for p in (out / "b").iterdir()} == {"preview.png", "report.html", "segmentation.nii.gz", "summary.json"}


def test_shards_of_folders_of_patients(run, weights: Path, patients: Path, tmp_path: Path) -> None:
    folders = sorted(p for p in patients.iterdir() if p.is_dir())[:2]
    (broken := tmp_path / "a_broken").mkdir()
    words = ("segment", *reversed(folders), broken, "--weights", weights, "--out", tmp_path / "out", "--shard")
    done = run(*words, "1/3")
    assert done.code == 2 and "failed: a_broken: " in done.err
    assert "0 of 1 patients of part 1 of 3 are segmented" in done.out
    done = run(*words, "3/3")
    assert done.code == 0 and "1 of 1 patients of part 3 of 3 are segmented" in done.out
    assert statuses(tmp_path / "out") == {"a_broken": "failed", folders[0].name: "open", folders[1].name: "done"}


def test_a_table_of_files(run, weights: Path, images: dict[str, Path], tmp_path: Path) -> None:
    rows = ["case,flair,t1,t1c,t2", f"p1,{images['flair']},,,", f"p2,,,{tmp_path}/nothing.nii.gz,"]
    (table := tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    done = run("segment", "--cohort", table, "--weights", weights, "--out", tmp_path / "out", "--labels", "brats2023")
    assert done.code == 0 and "nothing.nii.gz" in done.err and "1 of 1 patients are segmented; 1 left out; volumes" in done.out
    assert statuses(tmp_path / "out") == {"p1": "done", str(table): "left out"}  # Somebody may count on p2.
    summary = json.loads((tmp_path / "out" / "p1" / "summary.json").read_text())
    assert summary["modalities_used"] == ["FLAIR"] and summary["label_scheme"] == "brats2023"
    assert summary["inputs"]["FLAIR"]["file"] == str(images["flair"])


def test_mistakes_are_one_line(run, weights: Path, prepared: Path, images: dict[str, Path], tmp_path: Path) -> None:
    for words, word in (
        (("--cohort", prepared, "--shard", "0/4"), "expected I/N with I from 1 to N"),
        (("--cohort", prepared, prepared), "or folders of patients or --cohort"),
        (("--cohort", prepared, "--t1", images["t1"]), "or folders of patients or --cohort"),
        (("--t1", images["t1"], "--shard", "1/2"), "--shard and --workers divide many patients"),
        (("--t1", images["t1"], "--workers", "2"), "--shard and --workers divide many patients"),
        (("--cohort", tmp_path / "nowhere"), "nowhere"),
        (("--cohort", prepared, "--workers", "0"), "workers"),
    ):
        done = run("segment", *words, "--weights", weights, "--out", tmp_path / "out")
        assert done.code == 2, words
        assert word in done.err and len(done.err.splitlines()) == 1, done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_workers_write_what_one_process_writes(run, weights: Path, prepared: Path, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for out, workers in (("one", 1), ("two", 2)):
        done = run("segment", "--cohort", prepared, "--weights", weights, "--out", tmp_path / out, "--workers", workers)
        assert done.code == 0, done.err
    tables = []
    for out in ("one", "two"):
        with (tmp_path / out / "volumes.csv").open(newline="") as stream:
            tables.append([{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)])
    assert tables[0] == tables[1] and len(tables[0]) == 3


def test_torchrun_is_refused(run, weights: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = run("segment", "--cohort", prepared, "--weights", weights, "--out", tmp_path / "out")
    assert done.code == 2 and "divide them by --shard or --workers instead" in done.err
    assert not (tmp_path / "out").exists()
