"""The results as one picture: a bar chart a measure, a line chart a series."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.results import Results, Section
from bench.show import SUBJECT, number

COLUMNS = 3
COLOUR, REFERENCE, OTHER = "#3bc9db", "#ffc078", "#ced4da"


def plot(results: Results, path: Path) -> None:
    """Draw `results` to `path`; the ending says in which format.

    Bars are medians, whiskers run from the lowest to the highest repeat.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "wsockets"
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot as plt

    titles = {name: each["title"] for name, each in results.clients.items()}
    sections = [each for each in results.sections if each.figures]
    bars = [each for each in sections if each.series is None]
    lines: dict[str, list[Section]] = {}
    for section in sections:
        if section.series is not None:
            lines.setdefault(section.series, []).append(section)
    count = len(bars) + len(lines)
    rows = -(-count // COLUMNS)
    figure, grid = plt.subplots(
        rows, COLUMNS, figsize=(15, 3.1 * rows), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    for axes, bar in zip(grid.flat, bars, strict=False):
        draw(axes, bar, titles)
    for axes, points in zip(grid.flat[len(bars) :], lines.values(), strict=False):
        draw_line(axes, points, titles)
    machine = results.machine
    figure.suptitle(
        f"Less is better — {machine['cpu']}, {machine['cpus']} CPUs,"
        f" Linux {machine['kernel']}, Python {machine['python']}",
        fontsize=10,
    )
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def colour(section: Section, name: str) -> str:
    """Whether it is ours, what ours is compared with, or another."""
    if name == SUBJECT:
        return COLOUR
    return REFERENCE if name == section.reference else OTHER


def draw(axes: object, section: Section, titles: Mapping[str, str]) -> None:
    """One measure's bars, cheapest on top."""
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    order = sorted(
        section.figures, key=lambda name: section.figures[name].median, reverse=True
    )
    figures = [section.figures[name] for name in order]
    medians = [each.median for each in figures]
    whiskers = [
        [each.median - min(each.values) for each in figures],
        [max(each.values) - each.median for each in figures],
    ]
    axes.barh(
        [titles[name] for name in order],
        medians,
        color=[colour(section, name) for name in order],
        xerr=whiskers,
        error_kw={"elinewidth": 0.8, "ecolor": "#868e96"},
    )
    for place, (name, median) in enumerate(zip(order, medians, strict=True)):
        ratio = section.ratio(name)
        text = number(median) + (f"  ×{ratio.median:.2f}" if ratio else "")
        axes.text(0, place, f" {text}", va="center", fontsize=7)
    finish(axes, section.title, f"{section.unit}, {section.repeats} repeats")


def draw_line(axes: object, points: list[Section], titles: Mapping[str, str]) -> None:
    """How the cost grows along a series: a line a client, both scales logarithmic."""
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    first = points[0]
    for name in dict.fromkeys(name for each in points for name in each.figures):
        mine = [each for each in points if name in each.figures]
        axes.plot(
            [each.at or 0 for each in mine],
            [each.figures[name].median for each in mine],
            label=titles[name],
            color=COLOUR if name == SUBJECT else None,
            linewidth=2 if name == SUBJECT else 1,
            marker=".",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    places = [each.at or 0 for each in points]
    axes.set_xticks(places, [f"{each:,}" for each in places])
    axes.minorticks_off()
    axes.legend(fontsize=7)
    axes.set_ylabel(first.unit, fontsize=8)
    finish(
        axes, f"growth with {first.series}", f"{first.series}, {first.repeats} repeats"
    )


def finish(axes: object, title: str, label: str) -> None:
    """What all charts have."""
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel(label, fontsize=8)
    axes.tick_params(labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
