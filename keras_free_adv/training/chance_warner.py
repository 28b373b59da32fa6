"""A warning of training that is no better than naming one class."""

import math
from typing import Any

import keras
import numpy as np

from keras_free_adv.training.stream_position import StreamPosition
from keras_free_adv.user_warnings import warn_user

# Under which names Keras logs the accuracy of a classifier.
TRAINING_ACCURACY = (
    "accuracy",
    "acc",
    "sparse_categorical_accuracy",
    "categorical_accuracy",
    "binary_accuracy",
)
# A stretch of training is judged from one pass, so many updates and so many examples
# on: of fewer, chance cannot be told from a slow start.
LEAST_UPDATES = 100
LEAST_EXAMPLES = 1000
# Where one class is this frequent, models that learn stay near its share, too.
LARGEST_SHARE = 0.7


class ChanceWarner(keras.callbacks.Callback):
    """Says when training accuracy stays at chance for a whole pass; once a `fit`.

    It is at chance between the shares of the rarest and the most frequent class, give
    or take two standard deviations of so many examples: that is where a model is that
    names one class for everything. An accuracy below tells of an attack that succeeds.
    Epochs are put together until they are a pass, 100 updates and 1,000 examples (each
    counted once for its replays); both their mean accuracy and that of the last epoch
    must be at chance. Without an accuracy in the logs nothing is said.

    Args:
        position: the model's position in its data.
        updates_a_pass: minibatches in one pass, times `replays`.
        examples_an_update: examples in a minibatch, divided by `replays`.
        chance: the shares of the rarest and the most frequent class.
    """

    def __init__(
        self,
        position: StreamPosition,
        updates_a_pass: int,
        examples_an_update: float,
        chance: tuple[float, float],
    ) -> None:
        super().__init__()
        self._position = position
        self._least_updates = max(
            updates_a_pass, LEAST_UPDATES, LEAST_EXAMPLES / examples_an_update
        )
        self._examples_an_update = examples_an_update
        self._chance = chance
        self._epoch_begins = 0
        self._updates = 0
        self._right = 0.0  # in minibatches
        self._warned = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes which update it begins with."""
        self._epoch_begins = self._position.update

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Judges a stretch that is long enough, and begins another."""
        known = [logs[name] for name in TRAINING_ACCURACY if logs and name in logs]
        updates = self._position.update - self._epoch_begins
        if self._warned or not known or not updates:
            return
        self._updates += updates
        self._right += known[0] * updates
        if self._updates < self._least_updates:
            return
        mean = self._right / self._updates
        if self._is_chance(mean, self._updates) and self._is_chance(known[0], updates):
            self._warned = True
            warn_user(self._message(mean))
        self._updates, self._right = 0, 0.0

    def _is_chance(self, accuracy: float, updates: int) -> bool:
        examples = updates * self._examples_an_update
        rarest, most_frequent = self._chance
        low = rarest - _two_deviations(rarest, examples)
        high = most_frequent + _two_deviations(most_frequent, examples)
        return low <= accuracy <= high

    def _message(self, accuracy: float) -> str:
        return (
            f"Training accuracy has stayed at chance for {self._updates} updates, at "
            f"least one pass through the data: it is {accuracy:.2%}, and naming always "
            f"one class gives {self._chance[1]:.2%}. The model learns nothing. Lower "
            "the learning rate, warm it up or epsilon (epsilon_warmup_steps), or train "
            "with a smaller m (replays) or epsilon. See also whether images and labels "
            "belong together."
        )


def _two_deviations(share: float, examples: float) -> float:
    """How far from `share` so many examples may lead by chance."""
    return 2 * math.sqrt(share * (1 - share) / examples)


def chance_of(
    labels: Any, model: keras.Model, *, are_all: bool
) -> tuple[float, float] | None:
    """The accuracies between which a model is that names one class for everything.

    Args:
        labels: class numbers `[B]` or `[B, 1]`, or one-hot rows `[B, C]`.
        model: the classifier.
        are_all: whether they are those of all examples, and can be counted; else each
            of the model's classes is taken to be as frequent.

    Returns:
        The shares of the rarest and of the most frequent class; None if labels are of
        another kind, or one class is so frequent that its share says little.
    """
    numbers = _class_numbers(labels)
    if numbers is None:
        return None
    if are_all:
        counts = np.unique(numbers, return_counts=True)[1]
        low, high = counts.min() / len(numbers), counts.max() / len(numbers)
    else:
        shape = getattr(model, "output_shape", None)
        if not isinstance(shape, tuple) or len(shape) != 2 or not shape[1]:
            return None
        low = high = 1 / max(shape[1], 2)
    return (float(low), float(high)) if high <= LARGEST_SHARE else None


def _class_numbers(labels: Any) -> np.ndarray | None:
    """Class numbers `[B]`, or None if labels are nothing of the kind."""
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "fiub":
        return None
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        one_hot = (labels.max(-1) == 1) & ((labels != 0).sum(-1) == 1)
        return labels.argmax(-1) if one_hot.all() else None
    whole = labels.ndim == 1 and labels.size and np.all(labels == np.floor(labels))
    return labels if whole else None
