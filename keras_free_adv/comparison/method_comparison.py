"""The result of a comparison: accuracies, time, and which differences are real."""

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_free_adv import files
from keras_free_adv.comparison.comparison_page import comparison_page
from keras_free_adv.comparison.plan import Plan
from keras_free_adv.evaluation.robustness_report import NATURAL, RobustnessReport
from keras_free_adv.tables import aligned, html_table, markdown

LOOK = "val_pgd10_accuracy"  # of the history: robust accuracy after each epoch
SIGNIFICANT = 0.05
ONCE = (
    "Each network was trained once: with another seed its figures move, in short "
    "trainings by a point or two."
)


@dataclass
class MethodComparison:
    """The result of `compare_methods`.

    Attributes:
        plan: how many updates each method made, and what they are worth.
        reports: each method's name to its `RobustnessReport`.
        histories: the same names to what each epoch logged: "loss", "accuracy" (under
            the training's own attack), "seconds" of its updates, "val_pgd10_accuracy".
        models: the same names to the trained networks, as `build_model` made them.
    """

    plan: Plan
    reports: dict[str, RobustnessReport]
    histories: dict[str, dict[str, list[float]]]
    models: dict[str, keras.Model]

    @property
    def attack(self) -> str:
        """The attack that the paired tests are of: the last one of the reports."""
        return list(next(iter(self.reports.values())).accuracy)[-1]

    @property
    def p_values(self) -> dict[tuple[str, str], float]:
        """Each pair of methods to McNemar's test under `attack`.

        The probability of a difference as large as theirs, or larger, if both were
        equally accurate; of networks that were trained once each: another seed may
        move a method by more than the test allows for.
        """
        names = list(self.reports)
        return {
            (one, two): self._p_value(one, two)
            for number, one in enumerate(names)
            for two in names[number + 1 :]
        }

    def curve(self, method: str) -> tuple[list[float], list[float]]:
        """Seconds of training, and robust accuracy then, as `plotting` draws them.

        Every epoch is charged as the fastest one: what disturbed the others, such as
        the compilation in the first, is not the method's.
        """
        history = self.histories[method]
        each = min(history["seconds"])
        return [each * (n + 1) for n in range(len(history[LOOK]))], history[LOOK]

    @property
    def verdict(self) -> str:
        """Which method is most robust, and which ones cannot be told from it."""
        name = self.attack
        ranked = sorted(self.reports, key=lambda n: -self.reports[n].accuracy[name])
        best, *others = ranked
        said = f"Most robust under {name}: {best} ({self._share(best, name)}"
        said += f", natural {self._share(best, NATURAL)})."
        close = [n for n in others if self._p_value(best, n) > SIGNIFICANT]
        if close:
            listed = ", ".join(f"{n} ({self._share(n, name)})" for n in close)
            said += f" Not measurably behind: {listed}."
        return f"{said} {ONCE}"

    def _share(self, method: str, name: str) -> str:
        return f"{self.reports[method].accuracy[name]:.1%}"

    def _p_value(self, one: str, two: str) -> float:
        return self.reports[one].p_value(self.reports[two], self.attack)

    @property
    def warnings(self) -> list[str]:
        """Why not to trust a number, of all reports; each with the method's name."""
        return [
            f"{method}: {said}"
            for method, report in self.reports.items()
            for said in report.warnings
        ]

    def plot(self) -> Any:
        """Robust accuracy against training time: a matplotlib figure.

        Raises:
            ImportError: matplotlib is missing.
        """
        from keras_free_adv.plotting import plot_accuracy_against_time

        return plot_accuracy_against_time(
            {name: self.curve(name) for name in self.reports},
            ylabel="PGD-10 accuracy, first test examples",
        )

    def __str__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        """As notebooks show it."""
        tables = html_table(self._accuracies()) + html_table(self._pairs())
        return f"{tables}<p>{html.escape(self.verdict)}</p>"

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def to_text(self) -> str:
        """Tables for the console."""
        tables = f"{aligned(self._accuracies())}\n\n{aligned(self._pairs())}"
        return f"{tables}\n\n{self.verdict}"

    def to_markdown(self) -> str:
        """The tables in Markdown."""
        tables = f"{markdown(self._accuracies())}\n\n{markdown(self._pairs())}"
        said = "".join(f"\n**Warning:** {warning}\n" for warning in self.warnings)
        return f"{tables}\n\n{self.verdict}\n{said}"

    def to_html(self, path: Any) -> None:
        """Writes one page: tables, curve, the same images attacked on each network.

        Args:
            path: where to write it; a file that is there is replaced.

        Raises:
            OSError: the file cannot be written.
        """
        tables = [("Accuracy", self._accuracies()), ("Paired tests", self._pairs())]
        curves = {name: self.curve(name) for name in self.reports}
        page = comparison_page(
            "Methods compared",
            self.verdict,
            self.reports,
            tables,
            curves,
            self.warnings,
        )
        files.write_text(Path(path), page)

    def _accuracies(self) -> list[list[str]]:
        """A row for each method: percent, and half the width of the 95% interval."""
        columns = list(next(iter(self.reports.values())).accuracy)
        rows = [["method", "updates", "minutes", *columns]]
        for method, report in self.reports.items():
            seconds = sum(self.histories[method]["seconds"])
            rows.append(
                [
                    method,
                    f"{self.plan.updates(method):,}",
                    f"{seconds / 60:.1f}",
                    *(_percent(report, name) for name in columns),
                ]
            )
        return rows

    def _pairs(self) -> list[list[str]]:
        """A row for each pair of methods, under the last attack: McNemar's test."""
        name = self.attack
        rows = [[f"under {name}, ahead:", "points", "p-value"]]
        for (one, two), p_value in self.p_values.items():
            ahead = self.reports[one].accuracy[name] - self.reports[two].accuracy[name]
            first, second = (one, two) if ahead >= 0 else (two, one)
            rows.append(
                [f"{first} of {second}", f"{100 * abs(ahead):.1f}", f"{p_value:.2g}"]
            )
        return rows


def _percent(report: RobustnessReport, name: str) -> str:
    low, high = report.intervals[name]
    return f"{100 * report.accuracy[name]:.1f} ± {50 * (high - low):.1f}"
