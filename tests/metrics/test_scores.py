from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anymri.domain.modality import subsets
from anymri.domain.task import TASKS
from anymri.errors import InputFileError, OutputError, UsageError
from anymri.metrics import scores
from anymri.metrics.protocol import UNITS
from anymri.metrics.scores import COLUMNS, Origin, Score, ScoreTable, read_scores, sheet, write_scores

HEADER = "method,cohort,case,subset,region,metric,value,unit,seed,run,protocol"


def row(case="a", subset="T1", region="WT", value=0.5, metric="dice", **other) -> Score:
    rest = {"method": "m", "cohort": "c", "unit": UNITS[metric], "seed": 0, "run": "r", "protocol": "anymri"} | other
    return Score(case=case, subset=subset, region=region, metric=metric, value=value, **rest)


texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00\r\n"), max_size=12)
rows = st.builds(
    Score,
    *([texts] * 6),
    value=st.floats(),
    unit=texts,
    seed=st.none() | st.integers(0, 2**64),
    run=texts,
    protocol=texts,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(rows, max_size=5))
def test_what_is_written_is_read(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("scores") / "scores.csv"
    write_scores(path, ScoreTable(tuple(content)))
    read = read_scores(path)
    # NaN is not equal to itself: compared by how it prints, which for floats is exact.
    assert [repr(r) for r in read] == [repr(r) for r in content]


def test_the_header_is_a_contract(tmp_path):
    path = tmp_path / "deep" / "scores.csv"
    write_scores(path, ScoreTable((row(value=1 / 3, seed=None), row(value=1.0, metric="volume_ml"))))
    assert ",".join(COLUMNS) == HEADER
    assert path.read_text(encoding="utf-8") == (
        f"{HEADER}\nm,c,a,T1,WT,dice,0.3333333333333333,1,,r,anymri\nm,c,a,T1,WT,volume_ml,1.0,ml,0,r,anymri\n"
    )
    assert [p.name for p in path.parent.iterdir()] == ["scores.csv"]


def test_a_mark_of_byte_order_and_blank_lines_are_no_fault(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(f"\ufeff{HEADER}\r\nm,c,a,T1,WT,dice,0.5,1,0,r,anymri\r\n\r\n", encoding="utf-8")
    assert read_scores(path).rows == (row(),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a,b\n", "line 1: found the header 'a,b'; expected method,cohort"),
        (HEADER.replace(",", ";").encode(), "line 1: found the header 'method;cohort"),
        (f"{HEADER}\nm,c,a,T1\n".encode(), "line 2: found 4 fields; expected 11"),
        (
            f"{HEADER}\nm,c,a,T1,WT,dice,0.5,1,0,r,anymri\nm,c,a,T1,WT,dice,half,1,0,r,anymri\n".encode(),
            "line 3: found the value 'half'",
        ),
        (f"{HEADER}\nm,c,a,T1,WT,dice,0.5,1,one,r,anymri\n".encode(), "line 2: found the seed 'one'"),
        (f'{HEADER}\n"m,c\n'.encode(), "not CSV"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "scores.csv"
    path.write_bytes(content)
    with pytest.raises(InputFileError) as caught:
        read_scores(path)
    text = str(caught.value)
    assert message in text and str(path) in text and "\n" not in text


def test_a_file_that_is_not_there_or_no_file(tmp_path):
    with pytest.raises(InputFileError, match="not found"):
        read_scores(tmp_path / "none.csv")
    with pytest.raises(InputFileError, match="cannot be read"):
        read_scores(tmp_path)


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "scores.csv").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_scores(tmp_path / "scores.csv", ScoreTable((row(),)))
    assert [p.name for p in tmp_path.iterdir()] == ["scores.csv"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_scores(Path(tmp_path / "file" / "scores.csv"), ScoreTable(()))


def test_a_disc_that_is_full_leaves_the_old_table(tmp_path, monkeypatch):
    path = tmp_path / "scores.csv"
    write_scores(path, ScoreTable((row(),)))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        write_scores(path, ScoreTable((row(), row(case="b"))))
    assert read_scores(path).rows == (row(),)
    assert [p.name for p in tmp_path.iterdir()] == ["scores.csv"]


def test_scored_regions_become_rows():
    made = scores.tabulated(Origin("m", "c", "a", 0, "r", "anymri"), "T1", {"WT": {"dice": 0.5, "volume_ml": 2.0}})
    assert made == (row(), row(metric="volume_ml", value=2.0))


def test_tables_are_joined_selected_and_split():
    one, two = ScoreTable((row(), row(case="b"))), ScoreTable((row(method="n"), row(method="n", seed=1)))
    whole = scores.joined((one, two))
    assert len(whole) == 4 and list(whole)[:2] == list(one)
    assert scores.selected(whole, lambda r: r.method == "m") == one
    assert scores.split(whole) == (one, ScoreTable(two.rows[:1]), ScoreTable(two.rows[1:]))


def test_tables_of_different_protocols_are_joined_only_when_asked():
    one, other = ScoreTable((row(),)), ScoreTable((row(protocol="rfnet"),))
    with pytest.raises(UsageError, match="different protocols cannot be compared: anymri, rfnet; .* across_protocols=True"):
        scores.joined((one, other))
    whole = scores.joined((one, other), across_protocols=True)
    assert whole.rows == (*one, *other) and scores.split(whole) == (one, other)
    with pytest.raises(UsageError, match="mixes protocols"):  # asked for or not: a mean needs one
        scores.sheet(whole, "dice")
    assert scores.sheet(other, "dice").protocol == "rfnet"


def test_values_of_empties_can_be_left_out():
    def measured(case, volume, reference):
        return [
            row(case=case),
            row(case=case, metric="volume_ml", value=volume),
            row(case=case, metric="reference_volume_ml", value=reference),
        ]

    table = ScoreTable((*measured("a", 1.0, 1.0), *measured("b", 0.0, 1.0), *measured("c", 1.0, 0.0), *measured("d", 0.0, 0.0)))
    found = scores.empties_unknown(table, "dice")
    assert {r.case for r in found if r.metric == "dice" and r.value == r.value} == {"a"}
    assert [r for r in found if r.metric != "dice"] == [r for r in table if r.metric != "dice"] and len(found) == len(table)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
@settings(max_examples=20, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_subsets_take_the_canonical_order(task, random):
    canonical = [str(s) for s in subsets(task.modalities)]
    shuffled = random.sample(canonical, len(canonical))
    assert list(scores.subset_order([*shuffled, *shuffled])) == canonical
    assert [scores.subset_size(s) for s in canonical] == [len(s) for s in subsets(task.modalities)]


def test_without_the_full_set_names_go_by_appearance():
    assert scores.subset_order(["b", "a", "b+a", "c"]) == ("b", "a", "c", "b+a")
    assert scores.subset_order([]) == ()


def test_a_sheet_holds_every_value_in_its_place():
    table = ScoreTable(
        (row(value=0.1), row(case="b", subset="T2", value=0.2), row(case="b", region="TC", value=math.nan), row(metric="precision"))
    )
    found = sheet(table, "dice")
    assert (found.cases, found.subsets, found.regions, found.unit) == (("a", "b"), ("T1", "T2"), ("WT", "TC"), "1")
    assert found.measured.sum() == 3 and found.values[0, 0, 0] == 0.1 and found.values[1, 1, 0] == 0.2
    assert math.isnan(found.values[1, 0, 1]) and found.measured[1, 0, 1] and not found.measured[0, 0, 1]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (row(), "twice"),
        (row(seed=1), "twice"),
        (row(case="b", method="n"), r"mixes methods \(m, n\)"),
        (row(case="b", cohort="d"), "mixes cohorts"),
        (row(case="b", protocol="other"), r"mixes protocols \(anymri, other\)"),
    ],
)
def test_what_must_not_be_averaged_is_refused(second, message):
    with pytest.raises(UsageError, match=message):
        sheet(ScoreTable((row(), second)), "dice")
    with pytest.raises(UsageError, match="no metric 'mm'; it has dice"):
        sheet(ScoreTable((row(),)), "mm")
