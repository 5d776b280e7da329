from __future__ import annotations

import json

import pytest

from anymri.report.ablation import training_table
from anymri.report.page import write_report
from anymri.report.trainings import read_training

from .made import FEW, cells, write_run, write_table

PROTOCOL = "split 199/29/57 of BraTS 2018, the lists of U-HVED; mean over cases, then over the subsets"


@pytest.mark.parametrize("name", ["measured", "published"])
def test_every_table_names_cohort_and_protocol(name, request):
    paths = sorted(request.getfixturevalue(name).glob("table_*.csv"))
    assert len(paths) > 5
    for path in paths:
        rows = cells(path)
        if path.stem == "table_sources":  # Its columns data and protocol are what it is about.
            assert all(r["data"] and r["protocol"] for r in rows)
        else:
            assert all(r["cohort"] and r["protocol"] for r in rows), path.name


def test_measured_rows_name_their_cohort_and_published_ones_their_data(measured):
    rows = {r["method"]: r for r in cells(measured / "table_means.csv")}
    assert (rows["dropout_unet"]["cohort"], rows["dropout_unet"]["protocol"]) == ("phantoms", "anymri")
    assert (rows["MIFPN"]["cohort"], rows["MIFPN"]["protocol"]) == ("BraTS 2018", f"{PROTOCOL}; HD95 not given")
    for table in ("tests", "ablation_ccsd", "seeds", "empties", "methods"):
        origins = {(r["cohort"], r["protocol"]) for r in cells(measured / f"table_{table}.csv")}
        assert origins == {("phantoms", "anymri")}, table
    # Methods are columns here, so a row holds numbers of several origins.
    (mean,) = (r for r in cells(measured / "table_subsets_et.csv") if r["modalities"] == "mean")
    parts = mean["cohort"].split(" | "), mean["protocol"].split(" | ")
    assert parts[0][:2] == ["measured: phantoms", "CCSD, Table 1: BraTS 2018"]
    assert parts[1][:2] == ["measured: anymri", f"CCSD, Table 1: {PROTOCOL}; HD95 not given"]


def test_across_protocols_a_row_names_its_own(tmp_path):
    files = [write_table(tmp_path / f"{p}.csv", "ccsd", run="a", protocol=p) for p in ("anymri", "nnunet")]
    write_report(files, tmp_path / "out", across_protocols=True, bootstrap=FEW)
    assert [r["protocol"] for r in cells(tmp_path / "out" / "table_means.csv")] == ["anymri", "nnunet"]
    assert [r["protocol"] for r in cells(tmp_path / "out" / "table_tests.csv")] == ["anymri against nnunet"]
    assert cells(tmp_path / "out" / "table_subsets.csv")[0]["protocol"] == "measured: anymri | measured: nnunet"


def test_captions_name_cohort_and_rules(measured):
    text = (measured / "report.md").read_text(encoding="utf-8")
    assert "**What was measured, phantoms, protocol anymri**" in text
    assert "**Trainings on phantoms**" in text and "* Validation Dice: mean Dice over few cases." in text


def test_a_run_folder_that_tells_no_rule_is_not_given_one(tmp_path):
    (write_run(tmp_path / "one") / "selection.json").write_text('{"scores": {"a": 0.5, "b": 0.6}, "chosen": "b"}')
    write_report([tmp_path / "one"], tmp_path / "out", bootstrap=FEW)
    (row,) = cells(tmp_path / "out" / "table_trainings.csv")
    assert row["protocol"] == "its run folder does not tell the rule" and row["cohort"] == "phantoms"


def test_published_tables_name_data_and_protocol_under_them(measured, published):
    for folder, names in ((published, ("subsets", "means", "aurc", "without")), (measured, ("subsets_et", "means", "aurc"))):
        for name in names:
            suffix = "_brats2018" if folder == published else ""
            text = (folder / f"table_{name}{suffix}.tex").read_text()
            assert rf"\footnotesize CCSD, Table 1: BraTS 2018, {PROTOCOL}; HD95 not given." in text, name
    for number, more in ((3, ""), (5, "; HMSD stays on"), (6, "; HMSD stays on")):
        text = (published / f"table_ccsd_table_{number}.tex").read_text()
        assert rf"\footnotesize CCSD, Table {number}: BraTS 2018, {PROTOCOL}{more}." in text
    # Table 2 of the field shows methods of which the subsets were not published, too.
    assert "SMU-Net, README: BraTS 2018, the first 20 " in (published / "table_means_brats2018.tex").read_text()


def test_what_is_not_first_hand_has_a_footnote_where_it_stands(published, tmp_path):
    write_report([], tmp_path / "out", published=["brats2020"], bootstrap=FEW)
    for text, method, said in (
        ((published / "report.md").read_text(encoding="utf-8"), "PRISMS", "third-party documentation and not verified"),
        ((published / "report.md").read_text(encoding="utf-8"), "SimMLM", "third-party notes and not verified"),
        ((tmp_path / "out" / "report.md").read_text(encoding="utf-8"), "mmFormer", "Superseded by the README's correction"),
    ):
        table = text[text.index("**Means over subsets") :].split("\n## ")[0]
        letters = [line.split("(")[1][0] for line in table.splitlines() if line.startswith(f"| {method} (")]
        assert any(f"* ({letter}) " in line and said in line for letter in letters for line in table.splitlines()), method


@pytest.mark.parametrize(
    ("checkpoints", "finished", "budget", "expected"),
    [
        (("step_00000030", "step_00000041", ".step_00000050.tmp"), False, 60, "41"),
        ((), True, 41, "41"),  # Without checkpoints: it came to its end.
        ((), False, 60, "at least 40"),  # The last logged step.
        ((), True, None, "at least 40"),  # A budget in minutes tells no steps.
    ],
)
def test_steps_are_those_that_were_made_not_those_that_were_logged(tmp_path, checkpoints, finished, budget, expected):
    folder = write_run(tmp_path / "one")
    record = json.loads((folder / "run.json").read_text())
    record["run"]["steps"] = budget
    (folder / "run.json").write_text(json.dumps(record))
    if not finished:
        (folder / "weights.safetensors").unlink()
    for name in checkpoints:
        (folder / "checkpoints" / name).mkdir(parents=True)
    table = training_table([read_training(folder)])
    assert table is not None and table.rows[0].cells[table.header.index("steps")].text == expected
