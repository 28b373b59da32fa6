"""The predictions of a model in words, and marks of successful attacks."""

from typing import Any

import keras
import numpy as np
from keras import ops
from matplotlib.axes import Axes

from keras_free_adv.evaluation.packing import all_standing
from keras_free_adv.logits import outputs_in_inference_mode
from keras_free_adv.plotting import checks
from keras_free_adv.plotting.style import RIGHT, TEXT, WRONG
from keras_free_adv.predictions import Predictions

# With longer names, the probability stands on a line of its own.
_LONG_NAME = 5


def mark(axis: Axes, prediction: str, reached: bool) -> None:
    """Titles an adversarial image with its prediction, and frames it."""
    color = WRONG if reached else RIGHT
    axis.set_title(
        f"{'✗' if reached else '✓'} {prediction}", fontsize=TEXT, color=color
    )
    for side in axis.spines.values():
        side.set(visible=True, color=color, linewidth=3 if reached else 1)


def labels_in_words(labels: np.ndarray, names: list[str] | None) -> str:
    """The names of the labels that are 1 in a row `[L]` of 0 and 1."""
    present = [checks.name_of(int(number), names) for number in np.flatnonzero(labels)]
    return ",\n".join(present) or "none"


def truth_in_words(label: np.ndarray, names: list[str] | None) -> str:
    """The name of a class, or of the labels that are 1."""
    if np.ndim(label):
        return labels_in_words(label, names)
    return checks.name_of(int(label), names)


def _class_in_words(probabilities: np.ndarray, names: list[str] | None) -> str:
    """The predicted class of one image, with its probability."""
    predicted = int(probabilities.argmax())
    longest = max(map(len, names)) if names else 0
    gap = ",\n" if longest > _LONG_NAME else ", "
    name = checks.name_of(predicted, names)
    return f"{name}{gap}{probabilities.max():.0%}"


class Reading:
    """What a model predicts for images, from the logits that attacks use.

    Args:
        model: the classifier.
        view: the interpretation of its outputs.
        images: `[B, ...]`.

    Attributes:
        probabilities: of the classes or labels, `[B, C]`.
    """

    def __init__(
        self, model: keras.Model, view: Predictions, images: np.ndarray
    ) -> None:
        logits = view(outputs_in_inference_mode(model, images))
        of_logits = ops.sigmoid if view.independent else ops.softmax
        self.probabilities = ops.convert_to_numpy(of_logits(logits))
        self._logits = logits
        self._view = view

    def in_words(self, number: int, names: list[str] | None) -> str:
        """The prediction for an image: a class with its probability, or labels."""
        shares = self.probabilities[number]
        if self._view.several_labels:
            return labels_in_words(shares > 0.5, names)
        return _class_in_words(shares, names)

    def is_right(self, labels: Any) -> np.ndarray:
        """Whether each prediction is that of the label, `[B]`."""
        wrong = self._view.losses.are_wrong(self._view.encoded(labels), self._logits)
        return all_standing(~ops.convert_to_numpy(wrong))
