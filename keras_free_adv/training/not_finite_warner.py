"""Warnings of a minibatch, or of a loss, that is not finite."""

import math
from typing import Any

import keras

from keras_free_adv.data.bad_minibatches import BadMinibatches
from keras_free_adv.training.stream_position import StreamPosition
from keras_free_adv.user_warnings import warn_user


class NotFiniteWarner(keras.callbacks.Callback):
    """Names the minibatch.

    One with NaN makes the weights NaN. The loss need not show it: on TensorFlow the
    ReLU of NaN is 0.

    Args:
        position: the model's position in its data.
        bad: those that were found as they were read.
        replays: m.
        count: minibatches in one pass, or None if that is unknown.
    """

    def __init__(
        self,
        position: StreamPosition,
        bad: BadMinibatches,
        replays: int,
        count: int | None,
    ) -> None:
        super().__init__()
        self._position = position
        self._bad = bad
        self._replays = replays
        self._count = count
        self._warned: set[int] = set()
        self._first = 0
        self._next = 0

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Notes, at the first of an epoch, which update it is."""
        if batch == 0:
            self._first = self._next = self._position.update - self._position.skip

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Warns once of each minibatch, and once of a loss that follows from none."""
        begin, end = self._next, self._first + batch
        self._next = end + 1
        for number, what in self._bad.up_to(end // self._replays):
            if self._within_pass(number) not in self._warned:
                self._warned.add(self._within_pass(number))
                warn_user(self._message_of_data(number, what))
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss) and not self._warned:
            self._warned.add(-1)
            warn_user(self._message_of_loss(loss, begin, end))

    def _within_pass(self, number: int) -> int:
        return number if self._count is None else number % self._count

    def _which(self, number: int) -> str:
        if self._count is None:
            return f"minibatch {number} (counted from 0)"
        of_pass = (
            f"minibatch {self._within_pass(number)} of pass {number // self._count}"
        )
        return f"{of_pass} (both counted from 0)"

    def _message_of_data(self, number: int, what: str) -> str:
        return (
            f"{self._which(number).capitalize()} is not finite: "
            f"{what}. delta does not move on it, but the weights may become NaN. Find "
            "the values with np.isfinite, and mend the data; "
            "keras.callbacks.TerminateOnNaN stops training at such a loss."
        )

    def _message_of_loss(self, loss: float, begin: int, end: int) -> str:
        update = f"update {end}"
        if begin < end:
            update = f"one of the updates {begin} to {end}"
        return (
            f"The loss is {loss} from {update} on, replay {end % self._replays} of "
            f"{self._replays} of {self._which(end // self._replays)}, though images and"
            " labels are finite: the weights have run away, or the loss is not defined "
            "there. Lower the learning rate, or clip the gradients (clipnorm); "
            "keras.callbacks.TerminateOnNaN stops training."
        )
