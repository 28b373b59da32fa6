"""Attacking only the examples still standing, packed into full batches."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np

from keras_free_adv.attacks.attack import Attack
from keras_free_adv.logits import LogitView


@dataclass
class _Waiting:
    """Examples that wait for one restart."""

    ids: list[np.ndarray] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(part) for part in self.ids)

    def add(self, ids: np.ndarray, images: np.ndarray, labels: np.ndarray) -> None:
        self.ids.append(ids)
        self.images.append(images)
        self.labels.append(labels)

    def take(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        parts = [np.concatenate(part) for part in (self.ids, self.images, self.labels)]
        self.ids, self.images, self.labels = ([part[count:]] for part in parts)
        ids, images, labels = (part[:count] for part in parts)
        return ids, images, labels


class Survivors:
    """Takes examples through the restarts of one attack.

    An example that a restart fools goes no further. Those that survive wait for the
    next restart until there is a full batch of them.

    Args:
        attack: the attack.
        model: the model under attack.
        view: how the model's logits are obtained.
        batch_size: examples in a full batch.
        finished: called with how many examples have met their end, one way or the
            other.
    """

    def __init__(
        self,
        attack: Attack,
        model: keras.Model,
        view: LogitView,
        batch_size: int,
        finished: Callable[[int], None],
    ) -> None:
        self._attack = attack
        self._model = model
        self._view = view
        self._batch_size = batch_size
        self._finished = finished
        self._queues = [_Waiting() for _ in range(attack.restarts)]
        self.seconds = 0.0
        self.standing: list[int] = []

    def add(self, ids: np.ndarray, images: np.ndarray, labels: np.ndarray) -> None:
        """Adds examples, and runs every restart for which a batch is full."""
        if len(ids):
            self._queues[0].add(ids, images, labels)
        for number, queue in enumerate(self._queues):
            while len(queue) >= self._batch_size:
                self._run(number)

    def finish(self) -> list[int]:
        """Runs what is left; returns the ids of the examples still standing."""
        for number, queue in enumerate(self._queues):
            while len(queue):
                self._run(number)
        return self.standing

    def _run(self, number: int) -> None:
        ids, images, labels = self._queues[number].take(self._batch_size)
        begin = time.perf_counter()
        outcome = self._attack.run_restart(
            self._model, self._view, images, labels, ids.astype("int32"), number
        )
        stands = ~np.asarray(outcome.fooled)
        self.seconds += time.perf_counter() - begin
        if number + 1 < len(self._queues):
            self._queues[number + 1].add(ids[stands], images[stands], labels[stands])
            self._finished(int((~stands).sum()))
        else:
            self.standing += ids[stands].tolist()
            self._finished(len(ids))
