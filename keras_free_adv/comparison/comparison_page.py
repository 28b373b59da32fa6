"""Several networks, attacked on the same images, as one page of HTML."""

import html
from collections.abc import Mapping, Sequence

from keras_free_adv.evaluation.accuracy_curve import accuracy_curves
from keras_free_adv.evaluation.html_page import (
    NATURAL,
    caption,
    document,
    figure,
    section,
    sections,
    shown_images,
)
from keras_free_adv.evaluation.robustness_report import RobustnessReport
from keras_free_adv.tables import html_table

Curve = tuple[Sequence[float], Sequence[float]]


def comparison_page(
    title: str,
    verdict: str,
    reports: Mapping[str, RobustnessReport],
    tables: Sequence[tuple[str, list[list[str]]]],
    curves: Mapping[str, Curve],
    warnings: Sequence[str] = (),
) -> str:
    """The page: tables, curves, the same images on each network, and each report.

    Args:
        title: of the page.
        verdict: the result in a sentence or two.
        reports: name of the network to its report, on the same images and attacks.
        tables: title and rows of each.
        curves: name to (seconds of training, accuracies); empty for none.
        warnings: why not to trust a number.
    """
    minutes = {
        name: {second / 60: share for second, share in zip(*curve, strict=True)}
        for name, curve in curves.items()
    }
    drawn = accuracy_curves(minutes, "training, minutes") if minutes else ""
    details = (
        f"<details><summary>All of {html.escape(name)}</summary>"
        f"{sections(report)}</details>"
        for name, report in reports.items()
    )
    return document(
        title,
        "".join(
            [
                f'<p class="verdict">{html.escape(verdict)}</p>',
                *(
                    f'<p class="warning"><b>Warning.</b> {html.escape(warning)}</p>'
                    for warning in warnings
                ),
                *(section(name, html_table(rows)) for name, rows in tables),
                section("Robust accuracy over the training", drawn),
                _examples(reports),
                *details,
            ]
        ),
    )


def _examples(reports: Mapping[str, RobustnessReport]) -> str:
    """The first images, and under each what each network reads under attack."""
    found = {
        name: shown
        for name, report in reports.items()
        if (shown := shown_images(report)) is not None
    }
    if not found:
        return ""
    blocks = []
    for row in range(min(len(natural) for _, natural, _ in found.values())):
        figures = []
        for name, (attack, natural, changed) in found.items():
            right = reports[name].robust[NATURAL][row]
            after = caption(reports[name], attack if right else NATURAL, row)
            shown = changed[row] if right else natural[row]
            figures.append(figure(shown, f"<b>{html.escape(name)}</b><br>{after}"))
        blocks.append(f'<div class="example">{"".join(figures)}</div>')
    return section(
        "The same images, attacked on each network",
        f'<div class="examples">{"".join(blocks)}</div>',
    )
