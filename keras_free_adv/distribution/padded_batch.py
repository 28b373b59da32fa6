"""Short minibatches, filled up so that every replica has a share of the same size.

TensorFlow gives the first replicas all they can hold of a short minibatch and the last
ones little or nothing. The mean of the replicas' losses is then not the mean over the
examples, and some operations fail on nothing. Examples of the minibatch itself fill it
up here, and do not count: not in the loss, not in the metrics. Without replicas a
minibatch passes through all of this unchanged.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops, tree

from keras_free_adv.data.structures import first_array
from keras_free_adv.distribution import reductions


class PaddedBatch(NamedTuple):
    """A minibatch that was filled up, or a replica's share of it.

    Attributes:
        minibatch: (x, y[, sample_weight]), of B examples.
        is_real: whether each example is one of the minibatch, not padding, bool `[B]`.
        global_count: real examples in the whole minibatch, for each, int32 `[B]`.
    """

    minibatch: Any
    is_real: Any
    global_count: Any


def filled_up(stream: tf.data.Dataset, rows: int, replicas: int) -> tf.data.Dataset:
    """Fills each minibatch up to `rows`, or beyond, to a multiple of `replicas`.

    Args:
        stream: minibatches (x, y[, sample_weight]).
        rows: examples in a full minibatch.
        replicas: how many share it.

    Returns:
        A dataset of `PaddedBatch`.
    """

    def fill(*minibatch: Any) -> PaddedBatch:
        real = tf.shape(first_array(minibatch))[0]
        size = -(-tf.maximum(real, rows) // replicas) * replicas
        number = tf.range(size)
        # Only copied when there is something to fill.
        full = tf.cond(
            size == real,
            lambda: minibatch,
            lambda: _taken(minibatch, number % real),
        )
        return PaddedBatch(full, number < real, tf.fill([size], real))

    return stream.map(fill)


@dataclass(frozen=True)
class WorkerSlice:
    """What one worker needs of each minibatch, filled up: nothing else is decoded.

    Attributes:
        full: examples in a full minibatch.
        replicas: of all workers.
        worker: the number of the worker.
        workers: how many there are.
    """

    full: int
    replicas: int
    worker: int
    workers: int

    @property
    def rows(self) -> int:
        """Examples of this worker."""
        return -(-self.full // self.replicas) * self.replicas // self.workers

    def places(self, real: Any) -> Any:
        """Which they are, of a minibatch of `real` examples, int32 `[rows]`."""
        return self._numbers % real

    def share(self, minibatch: Any, real: Any) -> PaddedBatch:
        """A `PaddedBatch` of them."""
        return PaddedBatch(minibatch, self._numbers < real, tf.fill([self.rows], real))

    @property
    def _numbers(self) -> Any:
        return tf.range(self.worker * self.rows, (self.worker + 1) * self.rows)


def real_count(data: Any) -> Any:
    """How many examples of a replica's share count, an int32 scalar."""
    if isinstance(data, PaddedBatch):
        return tf.reduce_sum(tf.cast(data.is_real, tf.int32))
    return ops.shape(first_array(data))[0]


def unpacked(data: Any) -> tuple[Any, Any, Any]:
    """x, y and sample weights of the real examples, but of one example at least.

    Some operations fail on none at all.
    """
    if isinstance(data, PaddedBatch):
        data = _first(data.minibatch, tf.maximum(real_count(data), 1))
    return keras.utils.unpack_x_y_sample_weight(data)


def proportion(data: Any, *, summed: bool) -> Any:
    """What to multiply a replica's loss by, that their sum be the loss of one device.

    Args:
        data: a `PaddedBatch`, or a minibatch as Keras has it.
        summed: whether the loss is a sum over the examples, and not their mean.
    """
    if not isinstance(data, PaddedBatch):
        return 1.0
    rows = tf.cast(real_count(data), "float32")
    if summed:
        return tf.minimum(rows, 1.0)
    # Keras divides a replica's loss by the number of replicas.
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return rows * replicas / tf.cast(data.global_count[0], "float32")


def scaled_for_replicas(loss: Any, data: Any, compiled: Any) -> Any:
    """A replica's loss, scaled so that the sum over replicas is that of one device.

    Args:
        loss: of the replica's real examples.
        data: a `PaddedBatch`, or a minibatch as Keras has it.
        compiled: the losses that the model is compiled with.
    """
    if not isinstance(data, PaddedBatch):
        return loss
    return loss * proportion(data, summed=reductions.are_summed(compiled))


def metrics_of_real_examples(model: Any, data: Any, y_pred: Any) -> dict[str, Any]:
    """Updates the compiled metrics, and returns their values."""

    def updated() -> dict[str, Any]:
        x, y, y_real, sample_weight = real_examples(data, y_pred)
        return model.compute_metrics(x, y, y_real, sample_weight=sample_weight)

    if not isinstance(data, PaddedBatch):
        return updated()
    # A metric of no examples may be no number.
    return tf.cond(real_count(data) > 0, updated, model.get_metrics_result)


def real_examples(data: Any, y_pred: Any) -> tuple[Any, Any, Any, Any]:
    """x, y, y_pred and sample weights of the examples that count, for the metrics."""
    if not isinstance(data, PaddedBatch):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        return x, y, y_pred, sample_weight
    rows = real_count(data)
    minibatch = _first(data.minibatch, rows)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(minibatch)
    return x, y, _first(y_pred, rows), sample_weight


def weight_of_loss(data: Any) -> Any:
    """What a replica's loss weighs in the mean over an epoch, a scalar."""
    if isinstance(data, PaddedBatch):
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return tf.cast(data.global_count[0], "float32") / replicas
    return real_count(data)


def _taken(structure: Any, indices: Any) -> Any:
    return tree.map_structure(
        lambda t: None if t is None else tf.gather(t, indices), structure
    )


def _first(structure: Any, rows: Any) -> Any:
    return tree.map_structure(lambda t: None if t is None else t[:rows], structure)
