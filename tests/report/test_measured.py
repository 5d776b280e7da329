from __future__ import annotations

import json

import pytest

from anymri.engine.run import RunFolder
from anymri.errors import InputFileError
from anymri.metrics.scores import joined, write_scores
from anymri.report.measured import gather
from anymri.report.trainings import differing, read_training

from ..material import short_run
from .made import scores, write_run, write_scored_run, write_table


def labels(*paths) -> list[list[str]]:
    return [[m.label for m in arena.methods] for arena in gather(paths).arenas]


def test_a_method_alone_has_its_name_and_two_have_theirs(tmp_path):
    assert labels(write_table(tmp_path / "a.csv", "x")) == [["x"]]
    assert labels(tmp_path / "a.csv", write_table(tmp_path / "b.csv", "y")) == [["x", "y"]]


def test_files_of_one_method_without_records_are_told_apart_by_their_names(tmp_path):
    files = [write_table(tmp_path / f"{n}.csv", run=n) for n in ("first", "second")]
    assert labels(*files) == [["m: first", "m: second"]]
    other = tmp_path / "deeper"
    other.mkdir()
    assert labels(files[0], write_table(other / "first.csv", run="third")) == [["m: first (first) #1", "m: first (first) #2"]]


def test_cohorts_and_protocols_are_kept_apart(tmp_path):
    files = [
        write_table(tmp_path / "a.csv", "x"),
        write_table(tmp_path / "b.csv", "x", protocol="other"),
        write_table(tmp_path / "c.csv", "x", cohort="elsewhere"),
    ]
    found = gather(files).arenas
    apart = [("phantoms", ("anymri",)), ("phantoms", ("other",)), ("elsewhere", ("anymri",))]
    assert [(a.cohort, a.protocols) for a in found] == apart
    (mixed, alone) = gather(files, across_protocols=True).arenas
    assert mixed.protocols == ("anymri", "other") and [m.label for m in mixed.methods] == ["x [anymri]", "x [other]"]
    assert alone.protocols == ("anymri",) and [m.label for m in alone.methods] == ["x"]


def test_a_run_finds_its_scores_and_scores_their_run(tmp_path):
    folder = write_scored_run(tmp_path / "one")
    (by_run,), (by_file,) = (gather([p]).arenas[0].methods for p in (folder, tmp_path / "one.csv"))
    assert by_run.trainings[0].name == by_file.trainings[0].name == "one"
    both = gather([folder, tmp_path / "one.csv"])
    assert len(both.arenas[0].methods) == 1 and len(both.trainings) == 1
    assert len(both.arenas[0].methods[0].by_seed[0]) == len(by_run.by_seed[0])


def test_scores_of_other_weights_than_those_of_the_folder_are_not_taken_for_its_own(tmp_path):
    folder = write_scored_run(tmp_path / "one")
    (folder / "weights.safetensors").write_bytes(b"trained again")
    assert gather([folder]).arenas[0].methods[0].trainings == ()


def test_variants_are_called_by_what_is_not_the_default(tmp_path):
    write_scored_run(tmp_path / "both")
    write_scored_run(tmp_path / "neither", hmsd=0.0, dmcd=0.0)
    write_scored_run(tmp_path / "zero", absent="zero", hmsd=0.0)
    assert labels(tmp_path) == [["ccsd: as by default", "ccsd: hmsd 0, dmcd 0", "ccsd: absent zero, hmsd 0"]]


def test_seeds_and_folds_of_one_variant_are_one_method(tmp_path):
    for seed, fold, cases in ((0, 0, range(3)), (0, 1, range(3, 6)), (1, 0, range(3))):
        write_scored_run(tmp_path / f"s{seed}_f{fold}", seed=seed, fold=fold, cases=cases)
    ((method,),) = (a.methods for a in gather([tmp_path]).arenas)
    assert method.label == "ccsd" and len(method.trainings) == 3
    assert {s: sorted({r.case for r in t}) for s, t in method.by_seed.items()} == {
        0: [f"case{c}" for c in range(6)],
        1: [f"case{c}" for c in range(3)],
    }


def test_runs_that_differ_in_nothing_and_scored_the_same_cases_are_told_apart_by_their_folders(tmp_path):
    for name in ("a", "b"):
        write_scored_run(tmp_path / name)
    assert labels(tmp_path) == [["ccsd: a", "ccsd: b"]]


