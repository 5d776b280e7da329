"""The area under the robustness curve, from the printed rows of one paper to the areas that follow from them."""

from __future__ import annotations

import pytest

from anymri.domain.modality import subsets
from anymri.domain.task import GLIOMA
from anymri.metrics.robustness import aurc, curve_of

# Dice in percent on BraTS 2018 (arXiv 2511.14599, Table 1), subsets in canonical order of FLAIR, T1, T1c, T2; and the area.
PUBLISHED = {
    ("CCSD", "ET"): ("45.48 42.82 74.22 46.76 45.58 76.84 48.81 77.01 47.39 76.88 77.63 47.3 76.73 77.14 79.95", 197.92),
    ("CCSD", "TC"): ("70.89 65.2 78.05 69.43 73.6 84.31 73.17 84.02 72.15 84.79 85.28 74.64 86.86 85.42 85.7", 240.02),
    ("CCSD", "WT"): ("90.4 74.17 75.52 84.54 88.93 90.46 92.04 78.63 86.47 86.23 89.2 90.24 90.91 87.82 91.5", 263.0),
    ("ShaSpec", "ET"): ("37.79 38.43 74.27 47.62 43.85 76.18 44.66 74.53 48.9 76.52 75.87 44.66 74.83 75.74 76.47", 191.55),
    ("ShaSpec", "TC"): ("69.26 66.49 81.85 70.9 72.76 84.11 71.72 82.87 72.05 83.44 84.08 73.38 85.69 84.79 85.58", 238.66),
    ("ShaSpec", "WT"): ("89.65 73.66 74.35 84.15 88.36 90.33 90.14 77.51 87.31 85.59 89.02 89.46 89.76 85.3 90.15", 260.23),
    ("M3AE", "ET"): ("35.6 37.1 73.7 47.6 41.2 75.0 45.4 74.7 48.7 75.3 74.0 44.8 73.8 75.4 75.5", 189.05),
    ("M3AE", "TC"): ("66.4 66.1 82.9 69.4 70.8 84.4 70.9 83.4 71.8 84.2 84.1 72.7 84.6 84.4 84.5", 236.88),
    ("M3AE", "WT"): ("88.7 74.4 75.8 84.8 89.0 89.7 89.9 77.2 86.7 86.3 88.9 89.9 90.2 85.7 90.1", 260.65),
    ("mmFormer", "ET"): ("39.33 32.53 72.6 43.05 42.96 75.07 47.52 74.04 44.99 74.51 75.47 47.7 75.67 74.75 77.61", 190.49),
    ("mmFormer", "TC"): ("61.21 56.55 75.41 64.2 65.91 77.88 69.75 78.59 69.42 78.61 79.8 71.52 79.55 80.39 85.78", 226.24),
    ("mmFormer", "WT"): ("86.1 67.52 72.22 81.15 87.06 87.3 87.59 74.42 82.2 82.99 87.33 87.75 88.14 82.71 89.64", 253.27),
    ("MIFPN", "ET"): ("42.28 40.46 72.87 45.49 44.55 74.4 47.09 74.28 45.68 75.65 76.41 45.33 74.93 75.28 76.92", 191.86),
    ("MIFPN", "TC"): ("62.64 57.01 78.86 66.69 67.23 78.13 70.99 79.89 72.34 81.16 83.35 74.41 83.03 83.24 84.82", 231.52),
    ("MIFPN", "WT"): ("86.79 67.75 73.09 81.63 89.85 89.72 89.49 77.03 84.61 83.55 90.01 89.37 90.56 85.4 90.59", 258.5),
}


@pytest.mark.parametrize(("rows", "expected"), PUBLISHED.values(), ids=["-".join(key) for key in PUBLISHED])
def test_areas_follow_from_published_rows(rows, expected):
    names = [str(s) for s in subsets(GLIOMA.modalities)]
    curve = curve_of(dict(zip(names, map(float, rows.split()), strict=True)))
    assert aurc(curve) == pytest.approx(expected, abs=0.00501)
