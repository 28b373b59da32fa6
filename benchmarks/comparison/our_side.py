"""This library's attacks on the exported examples."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from peers.settings import Settings

import keras_free_adv
from comparison.counted import counted

MEASURED = 7


class OurSide:
    """The model, the examples, and the attacks made so far.

    Attacks are kept, with their compiled graphs, as the peers keep theirs.

    Args:
        model: the classifier, in float32.
        images: `[N, height, width, channels]`.
        labels: `[N]`.
        attacks: makes the attack of a row.
    """

    def __init__(
        self,
        model: keras.Model,
        images: np.ndarray,
        labels: np.ndarray,
        attacks: dict[str, Callable[[Settings], Any]],
    ) -> None:
        self._model = model
        self._counted, self._counter = counted(model)
        self._images, self._labels = images, labels
        self._makers = attacks
        self._attacks: dict[tuple[str, Settings, bool], Any] = {}

    def gradient_milliseconds(self) -> float:
        """Of one batch forward and backward, the fastest; as the peers' worker."""
        images = tf.constant(self._images[:128])
        labels = tf.constant(self._labels[:128])

        @tf.function
        def gradient(images: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(images)
                logits = self._model(images, training=False)
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            return tape.gradient(loss, images)

        best = float("inf")
        for _ in range(MEASURED):
            begin = time.perf_counter()
            gradient(images).numpy()
            best = min(best, 1e3 * (time.perf_counter() - begin))
        return best

    def run(
        self, row: str, settings: Settings, examples: int, with_counts: bool
    ) -> dict[str, Any]:
        """Robustness of each example, seconds and passes; as the peers' worker."""
        key = (row, settings, with_counts)
        if key not in self._attacks:
            self._attacks[key] = self._makers[row](settings)
        attack = self._attacks[key]
        self._counter.reset()
        begin, cpu = time.perf_counter(), time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about few examples
            report = keras_free_adv.evaluate_robustness(
                self._counted if with_counts else self._model,
                (self._images[:examples], self._labels[:examples]),
                attack,
                batch_size=settings.batch_size,
                verbose=0,
            )
        return {
            "seconds": time.perf_counter() - begin,
            "cpu_seconds": time.process_time() - cpu,
            "robust": "".join("01"[int(s)] for s in report.robust[attack.name]),
            "forward": self._counter.forward_passes,
            "backward": self._counter.backward_passes,
        }
