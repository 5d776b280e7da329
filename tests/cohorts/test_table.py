"""Tables of files: one row a case."""

from __future__ import annotations

from pathlib import Path

import pytest

from anymri.cohorts import LAYOUTS, find_cohort, find_table
from anymri.domain.case import Source, Split
from anymri.domain.task import GLIOMA, PROSTATE
from anymri.errors import InputFileError, LabelSchemeError

FILES = ("p1/flair.nii.gz", "p1/post.nii.gz", "p1/t2.mha", "p1/mask.nii.gz", "all.nii.gz", "wt.nrrd", "é 2.nii")
TABLE = """case,FLAIR,T1,T1-gadolinium,t2w,labels,scheme,fold
p1,p1/flair.nii.gz,,p1/post.nii.gz,p1/t2.mha,p1/mask.nii.gz,brats2021,0
p2,all.nii.gz[0],all.nii.gz[1],,,wt.nrrd,wt,train
"p, 3",é 2.nii,,,,,,
"""


@pytest.fixture
def files(folder):
    return folder.touch(*FILES)


def reasons(path: Path) -> list[str]:
    return [reason for _, reason in find_table(path, GLIOMA).left_out]


def test_a_table(files) -> None:
    path = files.write("cases.csv", TABLE)
    cohort = find_cohort(path, GLIOMA)
    assert cohort == find_table(path, GLIOMA) == LAYOUTS["table"](path, GLIOMA) == find_cohort(files.path, GLIOMA)
    one, two, three = cohort.studies
    assert (one.name, one.scheme, set(one.images)) == ("p1", "brats2021", {"FLAIR", "T1c", "T2"})
    assert one.labels == Source(files.path / "p1/mask.nii.gz")
    assert two.images == {"FLAIR": Source(files.path / "all.nii.gz", 0), "T1": Source(files.path / "all.nii.gz", 1)}
    assert (two.scheme, three.name, three.labels, three.scheme) == ("wt", "p, 3", None, None)
    assert cohort.split == Split((("p1",),), ("p2",))
    assert (cohort.name, cohort.layout, cohort.left_out, cohort.notes) == ("cases", "table", (), ())


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_separators_and_marks(files, separator: str, mark: str, newline: str) -> None:
    text = mark + TABLE.replace(",", separator).replace(f"p{separator} 3", "p, 3").replace("\n", newline)
    (files.path / "cases.csv").write_bytes(text.encode())
    assert [s.name for s in find_table(files.path / "cases.csv", GLIOMA).studies] == ["p1", "p2", "p, 3"]


def test_paths_are_relative_to_the_table_or_absolute_or_lead_out(files, tmp_path: Path) -> None:
    outside = tmp_path / "outside.nii.gz"
    outside.touch()
    path = files.write("sub/cases.csv", f"id,flair,t1\na,../p1/flair.nii.gz,{outside}\nb,../../outside.nii.gz,\n")
    a, b = find_table(path, GLIOMA).studies
    assert a.images["T1"].path == outside and a.images["FLAIR"].path.is_file() and b.images["FLAIR"].path.is_file()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("x,gone.nii.gz,,,,,,", r"row 3: FLAIR: .*gone\.nii\.gz is not there"),
        ("x,p1,,,,,,", "row 3: FLAIR: .*p1 is not there"),
        ("x,all.nii.gz[1],all.nii.gz[1],,,,,", r"row 3: all\.nii\.gz\[1\] stands there for two modalities"),
        ("x,,,,,p1/mask.nii.gz,,", "row 3: x has no image"),
        (",all.nii.gz,,,,,,", "row 3: gives no name"),
        ("a/b,all.nii.gz,,,,,,", "row 3: case name 'a/b' cannot be a folder's"),
        ("p1,all.nii.gz,,,,,,", "row 3: another row is called 'p1', too"),
        ("x,all.nii.gz", "row 3: has 2 cells; the header has 8"),
        ("x,all.nii.gz,,,,,,,,", "row 3: has 10 cells; the header has 8"),
        ("x,all.nii.gz,,,,gone.nii.gz,,", "row 3: labels: .*gone"),
        ("x,all.nii.gz,,,,wt.nrrd,brats1999,", "row 3: label scheme 'brats1999' is unknown for task glioma"),
        ("x,all.nii.gz,,,,wt.nrrd,wt,first", "row 3: its fold is 'first'; expected a number from 0, 'train' or nothing"),
        ("x,all.nii.gz,,,,,,1", "row 3: x is in fold 1 but has no labels"),
        ("x,notes.txt,,,,,,", r"row 3: FLAIR: .*notes\.txt: is none of \.nii\.gz"),
        ("x,head.mhd,,,,,,", r"row 3: FLAIR: .*head\.mhd: \.mhd files keep header and voxels apart"),
        ("x," + "n" * 5000 + ".nii,,,,,,", "row 3: FLAIR: .* is not there"),
    ],
)
def test_rows_that_cannot_be_used_are_left_out_by_number(files, row: str, reason: str) -> None:
    import re

    files.touch("notes.txt", "head.mhd")
    lines = TABLE.splitlines()
    path = files.write("cases.csv", "\n".join([*lines[:2], row, "", *lines[3:]]))
    found = reasons(path)
    assert re.search(reason, "\n".join(found)), found
    kept = [s.name for s in find_table(path, GLIOMA).studies]
    assert kept == (["p, 3"] if row.startswith("p1") else ["p1", "p, 3"])


