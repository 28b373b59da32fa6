"""Short minibatches, filled up so that every replica has a share of the same size.

TensorFlow gives the first replicas all they can hold of a short minibatch and the last
ones little or nothing. The mean of the replicas' losses is then not the mean over the
examples, and some operations fail on nothing. Examples of the minibatch itself fill it
up here, and do not count: not in the loss, not in the metrics.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import tree


class Share(NamedTuple):
    """A minibatch that was filled up, or a replica's share of it.

    Attributes:
        minibatch: (x, y[, sample_weight]), of B examples.
        counts: whether each example counts, bool `[B]`.
        rows: how many count in the whole minibatch, for each example, int32 `[B]`.
    """

    minibatch: Any
    counts: Any
    rows: Any


def filled_up(stream: tf.data.Dataset, rows: int, replicas: int) -> tf.data.Dataset:
    """Fills each minibatch up to `rows`, or beyond, to a multiple of `replicas`.

    Args:
        stream: minibatches (x, y[, sample_weight]).
        rows: examples in a full minibatch.
        replicas: how many share it.

    Returns:
        A dataset of `Share`.
    """

    def fill(*minibatch: Any) -> Share:
        real = tf.shape(tree.flatten(minibatch)[0])[0]
        size = -(-tf.maximum(real, rows) // replicas) * replicas
        number = tf.range(size)
        # Only copied when there is something to fill.
        full = tf.cond(
            size == real,
            lambda: minibatch,
            lambda: _taken(minibatch, number % real),
        )
        return Share(full, number < real, tf.fill([size], real))

    return stream.map(fill)


def unpacked(data: Any, *, summed: bool) -> tuple[Any, Any, Any]:
    """x, y and sample weights that make the sum of the replicas' losses right.

    Args:
        data: a `Share`, or a minibatch as Keras has it.
        summed: whether the loss is a sum over the examples, and not their mean.
    """
    if not isinstance(data, Share):
        return keras.utils.unpack_x_y_sample_weight(data)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data.minibatch)
    share = tf.cast(data.counts, "float32")
    if not summed:
        # A replica's mean is over its B examples, and the replicas' is taken of that.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        share *= tf.cast(tf.size(share) * replicas, "float32")
        share /= tf.cast(data.rows, "float32")
    if sample_weight is None:
        return x, y, share

    def times_share(weight: Any) -> Any:
        shape = [-1] + [1] * (weight.shape.rank - 1)
        return tf.cast(weight, "float32") * tf.reshape(share, shape)

    return x, y, tree.map_structure(times_share, sample_weight)


def counted(data: Any, y_pred: Any) -> tuple[Any, Any, Any, Any]:
    """x, y, y_pred and sample weights of the examples that count, for the metrics."""
    if not isinstance(data, Share):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        return x, y, y_pred, sample_weight
    chosen = tf.where(data.counts)[:, 0]
    minibatch = _taken(data.minibatch, chosen)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(minibatch)
    return x, y, _taken(y_pred, chosen), sample_weight


def rows_counted(data: Any) -> Any:
    """What a replica's loss weighs in the mean over an epoch, a scalar."""
    if isinstance(data, Share):
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return tf.cast(data.rows[0], "float32") / replicas
    return tf.shape(tree.flatten(data)[0])[0]


def _taken(structure: Any, indices: Any) -> Any:
    return tree.map_structure(
        lambda t: None if t is None else tf.gather(t, indices), structure
    )
