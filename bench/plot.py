"""The results as one picture: a bar chart a measure."""

from __future__ import annotations

from pathlib import Path

from bench.plan import REFERENCE, client_named
from bench.results import Results, Section
from bench.show import SUBJECT, number

COLUMNS = 3
COLOURS = {SUBJECT: "#3bc9db", REFERENCE: "#ffc078"}
OTHER = "#ced4da"


def plot(results: Results, path: Path) -> None:
    """Draw `results` to `path`; the ending says in which format.

    Bars are medians, whiskers run from the lowest to the highest repeat.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "wsockets"
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot as plt

    sections = [each for each in results.sections if each.figures]
    rows = -(-len(sections) // COLUMNS)
    figure, grid = plt.subplots(
        rows, COLUMNS, figsize=(15, 3.1 * rows), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(sections) :]:
        axes.set_visible(False)
    for axes, section in zip(grid.flat, sections, strict=False):
        draw(axes, section)
    machine = results.machine
    figure.suptitle(
        f"Client side cost, less is better — {machine['cpu']}, {machine['cpus']} CPUs,"
        f" Linux {machine['kernel']}, Python {machine['python']}",
        fontsize=10,
    )
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def draw(axes: object, section: Section) -> None:
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
        [client_named(name).title for name in order],
        medians,
        color=[COLOURS.get(name, OTHER) for name in order],
        xerr=whiskers,
        error_kw={"elinewidth": 0.8, "ecolor": "#868e96"},
    )
    for place, (name, median) in enumerate(zip(order, medians, strict=True)):
        ratio = section.ratio(name)
        text = number(median) + (f"  ×{ratio.median:.2f}" if ratio else "")
        axes.text(0, place, f" {text}", va="center", fontsize=7)
    axes.set_title(section.title, fontsize=9, loc="left")
    axes.set_xlabel(f"{section.unit}, {section.repeats} repeats", fontsize=8)
    axes.tick_params(labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
