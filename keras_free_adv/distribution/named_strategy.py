"""Strategies of `tf.distribute` by the names that a command line has for them."""

from typing import Any

import tensorflow as tf
from absl import logging

from keras_free_adv.distribution import workers


def named_strategy(name: str) -> Any:
    """The strategy of a name; to be made before anything else of TensorFlow.

    Args:
        name: "single" for that of this scope, "mirrored" for all devices of this
            machine, "multi_worker" for all machines of TF_CONFIG.
    """
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "multi_worker":
        logging.set_verbosity(logging.WARNING)  # or TensorFlow tells of each collective
        return tf.distribute.MultiWorkerMirroredStrategy()
    return workers.strategy_in_force()
