"""What a model reads in an image, and whether an attack reached its aim."""

from typing import Any

import keras
import numpy as np
from matplotlib.axes import Axes

from keras_free_adv.evaluation.survivors import all_right
from keras_free_adv.plotting import checks
from keras_free_adv.plotting.style import RIGHT, TEXT, WRONG
from keras_free_adv.predictions import Predictions

# With longer names, the probability stands on a line of its own.
_LONG_NAME = 5


def mark(axis: Axes, sees: str, reached: bool) -> None:
    """Says above an adversarial image what is seen in it, and frames it."""
    color = WRONG if reached else RIGHT
    axis.set_title(f"{'✗' if reached else '✓'} {sees}", fontsize=TEXT, color=color)
    for side in axis.spines.values():
        side.set(visible=True, color=color, linewidth=3 if reached else 1)


def labels_in_words(labels: np.ndarray, names: list[str] | None) -> str:
    """The names of the labels that are there, of a row `[L]` of 0 and 1."""
    there = [checks.name_of(int(number), names) for number in np.flatnonzero(labels)]
    return ",\n".join(there) or "none"


def truth_in_words(label: np.ndarray, names: list[str] | None) -> str:
    """The name of a class, or of the labels that are there."""
    if np.ndim(label):
        return labels_in_words(label, names)
    return checks.name_of(int(label), names)


def prediction(probabilities: np.ndarray, names: list[str] | None) -> tuple[str, int]:
    """The class of one image with its probability, in words, and its number."""
    predicted = int(probabilities.argmax())
    longest = max(map(len, names)) if names else 0
    gap = ",\n" if longest > _LONG_NAME else ", "
    name = checks.name_of(predicted, names)
    return f"{name}{gap}{probabilities.max():.0%}", predicted


class Reading:
    """What a model reads in images, by the logits that an attack sees.

    Args:
        model: the classifier.
        view: what it predicts.
        images: `[B, ...]`.

    Attributes:
        probabilities: of the classes or labels, `[B, C]`.
    """

    def __init__(
        self, model: keras.Model, view: Predictions, images: np.ndarray
    ) -> None:
        logits = view(model(images, training=False))
        of_logits = keras.ops.sigmoid if view.independent else keras.ops.softmax
        self.probabilities = np.asarray(of_logits(logits))
        self._logits = logits
        self._view = view

    def in_words(self, number: int, names: list[str] | None) -> str:
        """What is read in an image: a class with its probability, or the labels."""
        shares = self.probabilities[number]
        if self._view.several_labels:
            return labels_in_words(shares > 0.5, names)
        return prediction(shares, names)[0]

    def is_right(self, labels: Any) -> np.ndarray:
        """Whether each image is read as its label says, `[B]`."""
        wrong = self._view.losses.are_wrong(self._view.encoded(labels), self._logits)
        return all_right(~np.asarray(wrong))
