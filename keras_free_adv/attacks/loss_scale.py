"""The loss scale of an attack on a model in half precision.

In training the optimizer scales the loss (`scale_loss`, in `backends`).
"""

from collections.abc import Iterator
from typing import Any

import keras

# About what a loss scale of 2**15 leaves for one example of a minibatch of 128.
FLOAT16_LOSS_SCALE = 256.0


def compute_dtypes(layer: Any) -> Iterator[str]:
    """Those of a layer and, of a model, of the layers in it.

    A model's own says little: one that is loaded from a file may have float32, with
    layers of float16 inside.
    """
    yield layer.compute_dtype
    if isinstance(layer, keras.Model):
        for inner in layer.layers:
            yield from compute_dtypes(inner)


def loss_scale(model: keras.Model, search_dtype: str = "float32") -> float:
    """What to multiply a loss with, so that small gradients do not vanish."""
    float16 = "float16" in (search_dtype, *compute_dtypes(model))
    return FLOAT16_LOSS_SCALE if float16 else 1.0
