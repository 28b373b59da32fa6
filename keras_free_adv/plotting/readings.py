"""What a model reads in an image, and whether an attack reached its aim."""

from typing import Any

import keras
import numpy as np
from matplotlib.axes import Axes

from keras_free_adv.attacks.attack import Attack
from keras_free_adv.plotting import checks
from keras_free_adv.plotting.style import RIGHT, TEXT, WRONG

# With longer names, the probability stands on a line of its own.
_LONG_NAME = 5


def mark(axis: Axes, sees: str, reached: bool) -> None:
    """Says above an adversarial image what is seen in it, and frames it."""
    color = WRONG if reached else RIGHT
    axis.set_title(f"{'✗' if reached else '✓'} {sees}", fontsize=TEXT, color=color)
    for side in axis.spines.values():
        side.set(visible=True, color=color, linewidth=3 if reached else 1)


def prediction(probabilities: np.ndarray, names: list[str] | None) -> tuple[str, int]:
    """The class of one image with its probability, in words, and its number."""
    predicted = int(probabilities.argmax())
    longest = max(map(len, names)) if names else 0
    gap = ",\n" if longest > _LONG_NAME else ", "
    name = checks.name_of(predicted, names)
    return f"{name}{gap}{probabilities.max():.0%}", predicted


def probabilities(model: keras.Model, attack: Attack, images: np.ndarray) -> Any:
    """The model's probabilities `[B, C]`, by the logits that the attack sees."""
    view = attack.view_of(model, images)
    outputs = model(images, training=False)
    return np.asarray(keras.ops.softmax(view(outputs), axis=-1))
