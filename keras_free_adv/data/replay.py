"""Repeats every minibatch m times in a row."""

from collections.abc import Callable

import tensorflow as tf

from keras_free_adv import validation


def replay(replays: int) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """Repeats every element of a dataset `replays` times in a row.

    For `tf.data.Dataset.apply`, after shuffling, augmentation and batching: the
    replays of a minibatch are the same pixels (Shafahi et al. 2019, Algorithm 1,
    where `replays` is m). `fit` of a `FreeAdversarialModel` replays by itself; use
    this in a pipeline of your own, with `FreeAdversarialModel(..., replays=1)`.

    Args:
        replays: how often each element comes; 1 or more.

    Returns:
        A transformation from dataset to dataset. A known cardinality is multiplied
        by `replays`; an infinite one stays infinite.

    Raises:
        ValueError: `replays` is not a whole number above zero.

    Example:
    >>> import tensorflow as tf
    >>> dataset = tf.data.Dataset.range(2).apply(replay(3))
    >>> [int(element) for element in dataset]
    [0, 0, 0, 1, 1, 1]
    """
    replays = validation.positive_integer("replays", replays)

    def transformation(dataset: tf.data.Dataset) -> tf.data.Dataset:
        if not isinstance(dataset, tf.data.Dataset):
            raise TypeError(
                "replay(m) transforms a tf.data.Dataset: dataset.apply(replay(m)). "
                f"Received: {type(dataset).__name__}."
            )
        replayed = dataset.flat_map(
            lambda *element: tf.data.Dataset.from_tensors(
                element if len(element) > 1 else element[0]
            ).repeat(replays)
        )
        # flat_map loses the cardinality; within a graph it has no static value.
        count = tf.get_static_value(dataset.cardinality())
        if count is None or count == tf.data.UNKNOWN_CARDINALITY:
            return replayed
        count = count * replays if count > 0 else count
        return replayed.apply(tf.data.experimental.assert_cardinality(count))

    return transformation
