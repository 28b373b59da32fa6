"""Augments the images of each minibatch, by draws that follow from its number."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import tensorflow as tf

from keras_free_adv.data import keys
from keras_free_adv.data.minibatches import Minibatches


def augmented(source: Minibatches, augment: Callable[[Any, Any], Any]) -> Minibatches:
    """Augments each minibatch, before it is replayed and shared by replicas.

    All replays of a minibatch, a resumed run and every replica therefore see the pixels
    that one device sees in one run.

    Args:
        source: the minibatches.
        augment: maps (x, key) to the augmented x; the key, `[2]`, follows from (seed,
            number of the minibatch).
    """

    def stream(seed: Any, first: Any) -> tf.data.Dataset:
        def augmented_one(number: Any, minibatch: tuple[Any, ...]) -> tuple[Any, ...]:
            x, *others = minibatch
            key = keys.key(keys.RANDOM_HEAD, seed, number)
            return augment(x, key), *others

        numbered = source.stream(seed, first).enumerate(tf.cast(first, tf.int64))
        return numbered.map(augmented_one, num_parallel_calls=tf.data.AUTOTUNE)

    # A worker's slice alone would be augmented by other draws than the whole.
    return replace(source, stream=stream, slices=None)
