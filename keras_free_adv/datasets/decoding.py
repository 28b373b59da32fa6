"""Decodes an image, or a window of it, to pixels in [0, 1].

Training and the served model decode in the same way.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

# Top, left, height and width.
Window = tuple[Any, Any, Any, Any]

# Decodes as Pillow and most clients do; TensorFlow's default is off by one or two.
_DCT = "INTEGER_ACCURATE"


def whole_image(
    encoded: Any, shape: tuple[int | None, int | None, int], *, is_jpeg: bool
) -> Any:
    """The whole of an image of known shape, `[height, width, channels]` in [0, 1]."""
    if is_jpeg:
        pixels = tf.io.decode_jpeg(encoded, channels=shape[-1], dct_method=_DCT)
    else:
        pixels = tf.io.decode_image(
            encoded, channels=shape[-1], expand_animations=False
        )
    return tf.cast(tf.ensure_shape(pixels, shape), tf.float32) / 255.0


def decoded(encoded: Any, channels: int) -> Any:
    """An image of any format, `[height, width, channels]`, 8-bit; of a film the first.

    TensorFlow decodes WebP in colour only.
    """
    colour = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return colour if channels == 3 else tf.image.rgb_to_grayscale(colour)


def resized_window(
    encoded: Any,
    window_of: Callable[[Any], Window],
    size: tuple[int, int],
    *,
    channels: int,
    is_jpeg: bool,
) -> Any:
    """A window of an image, resized.

    Args:
        encoded: the file's bytes, a scalar.
        window_of: maps the shape of the image, `[3]`, to the window.
        size: height and width of the result.
        channels: 1 or 3.
        is_jpeg: whether it is a JPEG; then only the window is decoded.

    Returns:
        `[height, width, channels]`, in [0, 1].
    """
    if is_jpeg:
        window = window_of(tf.io.extract_jpeg_shape(encoded))
        pixels = tf.io.decode_and_crop_jpeg(
            encoded, tf.stack(window), channels=channels, dct_method=_DCT
        )
    else:
        whole = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
        top, left, height, width = window_of(tf.shape(whole))
        pixels = whole[top : top + height, left : left + width]
    return tf.clip_by_value(tf.image.resize(pixels, size) / 255.0, 0.0, 1.0)


def margin_of(size: int) -> float:
    """Pixels cut off around the central window of images that vary in size.

    The sum of both sides: 32 for 224, as if an image were resized to 256 and cropped;
    in proportion for other sizes.
    """
    return size * 32 / 224


def central_window(shape: Any, size: tuple[int, int], margin: float) -> Window:
    """The largest central window with the aspect ratio of `size`.

    Args:
        shape: shape of the image, `[3]`, int32.
        size: height and width that it will be resized to.
        margin: pixels of the resized image to cut off around it, both sides together.
    """
    sides = [
        tf.cast(shape[axis], tf.float32) * one / (other + margin)
        for one in size
        for axis, other in enumerate(size)
    ]
    height, width = (
        tf.maximum(tf.cast(tf.round(tf.minimum(*pair)), tf.int32), 1)
        for pair in (sides[:2], sides[2:])
    )
    return (shape[0] - height) // 2, (shape[1] - width) // 2, height, width
