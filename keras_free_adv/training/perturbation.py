"""delta, the persistent perturbation: where it is stored.

How it moves is `geometry.Ball.ascend`. It is no weight: Keras does not track it, so it
has no optimizer slot, is not counted, and is not served.
"""

from typing import Any

import numpy as np

from keras_free_adv import backends
from keras_free_adv.distribution.workers import gathered, of_this_worker, replica_count


class Perturbation:
    """One delta for each replica, as many rows as its largest minibatch.

    Under a strategy each replica sees its own share of each minibatch, m times in a
    row, and keeps a delta of its own.
    """

    def __init__(self) -> None:
        self.variable: backends.ReplicaVariable | None = None
        self._shape: tuple[int, ...] = (0,)
        self._dtype = "float32"
        self._strategy: Any = None
        self._pending: np.ndarray | None = None

    @property
    def rows(self) -> int:
        """How many examples delta has room for, on each replica."""
        return self._shape[0]

    def resize(
        self, rows: int, image_shape: tuple[int, ...], dtype: str, strategy: Any
    ) -> bool:
        """Creates or enlarges delta; new rows start at zero.

        Args:
            rows: examples in the largest minibatch of one replica.
            image_shape: shape of one image, without the batch.
            dtype: dtype of delta.
            strategy: the `tf.distribute.Strategy` in force, or None.

        Returns:
            Whether there is a new variable: functions traced with the old one are
            stale.
        """
        image_shape = tuple(image_shape)
        if self.variable is not None and self._shape[1:] == image_shape:
            if rows <= self.rows:
                return False
            rows = max(rows, self.rows)
        self._strategy, self._dtype = strategy, dtype
        kept = self._kept(image_shape, rows)
        if kept is not None:
            rows = max(rows, kept.shape[1])
        self._shape = (rows, *image_shape)
        self.variable = backends.ReplicaVariable(self._shape, dtype, strategy)
        self._pending = None
        if kept is not None:
            self._assign(kept)
        return True

    def read(self, count: Any) -> Any:
        """delta[:count] of this replica."""
        return self.variable.read(count)  # type: ignore[union-attr]

    def write(self, delta: Any, count: Any) -> None:
        """Sets delta[:count] of this replica."""
        self.variable.write(delta, count)  # type: ignore[union-attr]

    def value(self) -> np.ndarray | None:
        """Every replica's delta, `[replicas, B, ...]`, or None before training.

        On many machines, those of this worker's replicas.
        """
        return self._pending if self.variable is None else self.variable.values()

    def all_replicas(self) -> np.ndarray | None:
        """As `value`, of all workers; on many machines each has to call it."""
        if self.variable is None:
            return self._pending
        return gathered(self.variable.values(), self._strategy)

    def restore(self, value: np.ndarray) -> None:
        """Sets every replica's delta, at once or as soon as there is a variable."""
        self._pending = np.asarray(value)
        if self.variable is not None:
            kept = self._kept(self._shape[1:], self.rows)
            self._pending = None
            if kept is not None:
                self._assign(kept)

    def _kept(self, image_shape: tuple[int, ...], rows: int) -> np.ndarray | None:
        """What was restored, or else is there, if it is of such images."""
        kept = self.value()
        if self._pending is not None:
            shared = _shared_out(self._pending, replica_count(self._strategy), rows)
            kept = of_this_worker(shared, self._strategy)
        fits = kept is not None and kept.shape[2:] == image_shape
        return kept if fits else None

    def _assign(self, values: np.ndarray) -> None:
        whole = np.zeros((len(values), *self._shape), self._dtype)
        rows = min(values.shape[1], self.rows)
        whole[:, :rows] = values[:, :rows]
        self.variable.set(whole)  # type: ignore[union-attr]


def _shared_out(delta: np.ndarray, replicas: int, rows: int) -> np.ndarray:
    """Another number of replicas' delta, `[replicas, B, ...]`, as so many have it."""
    if len(delta) == replicas:
        return delta
    whole = np.zeros((replicas * rows, *delta.shape[2:]), delta.dtype)
    saved = delta.reshape(-1, *delta.shape[2:])[: len(whole)]
    whole[: len(saved)] = saved
    return whole.reshape(replicas, rows, *delta.shape[2:])
