"""A robustness report as one page of HTML, which needs no other file and no network."""

import html
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_free_adv.data.png import png_link
from keras_free_adv.evaluation import report_table
from keras_free_adv.evaluation.readings import Readings
from keras_free_adv.html_table import html_table

if TYPE_CHECKING:
    from keras_free_adv.evaluation.robustness_report import RobustnessReport

NATURAL = "natural"
# Larger ones are shown as the commonest confusions.
LARGEST_MATRIX = 20
_COMMONEST = 12


def html_page(report: "RobustnessReport", curve: Mapping[float, float] | None) -> str:
    """The page.

    Args:
        report: the report.
        curve: robust accuracy at some epsilons, to draw; None for no curve.
    """
    name = report.settings.get("model", "the model")
    style = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    sections = [
        f"<h1>Robustness of {html.escape(str(name))}</h1>",
        f'<p class="verdict">{html.escape(verdict(report))}</p>',
        *(
            f'<p class="warning"><b>Warning.</b> {html.escape(warning)}</p>'
            for warning in report.warnings
        ),
        _bars(report),
        _section("Every attack", report_table.html_of(report, with_warnings=False)),
        _curve(curve),
        _examples(report),
        _classes(report),
        _confusions(report),
        _who_breaks_what(report),
        _settings(report),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Robustness of {html.escape(str(name))}</title>"
        f"<style>{style}</style></head><body>{''.join(sections)}</body></html>\n"
    )


def verdict(report: "RobustnessReport") -> str:
    """What the report says, in plain words."""
    natural = f"{_of_100(report.accuracy[NATURAL])} of 100 images are read correctly"
    attacks = [name for name in report.accuracy if name != NATURAL]
    if not attacks:
        return f"Without an attack, {natural}. Nothing was attacked."
    worst = strongest(report, attacks)
    # Changes of another norm do not lie in one ball with these.
    norm = report.threat_models[worst]["norm"]
    attacks = [name for name in attacks if report.threat_models[name]["norm"] == norm]
    largest = max(attacks, key=lambda name: report.threat_models[name]["epsilon"])
    left = np.logical_and.reduce([report.robust[name] for name in attacks]).mean()
    attack = "The strongest attack was" if len(attacks) > 1 else "The attack was"
    return (
        f"{_change(report, largest)}, {_of_100(float(left))} of 100 images are "
        f"still read correctly. Without a change, {natural}. {attack} {worst}. The "
        "number is an upper bound: another attack may find more."
    )


def strongest(report: "RobustnessReport", attacks: Iterable[str]) -> str:
    """Of some attacks, the one that leaves the fewest examples."""
    return min(attacks, key=lambda name: report.accuracy[name])


def _change(report: "RobustnessReport", name: str) -> str:
    """The ball of an attack, in words."""
    settings = report.threat_models[name]
    epsilon, norm = settings["epsilon"], settings["norm"]
    low, high = settings["value_range"]
    if norm == "l2":
        return f"At a change of Euclidean length at most {epsilon:.3g}"
    levels = 255 * epsilon / (high - low)
    if abs(levels - round(levels)) < 1e-3 and levels >= 1:
        return f"At a change of at most {round(levels)} of 255 per pixel"
    return f"At a change of at most {epsilon / (high - low):.1%} of the range per pixel"


def _of_100(share: float) -> str:
    """How many of a hundred; with a decimal where rounding would hide a few."""
    return f"{100 * share:.{0 if 0.01 <= share <= 0.99 or share in (0, 1) else 1}f}"


def _section(title: str, content: str) -> str:
    return f'<h2>{title}</h2><div class="scroll">{content}</div>' if content else ""


def _bars(report: "RobustnessReport") -> str:
    rows = []
    for name, share in report.accuracy.items():
        low, high = report.intervals[name]
        interval = f"left:{low:.2%};width:{high - low:.2%}"
        rows.append(
            f"<div>{html.escape(name)}</div>"
            f'<div class="track"><div class="bar" style="width:{share:.2%}"></div>'
            f'<div class="interval" style="{interval}"></div></div>'
            f"<div>{share:.1%}</div>"
        )
    return f'<div class="bars">{"".join(rows)}</div>'


def _curve(curve: Mapping[float, float] | None) -> str:
    if not curve:
        return ""
    width, height, left, base = 640, 260, 48, 220
    most = max(curve) or 1.0

    def at(epsilon: float, share: float) -> tuple[float, float]:
        return left + (width - left - 16) * epsilon / most, base - (base - 16) * share

    points = sorted(curve.items())
    line = " ".join("{:.1f},{:.1f}".format(*at(*point)) for point in points)
    marks = "".join(
        '<circle cx="{:.1f}" cy="{:.1f}" r="4" fill="var(--bar)"/>'.format(*at(*point))
        + f"<title>epsilon {point[0]:.4g}: {point[1]:.1%}</title>"
        + f'<text x="{at(*point)[0]:.1f}" y="{base + 18}" text-anchor="middle">'
        f"{point[0]:.3g}</text>"
        for point in points
    )
    levels = "".join(
        f'<line x1="{left}" x2="{width - 16}" y1="{at(0, level)[1]:.1f}" '
        f'y2="{at(0, level)[1]:.1f}" stroke="var(--line)"/>'
        f'<text x="{left - 8}" y="{at(0, level)[1] + 4:.1f}" text-anchor="end">'
        f"{level:.0%}</text>"
        for level in (0, 0.25, 0.5, 0.75, 1)
    )
    drawing = (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="Robust accuracy against epsilon">{levels}'
        f'<polyline points="{line}" fill="none" stroke="var(--bar)" stroke-width="2"/>'
        f'{marks}<text x="{(left + width) / 2}" y="{height - 4}" text-anchor="middle">'
        "epsilon</text></svg>"
    )
    return _section("Robust accuracy against epsilon", drawing)


