"""Figures of a report as SVG: curves by number of modalities, areas under them, training curves."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anymri.metrics.statistics import Estimate
from anymri.report.series import PublishedSeries, Series, is_known, regions_of
from anymri.report.trainings import Training

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito: told apart by people with any kind of colour vision; shapes and strokes tell the same again.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
_PANEL, _PANEL_HEIGHT, _BAR, _LEGEND_LINE = 3.5, 3.3, 0.3, 0.21  # inches
_SVG: dict[Any, Any] = {
    "svg.hashsalt": "anymri",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Picture:
    """A figure ready to be written.

    Attributes:
        name: Of its file, with ending.
        title: What it shows.
        alternative: The same for those who do not see it.
        content: The file.
        notes: What must be known to read it.
    """

    name: str
    title: str
    alternative: str
    content: bytes
    notes: tuple[str, ...] = ()

    @property
    def media_type(self) -> str:
        """What a browser takes it for."""
        return "image/svg+xml" if self.name.endswith(".svg") else "image/png"


def curve_figure(series: Sequence[Series], *, name: str, title: str) -> Picture | None:
    """Return mean Dice by number of modalities, a panel per region: measured ones with intervals, published ones hollow."""
    shown = [s for s in series if s.subsets and any(s.curve(r) for r in s.regions)]
    if not shown:
        return None
    regions = regions_of(shown)
    width = max(_PANEL * len(regions), 6.0)
    figure, panels, foot = _panels(width, _PANEL_HEIGHT, len(regions), shown)
    for axes, region in zip(panels, regions, strict=True):
        for place, own in enumerate(shown):
            _draw_curve(axes, own.curve(region), place, (len(shown), isinstance(own, PublishedSeries)))
        longest = max(len(s.curve(region)) for s in shown)
        axes.set_title(region, loc="left", fontweight="bold")
        axes.set_xticks(range(1, longest + 1))
        axes.set_xlabel("modalities at hand")
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    panels[0].set_ylabel("mean Dice, %")
    _legend(figure, shown, foot)
    notes = ["Bars: intervals by bootstrap over cases. Hollow signs: published, without interval."]
    return Picture(f"{name}.svg", title, f"{title}. {_told_curves(shown, regions)}", _svg(figure), tuple(notes))


def area_figure(series: Sequence[Series], *, name: str, title: str) -> Picture | None:
    """Return bars of the area under the robustness curve, a panel per region."""
    shown = [s for s in series if s.subsets and any(is_known(s.area(r)[0]) for r in s.regions)]
    if not shown:
        return None
    regions = regions_of(shown)
    figure, panels = _bar_panels(len(shown), len(regions), max(len(_bar_label(s)) for s in shown))
    for axes, region in zip(panels, regions, strict=True):
        for place, own in enumerate(shown):
            area = own.area(region)[0]
            if is_known(area):
                _draw_bar(axes, area, len(shown) - 1 - place, isinstance(own, PublishedSeries))
        axes.set_title(region, loc="left", fontweight="bold")
        axes.set_xlabel("AURC, % × modalities")
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_yticks([])
        longest = max([100 * _top(s.area(region)[0]) for s in shown if is_known(s.area(region)[0])], default=0.0)
        axes.set_xlim(0, 1.3 * longest or 1.0)  # All may be zero.
    panels[0].set_yticks(range(len(shown)), [_bar_label(s) for s in reversed(shown)])
    told = "; ".join(
        f"{s.label} ({s.group}): " + ", ".join(f"{r} {100 * s.area(r)[0].value:.2f}" for r in regions if is_known(s.area(r)[0]))
        for s in shown
    )
    notes = ("Dark: measured, with interval by bootstrap over cases. Light and hatched: published.",)
    return Picture(f"{name}.svg", title, f"{title}. {told}.", _svg(figure), notes)


def training_figure(trainings: Sequence[Training], *, name: str, title: str) -> Picture | None:
    """Return the smoothed loss of every training against its steps."""
    shown = [t for t in trainings if len(t.losses) > 1]
    if not shown:
        return None
    from matplotlib.figure import Figure

    rows = math.ceil(len(shown) / 3)
    height = 3.4 + rows * _LEGEND_LINE
    with _style():
        figure = Figure(figsize=(8.5, height))
        axes = figure.add_axes((0.08, (0.55 + rows * _LEGEND_LINE) / height, 0.9, 2.7 / height))
        for place, training in enumerate(shown):
            colour, _, dashes = _look(place)
            axes.plot(*zip(*training.losses, strict=True), color=colour, linestyle=dashes, linewidth=1.3, label=training.name)
        axes.set_xlabel("step")
        axes.set_ylabel("loss, smoothed")
        axes.set_ylim(bottom=min(0.0, *(loss for t in shown for _, loss in t.losses)))
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        figure.legend(loc="lower center", ncols=3, frameon=False, fontsize=8)
    told = "; ".join(f"{t.name} from {t.losses[0][1]:.2f} to {t.losses[-1][1]:.2f} at step {t.losses[-1][0]}" for t in shown)
    return Picture(f"{name}.svg", title, f"{title}. {told}.", _svg(figure))


def _panels(width: float, height: float, count: int, series: Sequence[Series]) -> tuple[Figure, list[Axes], float]:
    """Return a figure with panels side by side and room for a legend below, and that room's share of the height."""
    from matplotlib.figure import Figure

    columns = _legend_columns(series, width)
    foot = 0.6 + math.ceil(len(series) / columns) * _LEGEND_LINE
    whole = height + foot
    with _style():
        figure = Figure(figsize=(width, whole))
        share = 0.93 / count
        panels = [figure.add_axes((0.06 + i * share, foot / whole, share - 0.045, (height - 0.35) / whole)) for i in range(count)]
    return figure, panels, foot / whole


