"""From an encoded image to a window of it, in pixels of [0, 1].

Training and the served model decode in the same way.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

# Top, left, height and width.
Window = tuple[Any, Any, Any, Any]


# As Pillow and most clients decode; TensorFlow's default is off by one or two.
_DCT = "INTEGER_ACCURATE"


def whole_image(
    encoded: Any, shape: tuple[int | None, int | None, int], *, is_jpeg: bool
) -> Any:
    """All of an image of known shape, `[height, width, channels]` in [0, 1]."""
    if is_jpeg:
        pixels = tf.io.decode_jpeg(encoded, channels=shape[-1], dct_method=_DCT)
    else:
        pixels = tf.io.decode_image(
            encoded, channels=shape[-1], expand_animations=False
        )
    return tf.cast(tf.ensure_shape(pixels, shape), tf.float32) / 255.0


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
        is_jpeg: whether it is a JPEG; then no more of it is decoded than the window.

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
    """Pixels that are left out around the central window of images that vary in size.

    In each direction together: 32 for 224, as if an image was resized to 256 and
    cropped, and as much in proportion for other sizes.
    """
    return size * 32 / 224


def central_window(shape: Any, size: tuple[int, int], margin: float) -> Window:
    """The largest window in the middle of an image with the form of `size`.

    Args:
        shape: of the image, `[3]`, int32.
        size: height and width that it will be resized to.
        margin: pixels of the resized image, in each direction together, that are left
            out around it.
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
