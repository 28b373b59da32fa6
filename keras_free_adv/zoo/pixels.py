"""The first layer of every model of the zoo: pixels to network scale."""

import keras


def centered(value_range: tuple[float, float]) -> keras.layers.Layer:
    """Maps `value_range` to [-2, 2], about unit variance for natural images.

    It computes in float32 whatever the policy: on a bfloat16 grid a perturbation
    of 8/255 would keep only a few distinct values.
    """
    low, high = value_range
    scale = 4.0 / (high - low)
    return keras.layers.Rescaling(
        scale, offset=-scale * (low + high) / 2.0, dtype="float32", name="centered"
    )
