from __future__ import annotations

from pathlib import Path

import pytest

from ..report.made import write_scored_run, write_table


def test_a_report_is_written_from_a_folder_of_runs_beside_published_numbers(run, tmp_path: Path) -> None:
    write_scored_run(tmp_path / "runs" / "one")
    done = run("report", tmp_path / "runs", "--published", "brats2018", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert done.out.strip() == f"report in {tmp_path / 'out' / 'index.html'}"
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "| ccsd | ccsd | 6 | 15 | 0 | one |" in text and "263.00" in text


def test_scores_of_different_rules_stand_side_by_side_if_that_is_asked_for(run, tmp_path: Path) -> None:
    words = [write_table(tmp_path / f"{p}.csv", run=p, protocol=p) for p in ("anymri", "nnunet")]
    done = run("report", *words, "--across-protocols", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert "across protocols anymri and nnunet" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to report on: give score tables or run folders, or --published NAME"),
        (("--published", "brats2019"), "brats2018"),
        (("missing.csv",), "missing.csv: not found; expected a score table (.csv) or a run folder"),
        (("notes.txt",), "notes.txt, line 1: found the header"),
        (("scores.csv", "--case", "a"), "--case NAME and --data PREPARED belong together"),
        (("scores.csv", "--subset", "T1"), "give --case and --data as well"),
        (("scores.csv", "--case", "a", "--data", "."), "no run folder with weights was given"),
    ],
    ids=["nothing", "unknown table", "no file", "no table", "case alone", "subset alone", "no weights"],
)
def test_a_mistake_is_one_line_and_nothing_is_written(run, tmp_path: Path, monkeypatch, words, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("not a table\n")
    write_table(Path("scores.csv"))
    done = run("report", *words, "--out", "out")
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "scores.csv"]


def test_other_things_in_the_folder_are_not_lost(run, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    done = run("report", "--published", "brats2020", "--out", tmp_path)
    assert done.code == 2 and "holds 'thesis.tex'" in done.err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_published_tables_are_listed_with_the_words_that_name_them(run) -> None:
    done = run("list", "published")
    assert done.code == 0
    assert any(line.split()[:2] == ["brats2020", "ccsd-table-2"] for line in done.out.splitlines())
