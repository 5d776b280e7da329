from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA, TASKS
from anymri.errors import UsageError
from anymri.metrics.protocol import ANYMRI, UNITS, prepare_case, score_case
from anymri.metrics.scores import Origin, ScoreTable, joined, selected, tabulated
from anymri.metrics.statistics import Bootstrap
from anymri.metrics.tables import empties, markdown, plain, robustness_table, subset_table, summaries

FEW = Bootstrap(resamples=100)


def scored(task, cases: int = 4, method: str = "m") -> ScoreTable:
    """Score small random masks; the innermost region is empty in the first case's truth and in what the first subset predicts."""
    generator = np.random.default_rng(0)
    rows = []
    for c in range(cases):
        truth = {r: generator.random((6, 6, 6)) < 0.4 for r in task.region_names}
        if c == 0:
            truth[task.region_names[-1]][:] = False
        reference = prepare_case(truth, (1.0, 1.0, 1.0), ANYMRI)
        for s, subset in enumerate(subsets(task.modalities)):
            prediction = {r: m ^ (generator.random(m.shape) < 0.1) for r, m in truth.items()}
            if s == 0:
                prediction[task.region_names[-1]][:] = False
            rows += tabulated(
                Origin(method, "phantom", f"case{c}", 0, "run", "anymri"), str(subset), score_case(prediction, reference)
            )
    return ScoreTable(tuple(rows))


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_rows_are_all_subsets_in_canonical_order_whatever_the_table(task):
    table = scored(task)
    found = subset_table(table, bootstrap=FEW)
    names = [str(s) for s in subsets(task.modalities)]
    assert [row[0] for row in found.rows] == [*names, f"mean of {len(names)}"]
    assert found.header[2::2] == task.region_names
    assert len({len(row) for row in (found.header, *found.rows)}) == 1
    # Rows of the table in any order, as long as regions and cases first appear alike.
    head = table.rows[: len(task.regions) * len(UNITS)]
    tail = sorted(table.rows[len(head) :], key=lambda r: (r.case, r.metric, r.subset[::-1], r.region))
    assert subset_table(ScoreTable((*head, *tail)), bootstrap=FEW) == found


def test_cells_are_means_in_percent_with_intervals():
    table = scored(GLIOMA)
    found = subset_table(table, bootstrap=FEW)
    dice = [r.value for r in table if (r.metric, r.subset, r.region) == ("dice", "FLAIR", "WT")]
    cell = found.rows[0][2]
    assert cell.startswith(f"{100 * np.mean(dice):.1f} [") and cell.endswith("]")
    overall = [r.value for r in table if (r.metric, r.region) == ("dice", "TC")]
    assert found.rows[-1][4].startswith(f"{100 * np.mean(overall):.1f} [")
    distance = subset_table(table, metric="hausdorff_95_mm", bootstrap=FEW)
    values = [r.value for r in table if (r.metric, r.subset, r.region) == ("hausdorff_95_mm", "FLAIR", "WT")]
    assert distance.rows[0][2].startswith(f"{np.mean(values):.2f} [") and "(mm)" in distance.title


def test_empties_stand_beside_the_means():
    found = subset_table(scored(GLIOMA), bootstrap=FEW)
    inner = [row[7] for row in found.rows]
    # With the first subset nothing is predicted: right in one case, a miss in three. With the others something is invented in one.
    assert inner[0] == "1/3/0" and inner[1:-1] == ["0/0/1"] * 14 and inner[-1] == "1/3/14"
    assert {row[3] for row in found.rows} == {"0/0/0"}
    counted = empties(scored(GLIOMA))
    assert str(counted["FLAIR", "ET"]) == "1/3/0" and counted["T1", "ET"].invented == 1


def test_distances_over_what_no_rule_touches_stand_beside_the_mean():
    table = scored(GLIOMA)
    found = subset_table(table, metric="hausdorff_95_mm", bootstrap=FEW)
    assert found.header[2:5] == ("WT", "WT neither empty", "WT empty b/m/i")
    row = found.rows[0]
    # With the first subset the innermost region is empty in every prediction, and in one reference too.
    assert row[2] == row[3] and row[9] == "–" and row[10] == "1/3/0"
    values = [r.value for r in table if (r.metric, r.subset, r.region) == ("hausdorff_95_mm", "T1", "ET") and r.case != "case0"]
    assert next(r for r in found.rows if r[0] == "T1")[9].startswith(f"{np.mean(values):.2f} [")
    assert subset_table(selected(table, lambda r: "volume" not in r.metric), metric="hausdorff_95_mm", bootstrap=FEW).header[
        2:4
    ] == ("WT", "WT empty b/m/i")


