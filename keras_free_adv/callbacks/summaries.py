"""TensorBoard summaries of robustness during training."""

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_free_adv import validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.data.labelled_batches import LabelledBatches
from keras_free_adv.distribution import workers
from keras_free_adv.training.delta_statistics import delta_statistics
from keras_free_adv.training.free_adversarial_model import FreeAdversarialModel


class Summaries:
    """Writes accuracies, adversarial examples and delta's statistics.

    The tags are `robustness/natural`, `robustness/<attack>`, the pictures
    `adversarial_examples/<attack>` and, for a Free model, `delta/at_the_edge`,
    `delta/mean_size` and the histogram `delta/values` or `delta/lengths`, all in units
    of epsilon. On many workers the first one writes. TensorFlow writes them, whatever
    Keras' backend: import this module only to write summaries.

    Args:
        log_dir: the folder; its other files are kept.
        data: as in `evaluate_robustness`; the pictures show its first images.
        attacks: each has a picture.
        images: how many images to show; only those of 1 or 3 channels are shown.
        class_names: what they are labelled with; None for numbers.

    Raises:
        TypeError, ValueError: a wrong argument, named in the message.
        ImportError: TensorBoard or matplotlib is not installed.
    """

    def __init__(
        self,
        log_dir: Any,
        data: Any,
        attacks: list[Attack],
        images: int,
        class_names: Sequence[str] | None,
    ) -> None:
        if not isinstance(log_dir, (str, os.PathLike)):
            raise TypeError(
                "Argument `log_dir` must be the path of a folder, or None. Received: "
                f"log_dir={log_dir!r}."
            )
        self._log_dir = os.fspath(log_dir)
        self._data = data
        self._attacks = attacks
        self._images = validation.positive_integer("images", images)
        self._class_names = class_names
        self._shown: tuple[np.ndarray, np.ndarray] | None = None
        self._writer: Any = None
        _require_packages()

    def begin(self, model: keras.Model) -> None:
        """Opens a file."""
        if workers.worker_number(workers.strategy_of(model)):
            self._writer = tf.summary.create_noop_writer()
        else:
            self._writer = tf.summary.create_file_writer(self._log_dir)

    def write(self, epoch: int, model: keras.Model, accuracy: dict[str, float]) -> None:
        """Writes the summaries of an epoch, counted from 0 as Keras does."""
        with self._writer.as_default(step=epoch):
            for name, share in accuracy.items():
                tf.summary.scalar(f"robustness/{name}", share)
            self._write_pictures(model)
            if isinstance(model, FreeAdversarialModel):
                _write_delta(model)
        self._writer.flush()

    def end(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _write_pictures(self, model: keras.Model) -> None:
        # Matplotlib is needed only here.
        from keras_free_adv.plotting import plot_adversarial_examples
        from keras_free_adv.plotting.style import png_of

        if self._shown is None:
            self._shown = self._first_images(model)
        images, labels = self._shown
        if images.ndim != 4 or images.shape[-1] not in (1, 3):
            return
        for attack in self._attacks:
            figure = plot_adversarial_examples(
                model, images, labels, attack, class_names=self._class_names
            )
            picture = tf.io.decode_png(png_of(figure), channels=3)
            tf.summary.image(f"adversarial_examples/{attack.name}", picture[tf.newaxis])

    def _first_images(self, model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
        batches = LabelledBatches(
            self._data,
            batch_size=None,
            max_examples=self._images,
            value_range=self._attacks[0].value_range_for(model),
        )
        images, labels = zip(*batches, strict=True)
        return np.concatenate(images), np.concatenate(labels)


def _write_delta(model: FreeAdversarialModel) -> None:
    delta = model.delta
    if delta is None:
        return
    found = delta_statistics(delta, model.epsilon, model.norm)
    tf.summary.scalar("delta/at_the_edge", found.at_the_edge)
    tf.summary.scalar("delta/mean_size", found.mean_size)
    tf.summary.histogram(f"delta/{found.what}s", found.sizes)


def _require_packages() -> None:
    """Raises before any work starts, not at the end of the first epoch."""
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Argument `log_dir` needs TensorBoard. Install it, and matplotlib, with: "
            'pip install "keras_free_adv[tensorboard]"'
        ) from error
    import keras_free_adv.plotting  # noqa: F401  (says what is missing by itself)
