"""This library's attacks on the exported examples."""

import functools
import time
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from peers.settings import Settings

import keras_free_adv
from keras_free_adv import backends

MEASURED = 7


class OurSide:
    """The model, the examples, and the attacks made so far.

    Attacks are kept, with their compiled graphs, as the peers keep theirs.

    Args:
        model: the classifier, in float32.
        images: `[N, height, width, channels]`.
        labels: `[N]`.
        attacks: makes the attack of a row.
        search_dtype: what they search in.
    """

    def __init__(
        self,
        model: keras.Model,
        images: np.ndarray,
        labels: np.ndarray,
        attacks: dict[str, Callable[[Settings], Any]],
        search_dtype: str = "float32",
    ) -> None:
        self._model = model
        self._images, self._labels = images, labels
        self._makers = attacks
        self._search_dtype = search_dtype
        self._attacks: dict[tuple[str, Settings, bool], Any] = {}

    @functools.cached_property
    def _counting(self) -> tuple[Any, Any]:
        """The model behind a counter, and the counter; on TensorFlow alone."""
        from comparison.counted import counted

        return counted(self._model)

    def gradient_milliseconds(self) -> float:
        """Of one batch forward and backward, the fastest; as the peers' worker."""
        images = ops.convert_to_tensor(self._images[:128])
        labels = ops.convert_to_tensor(self._labels[:128])

        def gradient(images: Any, labels: Any) -> Any:
            def loss_at(images: Any) -> tuple[Any, ...]:
                logits = self._model(images, training=False)
                losses = ops.sparse_categorical_crossentropy(
                    labels, logits, from_logits=True
                )
                return (ops.sum(losses),)

            return backends.value_and_gradient(loss_at, images)[1]

        run = backends.compiled(gradient, lambda: self._model)
        best = float("inf")
        for _ in range(MEASURED):
            begin = time.perf_counter()
            ops.convert_to_numpy(run(images, labels))
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
        model, counter = self._counting if with_counts else (self._model, None)
        if counter is not None:
            counter.reset()
        begin, cpu = time.perf_counter(), time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about few examples
            report = keras_free_adv.evaluate_robustness(
                model,
                (self._images[:examples], self._labels[:examples]),
                attack,
                batch_size=settings.batch_size,
                verbose=0,
                search_dtype=self._search_dtype,
            )
        return {
            "seconds": time.perf_counter() - begin,
            "cpu_seconds": time.process_time() - cpu,
            "robust": "".join("01"[int(s)] for s in report.robust[attack.name]),
            "forward": counter.forward_passes if counter else 0,
            "backward": counter.backward_passes if counter else 0,
        }
