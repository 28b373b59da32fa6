"""The model's place in its training data."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_free_adv.distribution import workers
from keras_free_adv.training.update_number import UpdateNumber


class StreamPosition:
    """Which update of the stream comes next.

    Together with the seed it says which minibatch, and which of its replays, that
    is. It belongs to the model, outlives a `fit`, and is saved with the model.
    `number` is the same inside the compiled training step.
    """

    def __init__(self) -> None:
        # As Keras' own generators do, so that keras.utils.set_random_seed holds.
        self.seed = random.randint(1, 2**31 - 1)
        self.update = 0
        self.skip = 0
        # `train_on_batch` has no position in the stream: it counts on from there.
        self.updates_on_batches = 0
        self.number = UpdateNumber()

    def current(self) -> tuple[int, int]:
        """Returns (seed, number of the next update)."""
        return self.seed, self.update

    def synchronize(self, strategy: Any) -> None:
        """Makes all workers read the same stream: with the first one's seed.

        Raises:
            RuntimeError: they are at different places in it.
        """
        if not workers.many_workers(strategy):
            return
        places = workers.of_each_worker(np.array(self.current(), "int64"), strategy)
        self.seed = int(places[0, 0])
        if len(set(places[:, 1])) > 1:
            raise RuntimeError(
                "All workers must go on from the same update. Received: workers after "
                f"{places[:, 1].tolist()} updates. Load the same file on all, and put "
                "`backup_dir` where all workers see it."
            )

    def counting(self, train_function: Callable, model: Any) -> Callable:
        """Wraps a Keras train function so that it counts the updates of a stream.

        While `skip` is above zero, updates that a restored backup already made in
        this epoch are passed over.
        """

        def counted(iterator: Any) -> Any:
            streamed = isinstance(
                iterator, (tf.data.Iterator, tf.distribute.DistributedIterator)
            )
            if not streamed:  # train_on_batch, where the caller replays
                self.number.set(self.update + self.updates_on_batches)
                logs = train_function(iterator)
                self.updates_on_batches += 1
                return logs
            if self.skip > 0:
                self.skip -= model.steps_per_execution
                return model.get_metrics_result()
            self.number.set(self.update)
            logs = train_function(iterator)
            self.update += model.steps_per_execution
            return logs

        return counted
