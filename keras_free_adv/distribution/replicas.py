"""The devices a model lives on: each attacks its share of the examples."""

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from keras_free_adv.distribution import workers


class Replicas:
    """The devices a model lives on.

    Args:
        model: a model, made under a `tf.distribute` strategy or not.
    """

    def __init__(self, model: keras.Model) -> None:
        self._on_each: dict[Any, Any] = {}
        self._strategy: Any = workers.strategy_of(model)
        self.worker = workers.worker_number(self._strategy)
        self.workers = workers.worker_count(self._strategy)
        # Those of this process.
        self.count = (
            1
            if self._strategy is None or self._strategy.num_replicas_in_sync == 1
            else len(self._strategy.extended.worker_devices)
        )

    def run(
        self, function: Callable[..., Any], rows: Any, stop_after: int
    ) -> tuple[Any, int]:
        """Calls `function(*rows, stop_after)` on each replica, with a part of the rows.

        Args:
            function: a compiled function that returns (rows, steps).
            rows: any nest of `[B, ...]`.
            stop_after: a number of rows, which is shared out too.

        Returns:
            The rows it returned, together again, and the number of steps, summed over
            the rows.
        """
        size = len(tree.flatten(rows)[0])
        if self.count < 2 or size < self.count:
            moved, steps = function(*rows, np.int32(stop_after))
            return moved, int(steps) * size
        bounds = [size * part // self.count for part in range(self.count + 1)]
        slices = [slice(*pair) for pair in itertools.pairwise(bounds)]
        flat = [
            self._spread([row[part] for part in slices])
            for row in tf.nest.flatten(rows)
        ]
        share = np.int32(max(1, stop_after // self.count))
        moved, steps = self._function(function, rows)(share, *flat)
        together = tf.nest.map_structure(
            lambda pieces: tf.concat(self._pieces(pieces), 0), moved
        )
        counts = [int(count) for count in self._pieces(steps)]
        return together, sum(
            count * (part.stop - part.start)
            for count, part in zip(counts, slices, strict=True)
        )

    def of_this_worker(self, ids: np.ndarray) -> np.ndarray:
        """Which examples this worker attacks, bool, of their numbers."""
        return ids % self.workers == self.worker

    def of_first_worker(self, value: np.ndarray) -> np.ndarray:
        """What the first worker found; each has to call it."""
        if self.workers == 1:
            return value
        return workers.of_each_worker(value, self._strategy)[0]

    def require_same(self, value: int, message: str) -> None:
        """Raises unless all workers have the same number; each has to call it."""
        workers.require_same(value, self._strategy, message)

    def explaining_lost_worker(self) -> contextlib.AbstractContextManager[None]:
        """Within, the error that the loss of another worker ends in says what to do."""
        return workers.explaining_lost_worker(self._strategy)

    def of_all_workers(self, value: np.ndarray) -> np.ndarray:
        """The sum of what all workers found; each has to call it."""
        if self.workers == 1:
            return value
        return workers.of_each_worker(value, self._strategy).sum(0)

    def _function(self, function: Callable[..., Any], rows: Any) -> Any:
        """`function` on every replica at once, as one graph."""
        if function not in self._on_each:
            strategy = self._strategy

            def on_one(stop_after: Any, *flat: Any) -> Any:
                return function(*tf.nest.pack_sequence_as(rows, flat), stop_after)

            self._on_each[function] = tf.function(
                lambda *arguments: strategy.run(on_one, args=arguments),
                autograph=False,
                reduce_retracing=True,
            )
        return self._on_each[function]

    def _spread(self, pieces: list[Any]) -> Any:
        """One value a replica."""
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: pieces[context.replica_id_in_sync_group % len(pieces)]
        )

    def _pieces(self, values: Any) -> Any:
        return self._strategy.experimental_local_results(values)
