"""The result of an evaluation."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_free_adv import files
from keras_free_adv.evaluation import html_page, intervals, report_json, report_table
from keras_free_adv.evaluation.predicted_classes import PredictedClasses
from keras_free_adv.evaluation.report_comparison import paired_results
from keras_free_adv.user_warnings import warn_user

NATURAL = "natural"
# Keys of a threat model that are not arguments of the attack: they are of the model.
_OF_THE_MODEL = ("logits", "kind")


@dataclass
class RobustnessReport:
    """The result of `evaluate_robustness`.

    Attributes:
        accuracy: "natural", then each attack's name, to the share of examples the
            model gets right (an example is robust to an attack only if every restart
            failed). For a model that predicts several labels at once, the share of
            which it gets all labels right (exact match).
        robust: the same names to a boolean array, one entry per example.
        worst_case: the share of examples that no attack broke.
        seconds: the same names to wall-clock seconds.
        threat_models: each attack's name to its settings (norm, epsilon, steps, seed,
            how logits were found, ...).
        warnings: reasons not to trust a number, each with its remedy.
        passes: the same names to {"forward": n, "backward": n}: how many examples went
            through the model, counted once a pass. (Of each that is fooled one more
            names the class that is predicted; it is not counted.)
        stages: for an `AutoAttack`, its name to the accuracy left after each part.
        settings: checksums of model and data, versions, batch size, and whether
            TensorFlow's deterministic ops were on.
        label_accuracy: for a model that predicts several labels at once, the same
            names to the accuracy of each label (a label of an example is robust to an
            attack only if no image that it tried made it wrong); else empty.
        predicted: of a model that predicts one class: which one of each image, and the
            first images with their adversarial examples. None of several labels.
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
    predicted: PredictedClasses | None = None

    @property
    def examples(self) -> int:
        """Number of examples evaluated."""
        return len(self.robust[NATURAL])

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95% binomial interval of each accuracy (Wilson's)."""
        return {
            name: intervals.binomial_interval(int(stands.sum()), len(stands))
            for name, stands in self.robust.items()
        }

    def attacks(self) -> list[Any]:
        """The attacks of this report, with their seeds, to repeat the evaluation.

        Raises:
            ValueError: an attack is of a class that is not registered with Keras.
        """
        made = []
        for settings in self.threat_models.values():
            config = {k: v for k, v in settings.items() if k not in _OF_THE_MODEL}
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
            The difference of the accuracies, and the ends of its 95% interval, with a
            warning if the interval contains zero.

        Raises:
            ValueError: a report lacks `name`, or they are of different examples or
                attacks.
        """
        one, two = paired_results(self, other, name)
        found, low, high = intervals.paired_difference(one, two)
        if low <= 0 <= high:
            warn_user(
                f"{name}: a difference of {found:+.2%} (95% interval {low:+.2%} to "
                f"{high:+.2%}) on {self.examples} examples is too small to claim. "
                "Evaluate more examples."
            )
        return found, low, high

    def p_value(self, other: "RobustnessReport", name: str = NATURAL) -> float:
        """McNemar's test of whether two models differ, on the same examples.

        Takes what `difference` takes, and raises what it raises.

        Returns:
            The probability of a difference as large as this, or larger, between models
            that are equally accurate; exact and two-sided.
        """
        return intervals.mcnemar(*paired_results(self, other, name))

    def __str__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        """As notebooks show it."""
        return report_table.html_of(self)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def to_text(self, published: Mapping[str, float] | None = None) -> str:
        """A table for the console.

        Args:
            published: attack name to published percent, for a column of its own; see
                `published_figures`.
        """
        return report_table.text_table(self, published)

    def to_markdown(self, published: Mapping[str, float] | None = None) -> str:
        """The table in Markdown; `published` as in `to_text`."""
        return report_table.markdown_table(self, published)

    def to_html(self, path: Any, *, curve: Mapping[float, float] | None = None) -> None:
        """Writes one page that needs no other file: for a browser, a mail, a printer.

        It says in a sentence what was found, and shows the table, the first images
        with their adversarial examples (not in a report that was read from a file),
        each class, what is read as what, which attack breaks what, the warnings, and
        the settings.

        Args:
            path: where to write it; a file that is there is replaced.
            curve: epsilon to robust accuracy, to draw; such as was measured with
                attacks of several radii.

        Raises:
            OSError: the file cannot be written.
        """
        files.write_text(Path(path), html_page.html_page(self, curve))

    def to_dict(self, *, seconds: bool = True) -> dict[str, Any]:
        """Everything, as plain Python values that JSON can hold.

        Args:
            seconds: whether to include wall-clock times: without them the same
                evaluation gives the same dictionary again.
        """
        values = report_json.plain_values(self)
        if not seconds:
            del values["seconds"]
        return values

    def to_json(self, *, seconds: bool = True, **kwargs: Any) -> str:
        """`to_dict()` as JSON; `kwargs` go to `json.dumps`."""
        return json.dumps(self.to_dict(seconds=seconds), **kwargs)

    @classmethod
    def from_json(cls, text: str) -> "RobustnessReport":
        """Reads what `to_json` wrote.

        Raises:
            ValueError: the text is no report, or of another schema version.
        """
        return report_json.read_report(text, cls)
