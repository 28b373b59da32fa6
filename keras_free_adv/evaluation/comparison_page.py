"""Several models, attacked on the same images, as one page of HTML."""

import html
from collections.abc import Mapping

from keras_free_adv.evaluation.html_page import (
    NATURAL,
    caption,
    document,
    figure,
    section,
    sections,
    shown_images,
    strongest,
    verdict,
)
from keras_free_adv.evaluation.robustness_report import RobustnessReport
from keras_free_adv.html_table import html_table


def comparison_page(
    title: str, reports: Mapping[str, RobustnessReport], curve: str = ""
) -> str:
    """The page: the table, the same images under attack on each model, and each report.

    Args:
        title: of the page.
        reports: name of the model to its report, on the same images and attacks.
        curve: an `<svg>` element to show after the table.
    """
    verdicts = (
        f'<p class="verdict"><b>{html.escape(name)}.</b> '
        f"{html.escape(verdict(report))}</p>"
        for name, report in reports.items()
    )
    details = (
        f"<details><summary>All of {html.escape(name)}</summary>"
        f"{sections(report)}</details>"
        for name, report in reports.items()
    )
    return document(
        title,
        "".join(
            [
                *verdicts,
                section("Accuracy", html_table(accuracies(reports))),
                section("Over the training", curve),
                _examples(reports),
                *details,
            ]
        ),
    )


def accuracies(reports: Mapping[str, RobustnessReport]) -> list[list[str]]:
    """A row for each model, with a column for each attack of any of them."""
    columns = dict.fromkeys(name for r in reports.values() for name in r.accuracy)
    rows = [["model", *columns]]
    for model, report in reports.items():
        shares = [
            f"{report.accuracy[name]:.1%}" if name in report.accuracy else ""
            for name in columns
        ]
        rows.append([model, *shares])
    return rows


def _examples(reports: Mapping[str, RobustnessReport]) -> str:
    """The first images, and under each what each model reads, before and after."""
    found = {name: shown_images(report) for name, report in reports.items()}
    if not found or None in found.values():
        return ""
    count = min(len(shown[1]) for shown in found.values() if shown)
    blocks = []
    for row in range(count):
        figures = []
        for name, report in reports.items():
            _, natural, changed = found[name]  # type: ignore[misc]
            attack = strongest(report, report.predicted.adversarial)  # type: ignore[union-attr]
            model = f"<b>{html.escape(name)}</b><br>"
            right = report.robust[NATURAL][row]
            after = caption(report, attack if right else NATURAL, row)
            figures.append(
                figure(changed[row] if right else natural[row], model + after)
            )
        blocks.append(f'<div class="example">{"".join(figures)}</div>')
    return section(
        "The same photographs, attacked on each model",
        f'<div class="examples">{"".join(blocks)}</div>',
    )
