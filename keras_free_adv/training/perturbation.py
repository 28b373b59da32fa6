"""delta, the persistent perturbation: where it is stored.

How it moves is `geometry.ascend`. It is no weight: neither Keras nor TensorFlow
tracks it, so it has no optimizer slot, is not counted, and is not served.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_free_adv.distribution.workers import gathered, of_this_worker


class Perturbation:
    """One delta for each replica, as many rows as its largest minibatch.

    Under a strategy each replica sees its own share of each minibatch, m times in a
    row, and keeps a delta of its own.
    """

    def __init__(self) -> None:
        self._variable: tf.Variable | None = None
        self._locals: tuple[tf.Variable, ...] = ()
        self._strategy: Any = None
        self._pending: np.ndarray | None = None

    @property
    def rows(self) -> int:
        """How many examples delta has room for, on each replica."""
        return 0 if self._variable is None else self._variable.shape[0]

    def resize(
        self, rows: int, image_shape: tuple[int, ...], dtype: str, strategy: Any
    ) -> bool:
        """Creates or enlarges delta; new rows start at zero.

        Args:
            rows: examples in the largest minibatch of one replica.
            image_shape: shape of one image, without the batch.
            dtype: dtype of delta.
            strategy: the `tf.distribute.Strategy` in force.

        Returns:
            Whether there is a new variable: functions traced with the old one are
            stale.
        """
        image_shape = tuple(image_shape)
        if self._variable is not None and self._variable.shape[1:] == image_shape:
            if rows <= self.rows:
                return False
            rows = max(rows, self.rows)
        self._strategy = strategy
        kept = self._kept(image_shape, rows)
        if kept is not None:
            rows = max(rows, kept.shape[1])
        with strategy.scope(), tf.init_scope():
            self._variable = tf.Variable(
                tf.zeros((rows, *image_shape), dtype),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.NONE,
                name="delta",
            )
        self._locals = strategy.experimental_local_results(self._variable)
        self._pending = None
        if kept is not None:
            self._assign(kept)
        return True

    def read(self, count: Any) -> tf.Tensor:
        """delta[:count] of this replica."""
        return self._variable[:count]  # type: ignore[index]

    def write(self, delta: Any, count: Any) -> None:
        """Sets delta[:count] of this replica."""
        self._variable[:count].assign(delta)  # type: ignore[index]

    def value(self) -> np.ndarray | None:
        """Every replica's delta, `[replicas, B, ...]`, or None before training.

        On many machines, those of this worker's replicas.
        """
        if self._variable is None:
            return self._pending
        return np.stack([local.numpy() for local in self._locals])

    def all_replicas(self) -> np.ndarray | None:
        """As `value`, of all workers; on many machines each has to call it."""
        if self._variable is None:
            return self._pending
        return gathered(self._locals, self._strategy)

    def restore(self, value: np.ndarray) -> None:
        """Sets every replica's delta, at once or as soon as there is a variable."""
        self._pending = np.asarray(value)
        if self._variable is not None:
            kept = self._kept(tuple(self._variable.shape[1:]), self.rows)
            self._pending = None
            if kept is not None:
                self._assign(kept)

    def _kept(self, image_shape: tuple[int, ...], rows: int) -> np.ndarray | None:
        """What was restored, or else is there, if it is of such images."""
        kept = self.value()
        if self._pending is not None:
            shared = _shared_out(
                self._pending, self._strategy.num_replicas_in_sync, rows
            )
            kept = of_this_worker(shared, self._strategy)
        fits = kept is not None and kept.shape[2:] == image_shape
        return kept if fits else None

    def _assign(self, value: np.ndarray) -> None:
        for local, saved in zip(self._locals, value, strict=True):
            whole = np.zeros(local.shape, local.dtype.as_numpy_dtype)
            rows = min(len(saved), len(whole))
            whole[:rows] = saved[:rows]
            local.assign(whole)


def _shared_out(delta: np.ndarray, replicas: int, rows: int) -> np.ndarray:
    """Another number of replicas' delta, `[replicas, B, ...]`, as so many have it."""
    if len(delta) == replicas:
        return delta
    whole = np.zeros((replicas * rows, *delta.shape[2:]), delta.dtype)
    saved = delta.reshape(-1, *delta.shape[2:])[: len(whole)]
    whole[: len(saved)] = saved
    return whole.reshape(replicas, rows, *delta.shape[2:])
