"""Checks of requests, inside the graph of a served model.

TensorFlow Serving does not check the shapes of its inputs, and a convolutional network
accepts images of any size.
"""

from typing import Any

import tensorflow as tf

from keras_free_adv import validation


def checked_images(
    images: Any,
    name: str,
    shape: tuple[int | None, ...],
    value_range: tuple[float, float] | None = None,
) -> Any:
    """Returns `images` after checks.

    Args:
        images: images of a request.
        name: name of the input, for messages.
        shape: expected shape of each image; None for sizes that may vary.
        value_range: expected range of the pixels; None for integers, all of which fit.

    Raises:
        tf.errors.InvalidArgumentError: in the graph; the message names the input.
    """
    # Hides the declared shape: TensorFlow would take it for granted, and remove its
    # check.
    images = tf.raw_ops.PlaceholderWithDefault(input=images, shape=tf.TensorShape(None))
    found = tf.shape(images)
    checks = [_check_not_empty(found, name)]
    axes = [axis for axis, size in enumerate(shape, start=1) if size is not None]
    sizes = [size for size in shape if size is not None]
    with tf.control_dependencies([_check_rank(found, len(shape) + 1, shape, name)]):
        fits = tf.reduce_all(tf.equal(tf.gather(found, axes), sizes))
    checks.append(_assert(fits, name, f"have shape {_outline(shape)}", found))
    with tf.control_dependencies(checks):
        images = tf.identity(images)
    images.set_shape((None, *shape))
    if value_range is not None:
        with tf.control_dependencies([_check_range(images, name, value_range)]):
            images = tf.identity(images)
    return images


def checked_files(encoded: Any, name: str) -> Any:
    """Returns `encoded`, strings `[batch]`, after checks."""
    encoded = tf.raw_ops.PlaceholderWithDefault(
        input=encoded, shape=tf.TensorShape(None)
    )
    found = tf.shape(encoded)
    with tf.control_dependencies([_check_rank(found, 1, (), name)]):
        checks = [_check_not_empty(found, name)]
    with tf.control_dependencies(checks):
        encoded = tf.identity(encoded)
    encoded.set_shape((None,))
    return encoded


def _check_rank(found: Any, rank: int, shape: tuple[int | None, ...], name: str) -> Any:
    of_rank = tf.equal(tf.size(found), rank)
    return _assert(of_rank, name, f"have shape {_outline(shape)}", found)


def _check_not_empty(found: Any, name: str) -> Any:
    some = tf.greater(tf.reduce_prod(found[:1]), 0)
    return _assert(some, name, "hold one image or more", found)


def _check_range(images: Any, name: str, value_range: tuple[float, float]) -> Any:
    """Passes over the pixels once, and over wrong ones again."""
    low, high = value_range
    slack = validation.RANGE_TOLERANCE * (high - low)
    # NaN compares as false.
    inside = (images >= low - slack) & (images <= high + slack)

    def refuse() -> Any:
        wrong = tf.boolean_mask(images, tf.logical_not(inside))
        finite = tf.boolean_mask(wrong, tf.math.is_finite(wrong))
        return _assert(
            tf.constant(False),
            name,
            f"hold finite pixels from {low:g} to {high:g}; uint8 pixels have a "
            "signature of their own, serve_uint8",
            finite[:3],
            "among",
            tf.size(wrong),
            "pixels that are not",
        )

    return tf.cond(tf.reduce_all(inside), tf.no_op, refuse)


def _assert(condition: Any, name: str, expected: str, *received: Any) -> Any:
    message = [f"Input `{name}` must {expected}. Received:", *received]
    return tf.debugging.Assert(condition, message, summarize=9)


def _outline(shape: tuple[int | None, ...]) -> str:
    return str(["batch", *("any" if size is None else size for size in shape)]).replace(
        "'", ""
    )