def _bar_panels(bars: int, count: int, longest: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    left, width, height = 0.3 + 0.075 * longest, 2.5, bars * _BAR + 0.35
    whole_width, whole_height = left + count * (width + 0.15), height + 0.9
    with _style():
        figure = Figure(figsize=(whole_width, whole_height))
        panels = [
            figure.add_axes(
                ((left + i * (width + 0.15)) / whole_width, 0.5 / whole_height, width / whole_width, height / whole_height)
            )
            for i in range(count)
        ]
    return figure, panels


def _draw_curve(axes: Axes, curve: Sequence[Estimate], place: int, of: tuple[int, bool]) -> None:
    count, published = of
    points = [(k, e) for k, e in enumerate(curve, start=1) if is_known(e)]
    if not points:
        return
    colour, marker, dashes = _look(place)
    # Side by side, or the bars of several methods would hide each other.
    across = [k + 0.3 * ((place + 0.5) / count - 0.5) for k, _ in points]
    heights = [100 * e.value for _, e in points]
    axes.plot(
        across, heights, color=colour, linestyle=dashes, marker=marker, markersize=5, linewidth=1.2,
        markerfacecolor="white" if published else colour,
    )  # fmt: skip
    whiskers = [(x, 100 * e.low, 100 * e.high) for x, (_, e) in zip(across, points, strict=True) if not math.isnan(e.low)]
    if whiskers:
        x, low, high = zip(*whiskers, strict=True)
        axes.vlines(x, low, high, color=colour, linewidth=1.0)


def _draw_bar(axes: Axes, area: Estimate, place: int, published: bool) -> None:
    value = 100 * area.value
    face, hatch = ("#d9e6f2", "////") if published else (_COLOURS[0], "")
    axes.barh(place, value, height=0.72, color=face, edgecolor=_COLOURS[0], linewidth=0.8, hatch=hatch)
    if not math.isnan(area.low):
        axes.hlines(place, 100 * area.low, 100 * area.high, color="#000000", linewidth=1.4)
    axes.text(100 * _top(area), place, f" {value:.2f}", va="center", ha="left", fontsize=8)


def _top(area: Estimate) -> float:
    return area.value if math.isnan(area.high) else max(area.high, area.value)


def _legend(figure: Figure, series: Sequence[Series], foot: float) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for place, own in enumerate(series):
        colour, marker, dashes = _look(place)
        published = isinstance(own, PublishedSeries)
        handles.append(
            Line2D(
                [],
                [],
                color=colour,
                linestyle=dashes,
                marker=marker,
                markersize=5,
                markerfacecolor="white" if published else colour,
                label=_legend_label(own),
            )  # fmt: skip
        )
    columns = _legend_columns(series, figure.get_figwidth())
    figure.legend(handles=handles, loc="lower center", ncols=columns, frameon=False, fontsize=8, handlelength=3.0)


def _legend_label(own: Series) -> str:
    return f"{own.label} ({own.group})" if isinstance(own, PublishedSeries) else own.label


def _bar_label(own: Series) -> str:
    return f"{own.label} (published)" if isinstance(own, PublishedSeries) else own.label


def _legend_columns(series: Sequence[Series], width: float) -> int:
    longest = max(len(_legend_label(s)) for s in series)
    return max(1, min(len(series), int(width / (0.7 + 0.075 * longest))))


def _look(place: int) -> tuple[str, str, Any]:
    """Return colour, sign and stroke; they repeat at different rates, so that dozens differ."""
    return _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)], _DASHES[place // len(_COLOURS) % len(_DASHES)]


def _told_curves(series: Sequence[Series], regions: Sequence[str]) -> str:
    lines = []
    for own in series:
        parts = [f"{r} {', '.join(f'{100 * e.value:.1f}' for e in own.curve(r))}" for r in regions if own.curve(r)]
        lines.append(f"{own.label} ({own.group}): {'; '.join(parts)}")
    return ". ".join(lines) + "."


def _style():
    import matplotlib

    return matplotlib.rc_context(_SVG)


def _svg(figure: Figure) -> bytes:
    """Return a figure as SVG that is the same whenever it is drawn."""
    drawn = io.BytesIO()
    with _style():
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return drawn.getvalue()
