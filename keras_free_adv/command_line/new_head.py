"""A network for other classes: its last layer is made anew."""

from typing import Any

import keras
import numpy as np

from keras_free_adv.command_line.command import CommandError
from keras_free_adv.first_layers import unwrapped


def with_classes(model: keras.Model, classes: int, at_least: int = 0) -> keras.Model:
    """The network, with a last layer of logits for `classes` if it has another number.

    Args:
        model: plain or adversarially trained; its weights are shared.
        classes: how many there are; 0 if it is not known.
        at_least: how many there are if that is not known: the labels' numbers say it.

    Raises:
        CommandError: its last layer cannot be made anew.
    """
    network = unwrapped(model)
    units = network.output_shape[-1]
    if classes == 0 and at_least > max(units, 2):
        classes = at_least
    if classes in (0, units) or (classes, units) == (2, 1):
        return network
    dense = [x for x in network.layers if isinstance(x, keras.layers.Dense)]
    if not dense or not isinstance(network, keras.Model):
        raise CommandError(
            f"The model knows {network.output_shape[-1]} classes, and the data has "
            f"{classes}: the last Dense layer would be made anew, but it has none. "
            "Make one for these classes, and pass its file as --weights.",
            "weights",
        )
    # What follows the last dense layer, such as a softmax, is left out.
    logits = keras.layers.Dense(classes, dtype="float32", name="new_logits")
    return keras.Model(network.inputs, logits(dense[-1].input), name=network.name)


def shape_and_classes(
    data: Any, names: tuple[str, ...] | None
) -> tuple[tuple[int, int, int], int]:
    """The shape of an image and the number of classes.

    Args:
        data: arrays (images, labels), or a tf.data.Dataset of minibatches of them.
        names: of the classes, if they are known.
    """
    if isinstance(data, (tuple, list)):
        images, labels = (np.asarray(part) for part in data)
    else:
        images, labels = next(iter(data))[:2]
    if labels.ndim > 1 and labels.shape[-1] > 1:
        return tuple(images.shape[1:]), int(labels.shape[-1])
    if names is None and not isinstance(data, (tuple, list)):
        labels = np.concatenate([np.ravel(each[1]) for each in data])
    return tuple(images.shape[1:]), len(names or ()) or int(np.max(labels)) + 1
