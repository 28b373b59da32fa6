"""Batch norm whose statistics would differ between the devices of a strategy."""

from collections.abc import Iterator
from typing import Any

import keras

from keras_free_adv.user_warnings import warn_user
from keras_free_adv.zoo.fused_batch_normalization import FusedBatchNormalization


def warn_of_statistics_that_drift(model: keras.Model) -> None:
    """Warns if each device would keep batch norm statistics of its own examples.

    Of these only the first device's are saved and evaluated.
    """
    drifting = [
        layer.name
        for layer in _layers_in(model)
        if isinstance(layer, keras.layers.BatchNormalization)
        and not isinstance(layer, FusedBatchNormalization)
        and not layer.synchronized
        and layer.trainable
    ]
    if drifting:
        others = f" and {len(drifting) - 1} more" if len(drifting) > 1 else ""
        warn_user(
            f"BatchNormalization {drifting[0]!r}{others} keeps statistics of its own "
            "on each device, of which only the first one's are saved. Make it with "
            "synchronized=True, or the model by keras_free_adv.zoo.fused(model)."
        )


def _layers_in(layer: Any) -> Iterator[Any]:
    yield layer
    for inner in getattr(layer, "layers", None) or []:
        yield from _layers_in(inner)
