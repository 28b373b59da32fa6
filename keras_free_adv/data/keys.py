"""Keys of the draws that tf.data makes: which examples, how augmented.

tf.data reads on every backend, and draws with TensorFlow's own stateless generator. The
draws of attacks and training are those of `random_numbers`.
"""

from typing import Any

import tensorflow as tf

# Keys of different use are kept apart by a number of their own.
SHUFFLE = 2
AUGMENT = 3
RANDOM_HEAD = 4


def key(*numbers: Any) -> tf.Tensor:
    """Folds whole numbers (or integer tensors) into one key `[2]`, one at a time."""
    folded = tf.zeros((2,), tf.int64)
    for number in numbers:
        folded = tf.random.experimental.stateless_fold_in(
            folded, tf.cast(number, tf.int64)
        )
    return folded
