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
from keras_free_adv.evaluation.accuracy_curve import accuracy_curve
from keras_free_adv.evaluation.intervals import binomial_interval
from keras_free_adv.evaluation.packing import all_standing
from keras_free_adv.evaluation.predicted_classes import PredictedClasses
from keras_free_adv.tables import html_table

if TYPE_CHECKING:
    from keras_free_adv.evaluation.robustness_report import RobustnessReport

NATURAL = "natural"
COMMAND = "command"  # of the settings: what was typed for the report
# A model that keeps no more of its accuracy does not withstand the attack.
NOT_WITHSTOOD = 0.1
# With more classes the commonest confusions are shown, and not all.
LARGEST_MATRIX = 20
_COMMONEST = 12
# Sides up to this many pixels are shown as pixels, others smoothly.
_SMALL = 64
# The deepest shade of a confusion, in percent: the number on it has to be readable.
_DEEPEST = 45


def html_page(report: "RobustnessReport", curve: Mapping[float, float] | None) -> str:
    """The page.

    Args:
        report: the report.
        curve: epsilon to robust accuracy, to draw; None for no curve.
    """
    name = report.settings.get("model", "the model")
    return document(f"Robustness of {name}", sections(report, curve))


def document(title: str, content: str) -> str:
    """A whole page, which needs no other file."""
    style = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    title = html.escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style></head>"
        f"<body><h1>{title}</h1>{content}</body></html>\n"
    )


def sections(
    report: "RobustnessReport", curve: Mapping[float, float] | None = None
) -> str:
    """All that a page says of a report."""
    warnings = (
        f'<p class="warning"><b>Warning.</b> {html.escape(warning)}</p>'
        for warning in report.warnings
    )
    return "".join(
        [
            f'<p class="verdict">{html.escape(verdict(report))}</p>',
            f'<p class="scope">{_scope(report)}</p>',
            *warnings,
            _bars(report),
            section("Every attack", report_table.html_of(report, with_warnings=False)),
            section("Accuracy against epsilon", accuracy_curve(curve) if curve else ""),
            _examples(report),
            _classes(report),
            _confusions(report),
            _who_breaks_what(report),
            section("What the words mean", _words(report)),
            _settings(report),
        ]
    )


def verdict(report: "RobustnessReport") -> str:
    """What the report says, in plain words; of each norm a sentence."""
    right = _counted(report.robust[NATURAL])
    said = [f"Without an attack, {right} images are classified correctly."]
    norms: dict[Any, list[str]] = {}
    for name in report.accuracy.keys() - {NATURAL}:
        norms.setdefault(_setting(report, name, "norm"), []).append(name)
    if not norms:
        return f"{said[0]} Nothing was attacked."
    for attacks in sorted(norms.values(), key=lambda names: _least(report, names)):
        said.append(_sentence(report, attacks))
    # Of each norm by itself: one may leave what another one does not.
    if any(_standing(report, attacks)[1].any() for attacks in norms.values()):
        said.append(
            "Under attack that is an upper bound: another one may fool the model more "
            "often."
        )
    else:
        said.append("No other attack can make that worse.")
    return " ".join(said)


def _sentence(report: "RobustnessReport", attacks: list[str]) -> str:
    """What attacks of one norm leave, at the radius of the strongest of them."""
    worst = strongest(report, attacks)
    attacks, stands = _standing(report, attacks)
    low, high = binomial_interval(int(stands.sum()), len(stands))
    least = [n for n in report.accuracy if n in attacks and _is_least(report, n, worst)]
    which = f"the strongest attack was {worst}"
    if len(least) > 1:
        which = f"{', '.join(least[:-1])} and {least[-1]} alike"
    elif len(attacks) == 1:
        which = worst
    natural = all_standing(report.robust[NATURAL]).sum()
    fails = stands.sum() <= NOT_WITHSTOOD * natural
    return (
        f"{_change(report, worst)}, {_counted(stands)} still are "
        f"({which}; 95% interval {low:.1%} to {high:.1%})"
        f"{': the model does not withstand it.' if fails and natural else '.'}"
    )


def _standing(
    report: "RobustnessReport", attacks: list[str]
) -> tuple[list[str], np.ndarray]:
    """Of attacks of one norm those within the ball of the strongest; what stands."""
    epsilon = _setting(report, strongest(report, attacks), "epsilon")
    if epsilon is not None:  # others that stay within its ball count too
        radii = {name: _setting(report, name, "epsilon") for name in attacks}
        attacks = [n for n, radius in radii.items() if radius and radius <= epsilon]
    stands = np.logical_and.reduce([report.robust[name] for name in attacks])
    return attacks, all_standing(stands)


def not_withstood(report: "RobustnessReport") -> bool:
    """Whether attacks leave next to nothing of what is right without them."""
    natural = report.accuracy[NATURAL]
    return natural > 0 and report.worst_case <= NOT_WITHSTOOD * natural


def _is_least(report: "RobustnessReport", name: str, worst: str) -> bool:
    return report.accuracy[name] == report.accuracy[worst]


