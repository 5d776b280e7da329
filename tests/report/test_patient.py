from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from anymri.domain.task import GLIOMA, PROSTATE
from anymri.errors import InputFileError, OutputError
from anymri.report.patient import write_patient_page

VOID = {"meta", "img", "br", "link", "input", "hr"}
PICTURE = b"\x89PNG\r\n\x1a\n anything"


class _Page(HTMLParser):
    """Checks that tags are closed in order and keeps attributes and words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def _summary(**changes: Any) -> dict[str, Any]:
    return {
        "name": "patient 7",
        "task": "glioma",
        "modalities_used": ["FLAIR", "T1c"],
        "modalities_missing": ["T1", "T2"],
        "volumes_ml": {"WT": 123.456, "TC": 20.0, "ET": 0.042},
        "weights": {"name": "ccsd-small", "sha256": "ab" * 32, "method": "ccsd"},
        "versions": {"anymri": "0.1.0", "torch": "2.13.0"},
        "seconds": {"prepare": 1.25, "network": 3.0},
        "warnings": [],
        **changes,
    }


def _written(folder: Path, summary: dict[str, Any]) -> tuple[str, _Page]:
    (folder / "preview.png").write_bytes(PICTURE)
    write_patient_page(folder / "report.html", summary, folder / "preview.png", GLIOMA)
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert page.open == []
    return text, page


def test_the_page_says_all_that_must_be_known(tmp_path: Path) -> None:
    text, page = _written(tmp_path, _summary())
    for words in (
        "Research use only. Not a medical device.",
        "123.5",
        "20.0",
        "0.04",
        "FLAIR, fluid-attenuated inversion recovery (T2-FLAIR) yes",
        "T2, T2-weighted missing",
        "ccsd-small",
        "ab" * 32,
        "torch 2.13.0",
        "Time, prepare 1.2 s",
        "ED: whole tumour outside TC",
    ):
        assert words in page.text
    assert "Warnings" not in page.text and "Expected" not in page.text
    assert base64.b64encode(PICTURE).decode() in text


def test_the_page_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    text, page = _written(tmp_path, _summary())
    assert not re.search(r"https?:|//|@import|url\(|<script|<link|\son\w+=", text.replace("data:image/png;base64,", ""))
    sources = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert len(sources) == 1 and str(sources[0]).startswith("data:image/png;base64,")


def test_the_page_can_be_read_by_everybody(tmp_path: Path) -> None:
    _, page = _written(tmp_path, _summary())
    tags = [tag for tag, _ in page.tags]
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert tags.count("h1") == 1 and tags.count("main") == 1
    (picture,) = (attributes for tag, attributes in page.tags if tag == "img")
    assert "WT 123.5 ml" in str(picture["alt"])
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    named = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {attributes["aria-labelledby"] for tag, attributes in page.tags if tag == "section"} == named


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_contrast_is_high_enough(tmp_path: Path, scheme: str) -> None:
    text, _ = _written(tmp_path, _summary())
    light, dark = re.findall(r":root \{(.*?)\}", text)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", light if scheme == "light" else dark))

    def luminance(colour: str) -> float:
        parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for ink, paper in (("ink", "paper"), ("quiet", "paper"), ("alert-ink", "alert")):
        high, low = sorted((luminance(colours[ink]), luminance(colours[paper])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 7


def test_names_from_files_cannot_become_markup(tmp_path: Path) -> None:
    nasty = '"><script>alert(1)</script>'
    text, _ = _written(tmp_path, _summary(name=nasty, warnings=[nasty]))
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_warnings_and_expected_agreement_are_shown_if_known(tmp_path: Path) -> None:
    summary = _summary(warnings=["T1c is missing"], expected_dice={"WT": [0.8, 0.91], "TC": (0.5, 0.7)})
    _, page = _written(tmp_path, summary)
    assert "Warnings" in page.text and "T1c is missing" in page.text
    assert "0.80 to 0.91" in page.text and "0.50 to 0.70" in page.text and "unknown" in page.text


def test_another_task_has_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(PICTURE)
    summary = _summary(modalities_used=["ADC"], modalities_missing=["T2w", "DWI"], volumes_ml={"PG": 30.0})
    write_patient_page(tmp_path / "r.html", summary, tmp_path / "p.png", PROSTATE)
    page = _Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "PG, prostate gland 30.0" in page.text and "LES, lesion unknown" in page.text


def test_faults_are_one_clear_line_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="preview.png: cannot be read"):
        write_patient_page(tmp_path / "r.html", _summary(), tmp_path / "preview.png", GLIOMA)
    (tmp_path / "preview.png").write_bytes(PICTURE)
    with pytest.raises(OutputError, match="cannot be written"):
        write_patient_page(tmp_path / "preview.png" / "r.html", _summary(), tmp_path / "preview.png", GLIOMA)
    assert [p.name for p in tmp_path.iterdir()] == ["preview.png"]


TRUST = {
    "cases": 17,
    "cohort": "some hospital",
    "level": 0.8,
    "sha256": "cd" * 32,
    "lent": False,
    "poor_masks": {
        "WT": {"poor": 17, "unwarned": 12},
        "TC": {"poor": 0, "unwarned": 0},
        "ET": {"poor": 3, "unwarned": 0},
    },
}
HELP = {"modality": "T2", "gain": [0.05, 0.3], "mean": 0.2, "best": 0.7, "alike": ["T1"]}


def test_the_page_says_how_far_to_trust_it(tmp_path: Path) -> None:
    known = {
        "expected_dice": {"WT": [0.7, 0.9], "TC": [0.5, 0.8], "ET": [0.123, 0.456]},
        "most_helpful": {
            "WT": None,
            "TC": {"modality": "T2", "gain": [-0.01, 0.2], "mean": 0.1, "best": 0.6, "alike": []},
            "ET": HELP,
        },
        "poor_chance": {"WT": 0.03, "TC": None, "ET": 0.9},
        "trust": TRUST,
        "calibration": {
            "WT": {"temperature": 1.0, "offset": 0.0, "error": {"before": 0.2, "after": 0.0312, "single_patient": 0.08}},
            "ET": {"temperature": 1.0, "offset": 0.0, "error": {}},
        },
        "warnings": ["Do not rely on ET."],
    }
    _, page = _written(tmp_path, _summary(**known))
    for words in (
        "were off by 3.1% of WT over patients",
        "in a single patient by 8.0% of WT.",
        "0.12 to 0.46",
        "80% of patients",
        "17 patients of some hospital that the network had not seen",
        "no warning was given of 12 of 17 of WT, 0 of 3 of ET.",
        "0.70 to 0.90 3% or less",
        "0.12 to 0.46 90%",
        "WT none",
        "TC T2 +0.10 -0.01 to +0.20 60%",
        "ET T2 (T1 about as much) +0.20 +0.05 to +0.30 70%",
    ):
        assert words in page.text
    assert page.text.index("Do not rely on ET.") < page.text.index("How far to trust it") < page.text.index("Volumes")
    named = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {attributes["aria-labelledby"] for tag, attributes in page.tags if tag == "section"} == named


def test_what_is_not_to_be_relied_on_is_marked_in_its_row(tmp_path: Path) -> None:
    known = {"expected_dice": {"WT": [0.7, 0.9], "TC": None, "ET": [0.1, 0.4]}, "doubtful_regions": ["ET"]}
    text, page = _written(tmp_path, _summary(**known))
    assert "ET, enhancing tumour: do not rely on it 0.04 0.10 to 0.40 unknown" in page.text and "unknown" in page.text
    assert page.text.count("do not rely on it") == 1 and "ET 0.04 ml (do not rely on it)" in text


@pytest.mark.parametrize("known", [{}, {"trust": None}])
def test_where_trust_was_not_measured_the_page_claims_nothing(tmp_path: Path, known: dict[str, Any]) -> None:
    _, page = _written(tmp_path, _summary(**known))
    assert "trust it" not in page.text and "Dice" not in page.text


def test_with_all_sequences_nothing_could_help(tmp_path: Path) -> None:
    known = {"expected_dice": {"WT": [0.7, 0.9]}, "most_helpful": {}, "trust": {**TRUST, "lent": True}}
    _, page = _written(tmp_path, _summary(**known))
    assert "17 patients of some hospital that networks trained in the same way had not seen" in page.text
    assert "How far to trust it" in page.text and "would help" not in page.text


def test_how_often_the_only_missing_sequence_gained_most_is_not_said(tmp_path: Path) -> None:
    known = {"expected_dice": {"WT": [0.7, 0.9]}, "most_helpful": {"WT": {**HELP, "best": 1.0, "alike": []}}, "trust": TRUST}
    _, page = _written(tmp_path, _summary(**known, modalities_used=["FLAIR", "T1", "T1c"]))
    assert "WT T2 +0.20 +0.05 to +0.30" in page.text and "100%" not in page.text