def _examples(report: "RobustnessReport") -> str:
    """The first images, each with what the strongest attack made of it."""
    readings = report.readings
    if readings is None or readings.images is None or not readings.adversarial:
        return ""
    if readings.images.ndim != 4 or readings.images.shape[-1] not in (1, 3):
        return ""
    name = strongest(report, readings.adversarial)
    low, high = report.threat_models[name]["value_range"]
    natural = (readings.images - low) / (high - low)
    changed = (readings.adversarial[name] - low) / (high - low)
    largest = np.abs(changed - natural).max() or 1.0
    shown = [
        '<div class="example">'
        + _figure(natural[row], _reading(readings, NATURAL, row))
        + _figure((changed - natural)[row] / (2 * largest) + 0.5, "perturbation")
        + _figure(changed[row], _reading(readings, name, row))
        + "</div>"
        for row in range(len(natural))
    ]
    return _section(
        f"The first {len(shown)} images, and what {html.escape(name)} made of them",
        f"<p>Perturbations are shown {0.5 / largest:.3g} times as strong.</p>"
        f'<div class="examples">{"".join(shown)}</div>',
    )


def _reading(readings: Readings, name: str, row: int) -> str:
    read, label = readings.classes[name][row], readings.labels[row]
    kind = "right" if read == label else "wrong"
    text = html.escape(f"read as {readings.name_of(int(read))}")
    return f'<span class="{kind}">{text}</span>'


def _figure(image: np.ndarray, caption: str) -> str:
    return (
        f'<figure><img alt="" src="{png_link(image)}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _classes(report: "RobustnessReport") -> str:
    """Accuracy of each class, natural and under each attack."""
    readings = report.readings
    if readings is None:
        return ""
    rows = [["class", "examples", *report.robust]]
    for number in np.unique(readings.labels):
        here = readings.labels == number
        shares = [f"{stands[here].mean():.0%}" for stands in report.robust.values()]
        rows.append([readings.name_of(int(number)), str(here.sum()), *shares])
    return _section("Each class", html_table(rows))


def _confusions(report: "RobustnessReport") -> str:
    """Which class is read as which under the strongest attack."""
    readings = report.readings
    if readings is None:
        return ""
    attacks = [name for name in readings.classes if name != NATURAL]
    if not attacks:
        return ""
    name = strongest(report, attacks)
    pairs = Counter(
        zip(readings.labels.tolist(), readings.classes[name].tolist(), strict=True)
    )
    numbers = sorted({number for pair in pairs for number in pair})
    title = f"Read as what under {html.escape(name)}"
    if len(numbers) > LARGEST_MATRIX:
        wrong = {pair: n for pair, n in pairs.items() if pair[0] != pair[1]}
        commonest = Counter(wrong).most_common(_COMMONEST)
        rows = [["class", "read as", "images"]]
        rows += [
            [readings.name_of(true), readings.name_of(read), str(n)]
            for (true, read), n in commonest
        ]
        return _section(f"{title}: the commonest mistakes", html_table(rows))
    return _section(title, _matrix(pairs, numbers, readings))


def _matrix(pairs: Counter[Any], numbers: list[int], readings: Readings) -> str:
    names = [html.escape(readings.name_of(number)) for number in numbers]
    header = "".join(f"<th>{name}</th>" for name in ["true \\ read", *names])
    lines = []
    for true, name in zip(numbers, names, strict=True):
        total = sum(pairs[true, read] for read in numbers) or 1
        cells = []
        for read in numbers:
            count, color = pairs[true, read], "right" if true == read else "wrong"
            strength = f"{100 * count / total:.0f}%"
            shade = f"color-mix(in srgb, var(--{color}) {strength}, transparent)"
            text = count or ""
            cells.append(f'<td style="background:{shade}">{text}</td>')
        lines.append(f"<tr><td>{name}</td>{''.join(cells)}</tr>")
    return f'<table class="confusion"><tr>{header}</tr>{"".join(lines)}</table>'


def _who_breaks_what(report: "RobustnessReport") -> str:
    """How many examples fall to each attack, and to no other."""
    attacks = {n: ~stands for n, stands in report.robust.items() if n != NATURAL}
    if len(attacks) < 2:
        return ""
    natural = report.robust[NATURAL]
    times = np.sum([fallen for fallen in attacks.values()], axis=0)
    rows = [["attack", "examples it breaks", "that no other breaks"]]
    for name, fallen in attacks.items():
        broken = fallen & natural
        rows.append([name, str(broken.sum()), str((broken & (times == 1)).sum())])
    return _section("Which attack breaks what", html_table(rows))


def _settings(report: "RobustnessReport") -> str:
    """All that is needed to repeat the evaluation."""
    everything = {"attacks": report.threat_models, **report.settings}
    text = html.escape(json.dumps(everything, indent=1, default=str))
    return _section(
        "Settings, to repeat it",
        f"<details><summary>as JSON</summary><pre>{text}</pre></details>",
    )