def _counted(stands: np.ndarray) -> str:
    """How many of how many."""
    return f"{int(all_standing(stands).sum()):,} of {len(stands):,}"


def strongest(report: "RobustnessReport", attacks: Iterable[str]) -> str:
    """Of some attacks, the one that leaves the fewest examples."""
    return min(attacks, key=lambda name: report.accuracy[name])


def _least(report: "RobustnessReport", attacks: Iterable[str]) -> float:
    return min(report.accuracy[name] for name in attacks)


def _setting(report: "RobustnessReport", attack: str, name: str) -> Any:
    """A setting of an attack; None where an attack of the user's own does not say."""
    return report.threat_models.get(attack, {}).get(name)


def _change(report: "RobustnessReport", name: str) -> str:
    """The ball of an attack, in words."""
    epsilon, norm = (_setting(report, name, s) for s in ("epsilon", "norm"))
    if epsilon is None or norm not in ("linf", "l2"):
        return "Under attack"
    low, high = _setting(report, name, "value_range") or (0.0, 1.0)
    if norm == "l2":
        return (
            f"After a change of Euclidean length at most {epsilon:.3g} (pixels in "
            f"[{low:g}, {high:g}])"
        )
    levels = 255 * epsilon / (high - low)
    if abs(levels - round(levels)) < 1e-3 and levels >= 1:
        return f"After a change of each pixel by at most {round(levels)} of 255 levels"
    share = 100 * epsilon / (high - low)
    return f"After a change of each pixel by at most {share:.3g}% of its range"


def _scope(report: "RobustnessReport") -> str:
    """What was tried, and what was not."""
    if len(report.accuracy) < 2:
        return ""
    return (
        "Tried were changes of pixels of this size that an attack computes with the "
        "model in hand. Other changes (larger ones, stickers, blur, crops, edited "
        "objects) were not."
    )


def section(title: str, content: str) -> str:
    """A title and what is under it; without a content nothing."""
    return f'<h2>{title}</h2><div class="scroll">{content}</div>' if content else ""


def _bars(report: "RobustnessReport") -> str:
    """The accuracies, with their intervals."""
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
    legend = '<p class="legend">The thin lines: 95% intervals.</p>'
    return f'<div class="bars">{"".join(rows)}</div>{legend}'


def _examples(report: "RobustnessReport") -> str:
    """The first images, each with what the strongest attack made of it."""
    found = shown_images(report)
    if found is None:
        return ""
    name, natural, changed = found
    perturbations = changed - natural
    largest = float(np.abs(perturbations).max()) or 0.5
    shown = []
    for row in range(len(natural)):
        figures = [figure(natural[row], caption(report, NATURAL, row))]
        if report.robust[NATURAL][row]:
            of_it = perturbations[row] / (2 * largest) + 0.5
            figures.append(figure(of_it, "perturbation"))
            figures.append(figure(changed[row], caption(report, name, row)))
        else:
            figures.append('<p class="note">wrong as it is: not attacked</p>')
        shown.append(f'<div class="example">{"".join(figures)}</div>')
    return section(
        f"The first {len(shown)} images, and what {html.escape(name)} made of them",
        f"<p>Perturbations are shown {0.5 / largest:.3g} times as strong.</p>"
        f'<div class="examples">{"".join(shown)}</div>',
    )


def shown_images(
    report: "RobustnessReport",
) -> tuple[str, np.ndarray, np.ndarray] | None:
    """The strongest attack, the first images, and those it changed, in [0, 1].

    None if there are none, or they cannot be shown.
    """
    predicted = report.predicted
    if predicted is None or predicted.images is None or not predicted.adversarial:
        return None
    if predicted.images.ndim != 4 or predicted.images.shape[-1] not in (1, 3):
        return None
    name = strongest(report, predicted.adversarial)
    low, high = _setting(report, name, "value_range") or (0.0, 1.0)
    both = predicted.images, predicted.adversarial[name]
    natural, changed = ((images - low) / (high - low) for images in both)
    return name, natural, changed


def caption(report: "RobustnessReport", name: str, row: int) -> str:
    """The predicted class, and whether it is right: in a sign, a word and a color."""
    predicted: PredictedClasses = report.predicted  # type: ignore[assignment]
    label = predicted.name_of(int(predicted.labels[row]))
    if report.robust[name][row]:
        return f'<span class="right">{html.escape(label)} &#10003;</span>'
    found = predicted.name_of(int(predicted.classes[name][row]))
    text = html.escape(f"{found} \u2717 (is {label})")
    return f'<span class="wrong">{text}</span>'


def figure(image: np.ndarray, caption: str) -> str:
    """An image `[height, width, 1 or 3]` in [0, 1], with a line under it."""
    small = max(image.shape[:2]) <= _SMALL
    return (
        f'<figure><img alt="" {"class=pixels " if small else ""}'
        f'src="{png_link(image)}"><figcaption>{caption}</figcaption></figure>'
    )


