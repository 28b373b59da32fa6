"""What an evaluation found, as numbers, a table, Markdown and JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_free_adv.evaluation.intervals import (
    binomial_interval,
    mcnemar,
    paired_difference,
)
from keras_free_adv.evaluation.published_figures import SOURCE
from keras_free_adv.predictions import CLASS
from keras_free_adv.user_warnings import warn_user

SCHEMA_VERSION = 2
NATURAL = "natural"
# What an evaluation found out of the model and says beside an attack's settings.
_FOUND_OUT = ("logits", "kind")
# In which the same attack may differ from model to model: what it is called, its draws,
# and how the logits are found.
_FREE_TO_DIFFER = ("name", "seed", "logits", "from_logits", "predicts")


@dataclass
class RobustnessReport:
    """The result of `evaluate_robustness`.

    Attributes:
        accuracy: "natural", then each attack's name, to the share of examples the
            model gets right (an example is robust to an attack only if every restart
            failed). Of a model that predicts several labels at once: that gets all
            labels of an example right (exact match).
        robust: the same names to a boolean array, one entry per example.
        worst_case: the share of examples that no attack broke.
        seconds: the same names to wall-clock seconds.
        threat_models: each attack's name to its settings (norm, epsilon, steps, seed,
            how logits were found, ...).
        warnings: doubts about the numbers, each with what to do.
        passes: the same names to {"forward": n, "backward": n}: how many examples went
            through the model, counted once a pass.
        stages: for an `AutoAttack`, its name to the accuracy left after each part.
        settings: checksums of model and data, versions, batch size, and whether
            TensorFlow's deterministic ops were on.
        label_accuracy: of a model that predicts several labels at once, the same names
            to the accuracy of each label (a label of an example is robust to an attack
            only if no point that it looked at made it wrong); else empty.
    """

    accuracy: dict[str, float]
    robust: dict[str, np.ndarray]
    worst_case: float
    seconds: dict[str, float]
    threat_models: dict[str, dict[str, Any]]
    warnings: list[str] = field(default_factory=list)
    passes: dict[str, dict[str, int]] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    label_accuracy: dict[str, list[float]] = field(default_factory=dict)

    @property
    def examples(self) -> int:
        """Number of examples evaluated."""
        return len(self.robust[NATURAL])

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95% binomial interval of each accuracy (Wilson's)."""
        return {
            name: binomial_interval(int(stands.sum()), len(stands))
            for name, stands in self.robust.items()
        }

    def attacks(self) -> list[Any]:
        """The attacks of this report, with their seeds: the same call repeats it.

        Raises:
            ValueError: an attack is of a class that is not registered with Keras.
        """
        made = []
        for settings in self.threat_models.values():
            config = {k: v for k, v in settings.items() if k not in _FOUND_OUT}
            name = config.pop("class_name")
            found = keras.saving.get_registered_object(name)
            if found is None:
                raise ValueError(
                    f"The report has an attack of the class {name!r}, which Keras does "
                    "not know. Import the module that registers it first."
                )
            made.append(found.from_config(config))
        return made

    def difference(
        self, other: "RobustnessReport", name: str = NATURAL
    ) -> tuple[float, float, float]:
        """How much more accurate this model is than another, on the same examples.

        Args:
            other: the report of another model on the same data.
            name: "natural", or the name of an attack of both.

        Returns:
            The difference of the accuracies, and the ends of its 95% interval; a
            warning says so if the examples are too few to tell it from none.

        Raises:
            ValueError: a report lacks `name`, or they are of different examples or
                attacks.
        """
        one, two = self._paired(other, name)
        found, low, high = paired_difference(one, two)
        if low <= 0 <= high:
            warn_user(
                f"{name}: a difference of {found:+.2%} (95% interval {low:+.2%} to "
                f"{high:+.2%}) on {self.examples} examples is too small to claim. "
                "Evaluate more examples."
            )
        return found, low, high

    def p_value(self, other: "RobustnessReport", name: str = NATURAL) -> float:
        """Whether two models differ at all, on the same examples: McNemar's test.

        Args:
            other: the report of another model on the same data.
            name: "natural", or the name of an attack of both.

        Returns:
            The probability of a difference as large as this, or larger, between models
            that are equally accurate; exact and two-sided.

        Raises:
            ValueError: a report lacks `name`, or they are of different examples or
                attacks.
        """
        return mcnemar(*self._paired(other, name))

    def _paired(
        self, other: "RobustnessReport", name: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Both results for the same examples."""
        for report in (self, other):
            if name not in report.robust:
                raise ValueError(
                    "Argument `name` must be in both reports. Received: "
                    f"name={name!r}; one has {list(report.robust)}."
                )
        if self.settings.get("data", {}).get("checksum") != other.settings.get(
            "data", {}
        ).get("checksum"):
            raise ValueError(
                "Argument `other` must be a report on the same examples. Received: "
                "one on other data. Evaluate both models on the same."
            )
        _check_same_attack(self._threat_model(name), other._threat_model(name), name)
        return self.robust[name], other.robust[name]

    def _threat_model(self, name: str) -> dict[str, Any]:
        """What an attack must share with another to be compared, as JSON holds it."""
        # Earlier reports were all of one class an example.
        settings = {"kind": CLASS, **self.threat_models.get(name, {})}
        return _without_free(json.loads(json.dumps(settings)))

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, published: Mapping[str, float] | None = None) -> str:
        """A table for the console.

        Args:
            published: attack name to published percent, to print beside; see
                `published_figures`.
        """
        head, *rows = self._table(published)
        rows = [head, *rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines.append(f"({self._small_print()})")
        lines += [f"Warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def to_markdown(self, published: Mapping[str, float] | None = None) -> str:
        """The table in Markdown; `published` as in `to_text`."""
        head, *rows = self._table(published)
        lines = [f"| {' | '.join(row)} |" for row in [head, *rows]]
        lines.insert(1, "|" + "---|" * len(head))
        lines += ["", f"{self._small_print()}."]
        lines += [f"\n**Warning:** {warning}" for warning in self.warnings]
        return "\n".join(lines) + "\n"

    def to_dict(self, *, seconds: bool = True) -> dict[str, Any]:
        """Everything, as plain Python values that JSON can hold.

        Args:
            seconds: whether to include wall-clock times: without them the same
                evaluation gives the same dictionary again.
        """
        everything = {
            "schema_version": SCHEMA_VERSION,
            "examples": self.examples,
            "accuracy": dict(self.accuracy),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "worst_case": self.worst_case,
            "seconds": dict(self.seconds),
            "passes": self.passes,
            "stages": self.stages,
            "threat_models": self.threat_models,
            "warnings": list(self.warnings),
            "settings": self.settings,
            "robust": {name: array.tolist() for name, array in self.robust.items()},
        }
        if self.label_accuracy:
            everything["label_accuracy"] = self.label_accuracy
        if not seconds:
            del everything["seconds"]
        return everything

    def to_json(self, *, seconds: bool = True, **kwargs: Any) -> str:
        """`to_dict()` as JSON; `kwargs` go to `json.dumps`."""
        return json.dumps(self.to_dict(seconds=seconds), **kwargs)

    @classmethod
    def from_json(cls, text: str) -> "RobustnessReport":
        """Reads what `to_json` wrote.

        Raises:
            ValueError: the text is no report, or of another schema version.
        """
        try:
            read = json.loads(text)
            version = read.pop("schema_version")
            if version == SCHEMA_VERSION:
                return cls._from_dict(read)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(
                "Argument `text` must be a report as `to_json` writes it. Received: "
                f"{str(text)[:40]!r}... ({type(error).__name__}: {error})."
            ) from error
        raise ValueError(
            f"Argument `text` must be a report of schema version {SCHEMA_VERSION}. "
            f"Received: version {version!r}. Read it with the release that wrote it."
        )

    @classmethod
    def _from_dict(cls, read: dict[str, Any]) -> "RobustnessReport":
        """Makes the report from `to_dict()`, without the version."""
        fields = {k: v for k, v in read.items() if k not in ("examples", "intervals")}
        robust = {
            name: np.array(stands, bool) for name, stands in fields["robust"].items()
        }
        if NATURAL not in robust or fields["accuracy"].keys() != robust.keys():
            raise KeyError(NATURAL)
        return cls(**{"seconds": {}, **fields, "robust": robust})

    def _small_print(self) -> str:
        said = f"{self.examples} examples; 95% binomial intervals"
        if self.label_accuracy:
            said += (
                "; exact match: all labels of an example are right; label accuracy: "
                f"the mean of {len(self.label_accuracy[NATURAL])} labels"
            )
        if "deterministic_ops" in self.settings:
            on = "on" if self.settings["deterministic_ops"] else "off"
            said += f"; deterministic ops {on}"
        return said

    def _table(self, published: Mapping[str, float] | None) -> list[list[str]]:
        """Rows of cells, the head first; AutoAttack's parts stand above their sum."""
        measure = "exact match" if self.label_accuracy else "accuracy"
        head = ["attack", measure, "95% interval", "seconds", "forward", "backward"]
        rows = [head]
        for name, share in self.accuracy.items():
            for part, left in self.stages.get(name, {}).items():
                rows.append([f"  after {part}", f"{left:.2%}", "", "", "", ""])
            low, high = self.intervals[name]
            passes = self.passes.get(name, {})
            seconds = self.seconds.get(name)
            rows.append(
                [
                    name,
                    f"{share:.2%}",
                    f"{low:.1%} to {high:.1%}",
                    "" if seconds is None else f"{seconds:.1f}",
                    *(f"{passes.get(kind, 0):,}" for kind in ("forward", "backward")),
                ]
            )
        if len(self.accuracy) > 2:
            rows.append(self._worst_row())
        if self.label_accuracy:
            _add_column(rows, "label accuracy", self._mean_label_accuracy())
        if published is not None:
            figures = {name: f"{figure:.2f}%" for name, figure in published.items()}
            _add_column(rows, f"published ({SOURCE})", figures)
        return rows

    def _mean_label_accuracy(self) -> dict[str, str]:
        return {
            name: f"{np.mean(shares):.2%}"
            for name, shares in self.label_accuracy.items()
        }

    def _worst_row(self) -> list[str]:
        worst = np.logical_and.reduce(list(self.robust.values()))
        low, high = binomial_interval(int(worst.sum()), len(worst))
        totals = [
            sum(passes[kind] for passes in self.passes.values())
            for kind in ("forward", "backward")
        ]
        return [
            "worst case",
            f"{self.worst_case:.2%}",
            f"{low:.1%} to {high:.1%}",
            f"{sum(self.seconds.values()):.1f}",
            *(f"{total:,}" for total in totals),
        ]


def _add_column(rows: list[list[str]], title: str, cells: Mapping[str, str]) -> None:
    """Adds a column after the intervals: a title, and a cell for some of the rows."""
    for row in rows:
        row.insert(3, cells.get(row[0], ""))
    rows[0][3] = title


def _without_free(settings: Any) -> Any:
    """An attack's settings, and those of its parts, without what may differ."""
    if isinstance(settings, dict):
        return {
            name: _without_free(value)
            for name, value in settings.items()
            if name not in _FREE_TO_DIFFER
        }
    if isinstance(settings, list):
        return [_without_free(value) for value in settings]
    return settings


def _check_same_attack(one: dict[str, Any], other: dict[str, Any], name: str) -> None:
    apart = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    if apart:
        here, there = (
            ", ".join(f"{key}={settings.get(key)!r}" for key in apart)
            for settings in (one, other)
        )
        raise ValueError(
            f"Argument `other` must be a report on the same attack. Received: {name!r} "
            f"with {here} in this report and {there} in the other. Evaluate both "
            "models under the same attack."
        )