@pytest.mark.parametrize(
    ("third", "expected"), [(range(6, 9), ["ccsd"]), (range(2, 8), ["ccsd: split1 and split2", "ccsd: split3"])]
)
def test_splits_by_lists_of_cases_are_folds_unless_they_overlap(tmp_path, third, expected):
    for name, cases in (("split1", range(3)), ("split2", range(3, 6)), ("split3", third)):
        folder = write_scored_run(tmp_path / name, fold=None, cases=cases)
        record = json.loads((folder / "run.json").read_text())
        record["run"]["cases"] = {"train": [f"patient {name} {i}" for i in range(200)], "test": [f"case{c}" for c in cases]}
        (folder / "run.json").write_text(json.dumps(record))
    assert labels(tmp_path) == [expected]


def test_one_file_with_folds_and_seeds_is_one_method(tmp_path):
    parts = (scores(cases=range(3), run="a"), scores(cases=range(3, 6), run="b"), scores(seed=1, run="c"))
    write_scores(tmp_path / "all.csv", joined(parts))
    ((method,),) = (a.methods for a in gather([tmp_path / "all.csv"]).arenas)
    assert {s: len({r.case for r in t}) for s, t in method.by_seed.items()} == {0: 6, 1: 6}


def test_a_folder_gives_its_runs_and_tables_and_nothing_hidden(tmp_path):
    write_scored_run(tmp_path / "set" / "one")
    hidden = tmp_path / "set" / ".one.csv.parts"
    hidden.mkdir()
    write_table(hidden / "case0.csv")
    (tmp_path / "set" / "notes.csv").write_text("a,b\n1,2\n")
    found = gather([tmp_path / "set"])
    assert [f.name for f in found.files] == ["one.csv"] and [t.name for t in found.trainings] == ["one"]


def test_a_run_folder_tells_what_was_set_and_how_it_went(tmp_path):
    found = read_training(write_run(tmp_path / "one", dmcd=0.0))
    assert found.losses == ((1, 4.0), (20, 0.2), (40, 0.1))  # the half line at the end is of a run that goes on
    assert found.chosen == "at_1.0" and found.candidates["at_1.0"] == 0.625 and found.seed == 0
    assert found.settings["config.dmcd"] == 0.0 and "seed" not in found.settings


def test_a_run_recorded_before_a_setting_existed_is_the_same_as_one_after(tmp_path):
    new, old = short_run("ccsd", seed=0), short_run("ccsd", seed=1)
    RunFolder(tmp_path / "new").path.mkdir()
    RunFolder(tmp_path / "new").write_record(new, {})
    content = old.model_dump(mode="json")
    assert (content.pop("coarse"), content["window"].pop("least_component")) == (0, 0)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.json").write_text(json.dumps({"run": content}))
    found = [read_training(tmp_path / name) for name in ("new", "old")]
    assert found[0].kind == found[1].kind and not differing(found)


def test_an_unfinished_run_has_no_scores_and_is_shown_all_the_same(tmp_path):
    folder = write_run(tmp_path / "one")
    for name in ("weights.safetensors", "selection.json", "log.jsonl"):
        (folder / name).unlink()
    found = gather([folder])
    assert not found.arenas and found.trainings[0].chosen is None and found.trainings[0].losses == ()


HEADER = "method,cohort,case,subset,region,metric,value,unit,seed,run,protocol"


def _empty(path):
    path.mkdir()


def _record(text):
    def make(path):
        path.mkdir()
        (path / "run.json").write_text(text)

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: None, "not found"),
        (lambda p: p.write_text("a,b\n1,2\n"), "found the header"),
        (lambda p: p.write_bytes(b"\xff\xfe\x00"), "not text"),
        (lambda p: p.write_text(f"{HEADER}\n"), "holds no score"),
        (lambda p: p.write_text(f"{HEADER}\nm,c,a,T1,WT,volume_ml,1.0,ml,0,r,anymri\n"), "has no dice of m"),
        (_empty, "neither a run folder nor a score table"),
        (_record("{"), "the record of a run"),
        (_record("[]"), "no object"),
        (_record('{"run": {}}'), "no run with a method"),
    ],
    ids=["missing", "other table", "no text", "no rows", "no dice", "empty folder", "broken record", "no object", "no method"],
)
def test_what_is_neither_scores_nor_run_is_one_line(tmp_path, make, said):
    make(tmp_path / "thing")
    with pytest.raises(InputFileError, match=said) as raised:
        gather([tmp_path / "thing"])
    assert "thing" in str(raised.value) and "\n" not in str(raised.value)
