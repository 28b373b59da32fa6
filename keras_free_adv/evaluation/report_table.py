"""A robustness report as a table, for the console and in Markdown."""

import html
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_free_adv.evaluation.intervals import binomial_interval
from keras_free_adv.evaluation.published_figures import SOURCE
from keras_free_adv.tables import aligned, html_table, markdown

if TYPE_CHECKING:
    from keras_free_adv.evaluation.robustness_report import RobustnessReport


def text_table(
    report: "RobustnessReport", published: Mapping[str, float] | None
) -> str:
    """Aligned columns, the footnote and the warnings, a line each."""
    lines = [aligned(_rows(report, published)), f"({_footnote(report)})"]
    lines += [f"Warning: {warning}" for warning in report.warnings]
    return "\n".join(lines)


def markdown_table(
    report: "RobustnessReport", published: Mapping[str, float] | None
) -> str:
    """A table of Markdown, the footnote and the warnings, a paragraph each."""
    lines = [markdown(_rows(report, published)), "", f"{_footnote(report)}."]
    lines += [f"\n**Warning:** {warning}" for warning in report.warnings]
    return "\n".join(lines) + "\n"


def html_of(report: "RobustnessReport", *, with_warnings: bool = True) -> str:
    """The table in HTML, the footnote and the warnings, a paragraph each."""
    paragraphs = [f"{_footnote(report)}."]
    if with_warnings:
        paragraphs += [f"Warning: {warning}" for warning in report.warnings]
    return html_table(_rows(report, None)) + "".join(
        f"<p>{html.escape(paragraph)}</p>" for paragraph in paragraphs
    )


def _rows(
    report: "RobustnessReport", published: Mapping[str, float] | None
) -> list[list[str]]:
    """Rows of cells, the header first; AutoAttack's parts stand above their total."""
    measure = "exact match" if report.label_accuracy else "accuracy"
    rows = [["attack", measure, "95% interval", "seconds", "forward", "backward"]]
    for name, accuracy in report.accuracy.items():
        for part, left in report.stages.get(name, {}).items():
            rows.append([f"  after {part}", f"{left:.2%}", "", "", "", ""])
        interval, passes = report.intervals[name], report.passes.get(name, {})
        rows.append(_row(name, accuracy, interval, report.seconds.get(name), passes))
    if len(report.accuracy) > 2:
        rows.append(_worst_case(report))
    if report.label_accuracy:
        means = {
            name: f"{np.mean(shares):.2%}"
            for name, shares in report.label_accuracy.items()
        }
        _insert_column(rows, "label accuracy", means)
    if published is not None:
        figures = {name: f"{figure:.2f}%" for name, figure in published.items()}
        _insert_column(rows, f"published ({SOURCE})", figures)
    return rows


def _row(
    name: str,
    accuracy: float,
    interval: tuple[float, float],
    seconds: float | None,
    passes: Mapping[str, int],
) -> list[str]:
    return [
        name,
        f"{accuracy:.2%}",
        "{:.1%} to {:.1%}".format(*interval),
        "" if seconds is None else f"{seconds:.1f}",
        *(f"{passes.get(kind, 0):,}" for kind in ("forward", "backward")),
    ]


def _worst_case(report: "RobustnessReport") -> list[str]:
    survivors = np.logical_and.reduce(list(report.robust.values()))
    interval = binomial_interval(int(survivors.sum()), len(survivors))
    totals = Counter[str]()
    for passes in report.passes.values():
        totals.update(passes)
    seconds = sum(report.seconds.values())
    return _row("worst case", report.worst_case, interval, seconds, totals)


def _insert_column(rows: list[list[str]], title: str, cells: Mapping[str, str]) -> None:
    """Inserts a column after the intervals; `cells` has some rows' by their names."""
    for row in rows:
        row.insert(3, cells.get(row[0], ""))
    rows[0][3] = title


def _footnote(report: "RobustnessReport") -> str:
    text = f"{report.examples} examples; 95% intervals (Wilson's)"
    if report.label_accuracy:
        labels = len(next(iter(report.label_accuracy.values())))
        text += (
            "; exact match: all labels of an example are right; label accuracy: the "
            f"mean of {labels} labels"
        )
    search = report.settings.get("search_dtype", "float32")
    if search != "float32":
        text += (
            f"; attacks with gradients searched in {search}, each verdict is the "
            "model's own"
        )
    if "deterministic_ops" in report.settings:
        on = "on" if report.settings["deterministic_ops"] else "off"
        text += f"; TensorFlow's deterministic operations {on}"
    return text
