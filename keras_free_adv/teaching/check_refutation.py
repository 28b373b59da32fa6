"""Checks whether images refute a claim of robustness."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_free_adv import validation
from keras_free_adv.teaching.arrays import as_array, outside
from keras_free_adv.teaching.verdict import Verdict, verdict_on

_HALF = 0.5


def check_refutation(
    adversarial: Any,
    *,
    images: Any,
    labels: Any,
    model: keras.Model,
    epsilon: float,
    claimed: float,
) -> Verdict:
    """Checks images that are to refute a claim of robust accuracy.

    They refute it if they lie in the L-infinity ball around the clean images and in
    [0, 1], and leave less than half of the claimed accuracy.

    Args:
        adversarial: the student's images, `[B, ...]`.
        images: the clean images, `[B, ...]`.
        labels: their classes, `[B]`.
        model: the model that the claim is about.
        epsilon: the radius of the ball in the claim.
        claimed: the robust accuracy claimed, a share.

    Returns:
        A verdict.

    Example:
    >>> network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...                             keras.layers.Dense(3)])
    >>> images = np.random.rand(20, 4, 4, 1).astype("float32")
    >>> labels = network.predict(images, verbose=0).argmax(-1)
    >>> print(check_refutation(images, images=images, labels=labels, model=network,
    ...                        epsilon=0.1, claimed=0.9))
    refutation: not yet
      - The model still reads 100.0% of them rightly. The claim is 90.0%; less than half
        of it refutes it beyond doubt.
    """
    claimed = validation.share("claimed", claimed)
    images = np.asarray(images, "float32")
    labels = np.asarray(labels)

    def find() -> Iterator[str]:
        result = as_array(adversarial, images, "the adversarial images")
        yield from outside(result, images, epsilon, "There are images")
        read = model.predict(result, verbose=0).argmax(-1)
        accuracy = float(np.mean(read == labels))
        if accuracy >= _HALF * claimed:
            yield (
                f"The model still reads {accuracy:.1%} of them rightly. The claim is "
                f"{claimed:.1%}; less than half of it refutes it beyond doubt."
            )

    return verdict_on("refutation", find)
