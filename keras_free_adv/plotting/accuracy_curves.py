"""Curves of robust accuracy against the strength of an attack, checked and drawn."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from keras_free_adv.attacks.attack import Attack
from keras_free_adv.evaluation.robustness_report import RobustnessReport
from keras_free_adv.plotting.style import (
    CHARACTERS_AN_INCH,
    TEXT,
    WRONG,
    finish_curves,
    style,
)


@dataclass(frozen=True)
class Curve:
    """Accuracies of one model, with their 95% intervals.

    Attributes:
        at: the attack's epsilons, steps or restarts, in rising order, `[N]`.
        accuracy: shares, `[N]`.
        low: the lower end of each accuracy's interval, `[N]`.
        high: the upper end, `[N]`.
        examples: the number of evaluated examples.
    """

    at: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    examples: int

    @classmethod
    def of(cls, report: RobustnessReport, names: Mapping[Any, str]) -> "Curve":
        """Makes a curve from a report, and a mapping of `at` to the attacks' names."""
        ends = [report.intervals[name] for name in names.values()]
        return cls(
            at=np.array(list(names), "float64"),
            accuracy=np.array([report.accuracy[name] for name in names.values()]),
            low=np.array([low for low, _ in ends]),
            high=np.array([high for _, high in ends]),
            examples=report.examples,
        )

    def steepest_rise(self) -> tuple[int, int] | None:
        """The two points between which accuracy rises most beyond the intervals.

        A stronger attack cannot find less, so a rise is a failure of the attack.
        """
        gaps = {
            (i, j): self.low[j] - self.high[i]
            for i in range(len(self.at))
            for j in range(i + 1, len(self.at))
        }
        worst = max(gaps, key=lambda pair: gaps[pair], default=None)
        return worst if worst is not None and gaps[worst] > 0 else None


@dataclass(frozen=True)
class Failure:
    """A failed check of a curve.

    Attributes:
        point: the number of the faulty point.
        text: a sentence for the reader.
    """

    point: int
    text: str


def check_does_not_rise(name: str, curve: Curve, unit: str) -> list[Failure]:
    """Returns the failure of a curve that rises, or nothing."""
    pair = curve.steepest_rise()
    if pair is None:
        return []
    i, j = pair
    return [
        Failure(
            j,
            f"{name}: accuracy rises from {curve.accuracy[i]:.0%} at {unit} "
            f"{curve.at[i]:g} to {curve.accuracy[j]:.0%} at {unit} {curve.at[j]:g}, "
            "beyond the intervals: the attack fails there.",
        )
    ]


def draw_curves(
    axis: Axes,
    curves: Mapping[str, Curve],
    failures: Mapping[str, Sequence[Failure]],
    xlabel: str,
    title: str,
) -> None:
    """Draws curves with their intervals, and rings around faulty points."""
    for number, (name, curve) in enumerate(curves.items()):
        errors = [curve.accuracy - curve.low, curve.high - curve.accuracy]
        axis.errorbar(
            curve.at,
            curve.accuracy,
            np.maximum(errors, 0.0),
            fmt=style(number),
            label=name,
            capsize=4,
            markersize=7,
        )
        for failure in failures.get(name, ()):
            axis.plot(
                curve.at[failure.point],
                curve.accuracy[failure.point],
                "o",
                markersize=20,
                markerfacecolor="none",
                markeredgecolor=WRONG,
                markeredgewidth=2.5,
                label="_fails",
            )
    axis.set_ylim(-0.03, 1.03)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    examples = next(iter(curves.values())).examples
    ylabel = f"accuracy, {examples:,} examples"
    finish_curves(axis, xlabel, ylabel, title)


def write_failures(figure: Figure, failures: Sequence[Failure]) -> None:
    """Writes the failed checks below the picture."""
    if not failures:
        return
    width = int(CHARACTERS_AN_INCH * figure.get_size_inches()[0])
    text = "\n".join(
        line
        for failure in failures
        for line in textwrap.wrap(f"✗ {failure.text}", width, subsequent_indent="   ")
    )
    lines = text.count("\n") + 1
    figure.set_size_inches(
        figure.get_size_inches() + np.array([0.0, 0.25 * lines]), forward=False
    )
    figure.supxlabel(text, x=0.02, ha="left", fontsize=TEXT, color=WRONG)


def with_changes(attack: Attack, **changes: Any) -> Attack:
    """Copies an attack, with the same seed, and changes some of its settings.

    `step_size` grows with epsilon; if the number of steps changes, the attack chooses
    it.
    """
    config = {**attack.get_config(), "seed": attack.seed_in_use, **changes}
    epsilon = changes.get("epsilon", attack.epsilon)
    if "step_size" in config and "step_size" not in changes:
        if "steps" in changes:
            del config["step_size"]
        else:
            config["step_size"] *= epsilon / attack.epsilon
    if config.get("attacks"):  # of an ensemble
        config["attacks"] = [
            keras.saving.serialize_keras_object(with_changes(part, epsilon=epsilon))
            for part in attack.parts()
        ]
    return type(attack).from_config(config)