def test_every_table_names_its_protocol_and_its_rules():
    for metric, made in itertools.product(("dice", "hausdorff_95_mm"), (subset_table, robustness_table)):
        for shown in (plain, markdown):
            text = shown(made(scored(GLIOMA), metric=metric, bootstrap=FEW))
            assert "protocol anymri" in text.splitlines()[0] and "protocol anymri: scored on: the whole grid; " in text
    other = ScoreTable(tuple(dataclasses.replace(r, protocol="theirs") for r in scored(GLIOMA)))
    assert "protocol theirs: rules that this version does not know" in plain(subset_table(other, bootstrap=FEW))


def test_a_protocol_may_show_fractions():
    table = ScoreTable(tuple(dataclasses.replace(r, protocol="nnunet") for r in scored(GLIOMA)))
    found = subset_table(table, bootstrap=FEW)
    dice = [r.value for r in table if (r.metric, r.subset, r.region) == ("dice", "FLAIR", "WT")]
    assert found.rows[0][2].startswith(f"{np.mean(dice):.3f} [") and "dice (fraction), protocol nnunet" in found.title


def test_without_volumes_the_table_says_so():
    table = selected(scored(GLIOMA), lambda r: r.metric == "dice")
    found = subset_table(table, bootstrap=FEW)
    assert found.rows[0][3] == "–" and "empties unknown" in found.notes[0]
    assert empties(table) == {}


def test_values_without_a_number_are_counted_in_a_note():
    rows = list(scored(GLIOMA))
    place = next(i for i, r in enumerate(rows) if r.metric == "dice")
    rows[place] = dataclasses.replace(rows[place], value=float("nan"))
    for made in (subset_table, robustness_table):
        assert any(note.startswith("1 values have no number") for note in made(ScoreTable(tuple(rows)), bootstrap=FEW).notes)
        assert not any("no number" in note for note in made(scored(GLIOMA), bootstrap=FEW).notes)


def test_a_case_that_lacks_subsets_or_regions_is_counted_where_it_is():
    table = selected(scored(GLIOMA), lambda r: r.case != "case1" or ("T2" not in r.subset and r.region == "WT"))
    found = {row[0]: row for row in subset_table(table, bootstrap=FEW).rows}
    assert found["T2"][1] == "3" and found["FLAIR"][1] == "4"


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_the_robustness_table_has_a_row_per_size_and_the_areas(task):
    n = len(task.modalities)
    found = robustness_table(scored(task), bootstrap=FEW)
    assert [row[0] for row in found.rows] == [*map(str, range(1, n + 1)), "AURC", "AURC/(N−1)"]
    area, height = (float(row[2].split()[0]) for row in found.rows[-2:])
    assert area == pytest.approx((n - 1) * height, abs=0.2)


def test_text_is_aligned_and_markdown_is_a_table():
    found = subset_table(scored(GLIOMA), bootstrap=FEW)
    lines = plain(found).splitlines()
    body = lines[4:20]
    assert len({line.index("  ", 20) > 0 for line in body}) == 1 and len({len(line) for line in body}) == 1
    marked = markdown(found).splitlines()
    assert marked[2].startswith("| modalities | cases | WT |") and marked[3].startswith("| --- | ---: |")
    assert {line.count("|") for line in marked[2:20]} == {len(found.header) + 1}
    assert marked[-1].startswith("* ")


def test_every_method_has_its_tables():
    table = joined((scored(GLIOMA), scored(GLIOMA, method="n")))
    titles = [t.title for t in summaries(table, bootstrap=FEW)]
    assert len(titles) == 6 and titles[0].startswith("m on phantom: dice (%)") and titles[3].startswith("n on phantom: dice (%)")
    assert all("protocol anymri" in t for t in titles) and "hausdorff_95_mm (mm)" in titles[2]
    with pytest.raises(UsageError, match="mixes methods"):
        subset_table(table)
