"""The position in the stream of training data, which a model keeps."""

import random
from typing import Any

import numpy as np

from keras_free_adv.distribution import workers
from keras_free_adv.training.update_number import UpdateNumber


class StreamPosition:
    """Which update of the stream comes next.

    Together with the seed it determines the minibatch (but of a `tf.data` pipeline of
    the user's own, see `LiveDataset`), and which of its replays. It belongs to the
    model, outlives a `fit`, and is saved with the model.

    Attributes:
        seed: of the stream.
        update: number of the next update of the stream.
        skip: updates of this epoch that a restored backup already made; they are
            passed over.
        updates_on_batches: updates by `train_on_batch`, which has no position in the
            stream; their numbers follow those of the stream.
        number: the number of the update, inside the compiled training step.
    """

    def __init__(self) -> None:
        # As Keras' own generators do, so that keras.utils.set_random_seed holds.
        self.seed = random.randint(1, 2**31 - 1)
        self.update = 0
        self.skip = 0
        self.updates_on_batches = 0
        self.number = UpdateNumber()
        self._on_batch = False

    def current(self) -> tuple[int, int]:
        """Returns (seed, number of the next update)."""
        return self.seed, self.update

    def set_number(self, *, on_batch: bool = False) -> None:
        """Numbers the next update, of the stream or of `train_on_batch`."""
        self._on_batch = on_batch
        self.number.set(self.update + (self.updates_on_batches if on_batch else 0))

    def passes_over(self, model: Any) -> bool:
        """Passes over an execution that a restored backup already made, if it did."""
        if self._on_batch or self.skip <= 0:
            return False
        self.skip -= model.steps_per_execution
        return True

    def count(self, model: Any) -> None:
        """Counts the updates of an execution."""
        if self._on_batch:
            self.updates_on_batches += 1
        else:
            self.update += model.steps_per_execution

    def synchronize(self, strategy: Any) -> None:
        """Makes all workers read the same stream: with the first one's seed.

        Raises:
            RuntimeError: they are at different positions.
        """
        if not workers.many_workers(strategy):
            return
        positions = workers.of_each_worker(np.array(self.current(), "int64"), strategy)
        self.seed = int(positions[0, 0])
        if len(set(positions[:, 1])) > 1:
            raise RuntimeError(
                "All workers must go on from the same update. Received: workers after "
                f"{positions[:, 1].tolist()} updates. Load the same file on all, and "
                "put `backup_dir` where all workers see it."
            )
