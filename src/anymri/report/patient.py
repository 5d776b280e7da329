"""One patient → a page that stands by itself: the picture, the volumes, what was missing, where it came from."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anymri.domain.task import Task
from anymri.errors import InputFileError
from anymri.report.preview import rings, write_preview
from anymri.trust.statement import marked, percent, signed
from anymri.volumes.writing import write_bytes

__all__ = ["write_patient_page", "write_preview"]


def write_patient_page(path: Path, summary: Mapping[str, Any], preview_png: Path, task: Task) -> None:
    """Write one HTML file that shows a segmented patient; it refers to nothing outside itself.

    Args:
        path: Where to write; replaced only when the page is complete.
        summary: As summary.json holds it: ``name``, ``modalities_used``, ``volumes_ml`` (region → ml), ``weights`` (``name``,
            ``sha256``, ``method``), ``versions``, ``seconds`` (step → seconds), ``warnings``; if known ``doubtful_regions`` and
            ``uncertain_regions``, ``expected_dice`` (region → lowest and highest, or None), ``poor_chance`` (region → that a Dice
            below 0.5 is reached, or None), ``most_helpful`` (region → ``modality``, ``gain``, lowest and highest, its ``mean``,
            ``best`` and ``alike``, or None), ``trust`` (``cohort``, ``cases``, ``level``, ``lent`` and ``poor_masks``: what that
            rests on), ``calibration`` (region → ``error``) and ``left_out``.
        preview_png: The picture, as ``write_preview`` leaves it.
        task: Names and colours of what is shown.

    Raises:
        InputFileError: If the picture cannot be read.
        OutputError: If the page cannot be written.
    """
    import jinja2

    try:
        picture = preview_png.read_bytes()
    except OSError as error:
        raise InputFileError(
            f"{preview_png}: cannot be read ({error.strerror}); the page shows this picture, write it first"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("anymri.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("patient.html.j2").render(
        summary={"expected_dice": {}, **summary},
        task=task,
        rings=rings(task),
        rows=_rows(summary, task),
        left_out=_left_out(summary, task),
        trust=_trust(summary, task),
        durations=[(step.replace("_", " "), f"{seconds:.1f} s") for step, seconds in summary["seconds"].items()],
        picture=base64.b64encode(picture).decode("ascii"),
        alternative=_alternative(summary),
    )
    write_bytes(path, page.encode("utf-8"))


def _rows(summary: Mapping[str, Any], task: Task) -> list[dict[str, str]]:
    """Return the lines of the table of volumes, outermost region first."""
    expected, poor = summary.get("expected_dice") or {}, summary.get("poor_chance") or {}
    return [
        {
            "name": region.name,
            "description": region.description,
            "volume": _millilitres(summary["volumes_ml"].get(region.name)),
            "mark": marked(summary, region.name),
            "expected": _interval(expected.get(region.name)),
            "poor": "unknown" if poor.get(region.name) is None else percent(poor[region.name]),
        }
        for region in task.regions
    ]


def _trust(summary: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Return what the Dice to expect rests on and what would help; empty if nothing is known of it."""
    trust, helpful = summary.get("trust"), summary.get("most_helpful") or {}
    if not trust:
        return {}
    several = len(task.modalities.subset(summary["modalities_used"]).missing) > 1  # Of one alone it would say nothing.
    rows = [
        {
            "region": region,
            "modality": best["modality"] + (f" ({', '.join(best['alike'])} about as much)" if best["alike"] else ""),
            "mean": signed(best["mean"]),
            "gain": " to ".join(map(signed, best["gain"])),
            "best": f"{best['best']:.0%}" if several else "",
        }
        if best
        else {"region": region, "modality": "none", "mean": "", "gain": "", "best": ""}
        for region, best in helpful.items()
    ]
    errors = {
        r: how["error"]
        for r, how in (summary.get("calibration") or {}).items()
        if {"after", "single_patient"} <= how["error"].keys()
    }
    off = {name: ", ".join(f"{error[name]:.1%} of {r}" for r, error in errors.items()) for name in ("after", "single_patient")}
    missed = [
        f"{found['unwarned']} of {found['poor']} of {region}" for region, found in trust["poor_masks"].items() if found["poor"]
    ]
    return {**trust, "share": f"{trust['level']:.0%}", "rows": rows, "missed": ", ".join(missed), "off": off if errors else None}


def _left_out(summary: Mapping[str, Any], task: Task) -> str:
    """Return a sentence on components that are left out; empty if these weights leave none out."""
    small = summary.get("left_out") or {"below": 0}
    if not small["below"]:
        return ""
    count = small["components"]
    here = f"here {count}, {_millilitres(small['volume_ml'])} ml in all" if count else "here there were none"
    return (
        f"Parts of {task.region_names[0]} that are apart and smaller than {small['below']:.0%} of the largest are left out: {here}."
    )


def _millilitres(volume_ml: float | None) -> str:
    """Return a volume as people read it; small ones keep two digits, because a lesion of 0.04 ml is not nothing."""
    if volume_ml is None:
        return "unknown"
    return f"{volume_ml:.2f}" if volume_ml < 1 else f"{volume_ml:.1f}"


def _interval(bounds: tuple[float, float] | list[float] | None) -> str:
    """Return a range as people read it."""
    return "unknown" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"


def _alternative(summary: Mapping[str, Any]) -> str:
    """Return what the picture shows, for those who do not see it."""
    found = ((f"{region} {_millilitres(volume)} ml", marked(summary, region)) for region, volume in summary["volumes_ml"].items())
    volumes = ", ".join(f"{volume} ({mark})" if mark else volume for volume, mark in found)
    return f"Slices of {', '.join(summary['modalities_used'])} of {summary['name']} with the mask as contours: {volumes}."
