"""The wide ResNet of the adversarial training literature, WRN-32-10."""

from typing import Any

import keras
from keras import layers

from keras_free_adv import validation
from keras_free_adv.zoo.fused_batch_normalization import FusedBatchNormalization
from keras_free_adv.zoo.pixels import standardized

_STEM = 16
_SLOPE = 0.1


def wide_resnet(
    depth: int,
    width: int,
    *,
    classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    value_range: tuple[float, float] = (0.0, 1.0),
) -> keras.Model:
    """The wide ResNet of Madry et al. (2018), which Shafahi et al. (2019) train.

    Three stages of (depth - 2) / 6 units with 16, 32 and 64 times `width` channels;
    `wide_resnet(32, 10)` is their WRN-32-10. Each image is standardized inside.
    Activations are leaky ReLUs of slope 0.1, before the convolutions; where a unit
    changes the shape, its shortcut is an average pooling with channels of zeros added.
    Batch norm has momentum 0.9 and epsilon 1e-3.

    The WRN-28-10 and WRN-34-10 of other papers (depth 6 n + 4) are other networks, with
    convolutions in their shortcuts.

    Args:
        depth: number of layers with weights, 6 n + 2: 14, 20, 26, 32, 38, ...
        width: width as a multiple of a ResNet's.
        classes: number of classes.
        input_shape: (height, width, channels) of an image; height and width must be
            multiples of 4.
        value_range: lowest and highest pixel value.

    Returns:
        A functional model, `[B, height, width, channels]` to logits
        `[B, classes]` in float32.

    Raises:
        TypeError, ValueError: an argument is out of its range.

    Example:
    >>> wide_resnet(14, 1).count_params()
    173434
    """
    units = _units_per_stage(depth)
    width = validation.positive_integer("width", width)
    classes = validation.positive_integer("classes", classes)
    value_range = validation.pixel_range(value_range)
    input_shape = validation.image_shape("input_shape", input_shape, multiple=4)
    inputs = keras.Input(input_shape, name="image")
    x = standardized(value_range, input_shape)(inputs)
    x = _convolution(x, _STEM)
    for stage in range(3):
        for unit in range(units):
            first = unit == 0
            x = _unit(
                x,
                16 * width * 2**stage,
                strides=2 if first and stage > 0 else 1,
                shares_activation=first and stage == 0,
            )
    x = _activation(x)
    x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(
        classes,
        kernel_initializer=keras.initializers.VarianceScaling(1.0, "fan_in", "uniform"),
        dtype="float32",
        name="logits",
    )(x)
    return keras.Model(inputs, outputs, name=f"wide_resnet_{depth}_{width}")


def _unit(x: Any, filters: int, *, strides: int, shares_activation: bool) -> Any:
    """Adds two convolutions to a shortcut, which is activated in the first unit."""
    activated = _activation(x)
    shortcut = _shortcut(activated if shares_activation else x, filters, strides)
    y = _convolution(activated, filters, strides)
    y = _convolution(_activation(y), filters)
    return layers.Add()([y, shortcut])


def _shortcut(x: Any, filters: int, strides: int) -> Any:
    """A shortcut without weights: pools pixels, and pads channels with zeros."""
    height, width, channels = x.shape[1:]
    if strides > 1:
        x = layers.AveragePooling2D(strides)(x)
        height, width = height // strides, width // strides
    if channels == filters:
        return x
    before = (filters - channels) // 2
    around = (before, filters - channels - before)
    # ZeroPadding only pads spatial axes: the channels are made one.
    x = layers.Reshape((height, width, channels, 1))(x)
    x = layers.ZeroPadding3D(((0, 0), (0, 0), around), data_format="channels_last")(x)
    return layers.Reshape((height, width, filters))(x)


def _activation(x: Any) -> Any:
    x = FusedBatchNormalization(momentum=0.9, epsilon=1e-3)(x)
    return layers.LeakyReLU(negative_slope=_SLOPE)(x)


def _convolution(x: Any, filters: int, strides: int = 1) -> Any:
    return layers.Conv2D(
        filters,
        3,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal"
        ),
    )(x)


def _units_per_stage(depth: int) -> int:
    depth = validation.positive_integer("depth", depth)
    if depth < 8 or depth % 6 != 2:
        raise ValueError(
            "Argument `depth` must be 6 n + 2: 8, 14, 20, 26, 32, 38, ... Received: "
            f"depth={depth}. WRN-28-10 and WRN-34-10 have other shortcuts than the "
            "WRN-32-10 of Shafahi et al. (2019): they are other networks."
        )
    return (depth - 2) // 6