def _classes(report: "RobustnessReport") -> str:
    """Accuracy of each class, natural and under each attack."""
    predicted = report.predicted
    if predicted is None:
        return ""
    rows = [["class", "examples", *report.robust]]
    for number in np.unique(predicted.labels):
        here = predicted.labels == number
        shares = [f"{stands[here].mean():.0%}" for stands in report.robust.values()]
        rows.append([predicted.name_of(int(number)), str(here.sum()), *shares])
    return section("Each class", html_table(rows))


def _confusions(report: "RobustnessReport") -> str:
    """Which class is predicted of which under the strongest attack."""
    predicted = report.predicted
    attacks = (
        [] if predicted is None else [n for n in predicted.classes if n != NATURAL]
    )
    if predicted is None or not attacks:
        return ""
    name = strongest(report, attacks)
    pairs = Counter(
        zip(predicted.labels.tolist(), predicted.classes[name].tolist(), strict=True)
    )
    numbers = sorted({number for pair in pairs for number in pair})
    title = f"Confusions under {html.escape(name)}"
    among = "<p>Images that are wrong without an attack are among them.</p>"
    if len(numbers) <= LARGEST_MATRIX:
        return section(title, among + _matrix(pairs, numbers, predicted))
    wrong = Counter({pair: n for pair, n in pairs.items() if pair[0] != pair[1]})
    rows = [["class", "predicted", "images"]]
    for (true, found), count in wrong.most_common(_COMMONEST):
        rows.append([predicted.name_of(true), predicted.name_of(found), str(count)])
    return section(f"{title}: the commonest", among + html_table(rows))


def _matrix(
    pairs: Counter[tuple[int, int]], numbers: list[int], predicted: PredictedClasses
) -> str:
    """A row for each true class, a column for each predicted one."""
    names = [html.escape(predicted.name_of(number)) for number in numbers]
    header = "".join(f"<th>{name}</th>" for name in ["true \\ predicted", *names])
    lines = []
    for true, name in zip(numbers, names, strict=True):
        total = sum(pairs[true, found] for found in numbers) or 1
        cells = []
        for found in numbers:
            count, color = pairs[true, found], "right" if true == found else "wrong"
            depth = f"{_DEEPEST * count / total:.0f}%"
            shade = f"color-mix(in srgb, var(--{color}) {depth}, transparent)"
            cells.append(f'<td style="background:{shade}">{count or ""}</td>')
        lines.append(f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>')
    return f'<table class="confusion"><tr>{header}</tr>{"".join(lines)}</table>'


def _who_breaks_what(report: "RobustnessReport") -> str:
    """How many examples fall to each attack, and to no other."""
    attacks = {n: ~stands for n, stands in report.robust.items() if n != NATURAL}
    if len(attacks) < 2:
        return ""
    natural, times = report.robust[NATURAL], np.sum(list(attacks.values()), axis=0)
    rows = [["attack", "examples it breaks", "only it breaks"]]
    for name, fallen in attacks.items():
        broken = fallen & natural
        rows.append([name, str(broken.sum()), str((broken & (times == 1)).sum())])
    return section("Which attack breaks what", html_table(rows))


def _words(report: "RobustnessReport") -> str:
    """The words of the page, for a reader who has not met them."""
    words = {
        "natural": "images as they are, not attacked",
        "attack": "a search, in an image that is classified correctly, for a change "
        "within the limit, with which it is classified wrongly",
        "perturbation": "that change; epsilon is its limit, how far a pixel may go "
        "(linf), or how long the whole change may be (l2)",
        "accuracy under attack": "the share of images that are still classified "
        "correctly after the search. It is never too low, but it may be too high, "
        "which is meant by upper bound: a better search may find what this one did not",
        "95% interval": "between these two the accuracy on all such images should be, "
        "as well as so many images can tell",
        "worst case": "an image counts if it withstands every attack",
        "pgd20": "a search of 20 steps, each in the direction in which the model errs "
        "soonest (its gradient)",
        "autoattack": "four attacks one after another (apgd_ce, apgd_t, fab_t and "
        "square), by whose figure models are compared; a row for what each leaves",
        "forward, backward": "how often an image went through the model, and a "
        "gradient came back: what the attack cost",
    }
    optional = {"pgd20", "autoattack", "worst case"}
    there = {*report.accuracy, *(["worst case"] if len(report.accuracy) > 2 else [])}
    shown = {
        word: meaning
        for word, meaning in words.items()
        if word not in optional or word in there
    }
    listed = "".join(
        f"<dt>{html.escape(word)}</dt><dd>{html.escape(meaning)}.</dd>"
        for word, meaning in shown.items()
    )
    return f"<dl>{listed}</dl>"


def _settings(report: "RobustnessReport") -> str:
    """All that is needed to repeat the evaluation."""
    everything = {"attacks": report.threat_models, **report.settings}
    command = everything.pop(COMMAND, None)
    text = html.escape(json.dumps(everything, indent=1, default=str))
    typed = f"<pre>{html.escape(command)}</pre>" if command else ""
    return section("Settings, to repeat it", f"{typed}<pre>{text}</pre>")