def test_columns_that_are_not_known_are_said(files) -> None:
    path = files.write("cases.csv", "patient_id,flair,T1cc,age\na,all.nii.gz,all.nii.gz,50\n")
    cohort = find_table(path, GLIOMA)
    assert set(cohort.studies[0].images) == {"FLAIR"}
    known = "is no modality of task glioma, and none of case, labels, scheme, fold; it is not used"
    assert reasons(path) == [f"row 1: column 3 'T1cc' {known}", f"row 1: column 4 'age' {known}"]


def test_labels_need_a_scheme(files) -> None:
    path = files.write("cases.csv", "case,flair,seg\na,all.nii.gz,wt.nrrd\nb,all.nii.gz,\n")
    cohort = find_table(path, GLIOMA)
    assert cohort.studies[0].scheme is None and "names no scheme for the labels of 1 cases" in cohort.notes[0]
    named = find_table(path, GLIOMA, scheme="wt")
    assert [s.scheme for s in named.studies] == ["wt", None] and named.notes == ()
    with pytest.raises(LabelSchemeError):
        find_table(path, GLIOMA, scheme="x")


def test_rows_over_several_lines_keep_their_numbers(files) -> None:
    path = files.write("cases.csv", 'case,flair\n"two\nlines",all.nii.gz\nx,gone.nii.gz\n')
    assert reasons(path)[0].startswith("row 4: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no header with a column 'case' \(empty\)"),
        ("\n\n", "no header with a column 'case'"),
        ("flair,t1\na,b\n", "no header with a column 'case'"),
        ("case\na\n", "no header with a column 'case'"),
        ("case,age\na,5\n", "has no column for a modality of task glioma; expected some of FLAIR, T1, T1c, T2"),
        ("case,flair,t2-flair\na,b,c\n", "row 1: two columns are FLAIR"),
        ("case,id,flair\na,b,c\n", "row 1: two columns are case"),
        ("case,flair\na,gone.nii\n", r"none of its 1 rows can be used \(cases\.csv: row 2: FLAIR"),
        ("case,flair\n", "none of its 0 rows can be used"),
        ('case,flair\na,"x"y\n', "row 2: cannot be read"),
        (
            "case,flair,labels,scheme,fold\na,all.nii.gz,wt.nrrd,wt,2\n",
            "no case is in fold 0, but one is in fold 2; number them from 0",
        ),
        ("case,flair\0\n", "holds zero bytes, as UTF-16 does"),
    ],
)
def test_tables_that_are_none(files, text: str, message: str) -> None:
    path = files.write("cases.csv", text)
    with pytest.raises(InputFileError, match=message) as caught:
        find_table(path, GLIOMA)
    assert "\n" not in str(caught.value) and "cases.csv" in str(caught.value)


def test_other_encodings(files) -> None:
    path = files.path / "cases.csv"
    path.write_bytes("case,flair\né,all.nii.gz\n".encode("latin-1"))
    with pytest.raises(InputFileError, match=r"is not UTF-8 \(byte 11 is 0xe9\); save it as CSV UTF-8"):
        find_table(path, GLIOMA)
    path.write_bytes(TABLE.encode("utf-16"))
    with pytest.raises(InputFileError, match="save it as CSV UTF-8"):
        find_table(path, GLIOMA)


def test_a_folder_with_one_table_and_with_several(files) -> None:
    files.write("survival_info.csv", "Brats20ID,Age\nx,60\n")
    files.write("name_mapping.csv", "Grade,BraTS_2019_subject_ID\nHGG,x\n")
    with pytest.raises(InputFileError, match="holds no table of cases; expected a .csv file with the columns case,flair,t1,t1c,t2"):
        find_table(files.path, GLIOMA)
    files.write("cases.tsv", TABLE.replace(",", "\t").replace("p\t 3", "p, 3"))
    assert len(find_table(files.path, GLIOMA).studies) == 3
    files.write("more.csv", TABLE)
    with pytest.raises(InputFileError, match=r"holds 2 tables of cases \(cases\.tsv, more\.csv\); give one"):
        find_table(files.path, GLIOMA)
    with pytest.raises(InputFileError, match="not found; expected a .csv or .tsv file"):
        find_table(files.path / "none", GLIOMA)
    with pytest.raises(InputFileError, match="is no table"):
        find_table(files.path / "all.nii.gz", GLIOMA)


def test_another_task(files) -> None:
    path = files.write("cases.csv", "case,T2,ADC,hbv,labels,scheme\na,all.nii.gz[0],all.nii.gz[1],all.nii.gz[2],wt.nrrd,lesion\n")
    (study,) = find_table(path, PROSTATE).studies
    assert list(study.images) == ["T2w", "ADC", "DWI"] and study.scheme == "lesion"
