"""Pre-activation ResNets: the ResNet-18 of the CIFAR literature, and its parts."""

from typing import Any

import keras

from keras_free_adv import validation
from keras_free_adv.zoo.fused_batch_normalization import FusedBatchNormalization
from keras_free_adv.zoo.pixels import centered


def preact_resnet18(
    *,
    width: int = 64,
    classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    value_range: tuple[float, float] = (0.0, 1.0),
) -> keras.Model:
    """PreActResNet-18 (He et al. 2016), for 32x32 images.

    Four stages of two blocks have `width`, 2, 4 and 8 times `width` channels. The
    projections see the activated input of a block, as in He et al.; in Wong et al.
    (2020) they see the input itself. Batch norm has momentum 0.9 and epsilon 1e-5.

    Args:
        width: channels of the first stage; 64 is the published network.
        classes: number of classes.
        input_shape: (height, width, channels) of an image.
        value_range: lowest and highest pixel value.

    Returns:
        A functional model, `[B, height, width, channels]` to logits
        `[B, classes]` in float32.

    Example:
    >>> preact_resnet18(width=16).count_params()
    702970
    """
    width = validation.positive_integer("width", width)
    classes = validation.positive_integer("classes", classes)
    value_range = validation.pixel_range(value_range)
    input_shape = validation.image_shape("input_shape", input_shape)
    inputs = keras.Input(input_shape, name="image")
    x = centered(value_range)(inputs)
    x = convolution(x, width, 3)
    for stage in range(4):
        x = block(x, width * 2**stage, strides=1 if stage == 0 else 2)
        x = block(x, width * 2**stage, strides=1)
    x = activated(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, outputs, name=f"preact_resnet18_{width}")


def block(x: Any, filters: int, strides: int, activation: str = "relu") -> Any:
    """Activation before each convolution; the shortcut sees the activated input."""
    active = activated(x, activation)
    changes_shape = strides != 1 or x.shape[-1] != filters
    shortcut = convolution(active, filters, 1, strides) if changes_shape else x
    y = convolution(active, filters, 3, strides)
    y = convolution(activated(y, activation), filters, 3)
    return keras.layers.Add()([y, shortcut])


def activated(x: Any, activation: str = "relu") -> Any:
    """Batch norm and an activation."""
    x = FusedBatchNormalization(momentum=0.9, epsilon=1e-5)(x)
    return keras.layers.Activation(activation)(x)


def convolution(x: Any, filters: int, size: int, strides: int = 1) -> Any:
    """A convolution without a bias, as the authors' framework pads it."""
    # Symmetric padding, as in PyTorch, with which the published figures were measured;
    # "same" with stride 2 pads on one side only.
    if strides > 1 and size > 1:
        x = keras.layers.ZeroPadding2D(size // 2)(x)
        padding = "valid"
    else:
        padding = "same"
    return keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)
