"""The number of the update that is being made, for the compiled training step."""

from typing import Any

import tensorflow as tf


class UpdateNumber:
    """A count that the compiled training step reads and advances.

    `Place.update` only moves between executions, and an execution makes
    `steps_per_execution` updates. `optimizer.iterations` does not serve either: it
    stands still while gradients accumulate, and begins anew at `compile`.

    Each replica has a count of its own, so that no update waits for the others. Neither
    Keras nor TensorFlow tracks it: it is no weight, and the place is what is saved.
    """

    def __init__(self) -> None:
        self._variable: tf.Variable | None = None
        self._locals: tuple[tf.Variable, ...] = ()

    def create(self, strategy: Any) -> None:
        """Makes the variable, before a training step is traced with it."""
        if self._variable is not None:
            return
        with strategy.scope(), tf.init_scope():
            self._variable = tf.Variable(
                tf.constant(0, tf.int64),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.NONE,
                name="update_number",
            )
        self._locals = strategy.experimental_local_results(self._variable)

    def set(self, number: int) -> None:
        """Sets it on every replica of this worker, between executions."""
        for local in self._locals:
            local.assign(number)

    def read(self) -> tf.Tensor:
        """The number on this replica, counted from zero; an int64 scalar."""
        return tf.identity(self._variable)

    def advance(self) -> None:
        """Adds one, on this replica."""
        self._variable.assign_add(1)  # type: ignore[union-attr]
