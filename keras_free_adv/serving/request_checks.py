"""What a served model refuses, inside its graph.

TensorFlow Serving does not check the shapes of what it is sent, and a convolutional
network takes images of any size for good: so the graph checks.
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
    """`images`, when what is wrong with them was refused.

    Args:
        images: what came in a request.
        name: of the input, for messages.
        shape: expected of each image; None for what may vary.
        value_range: expected of the pixels; None for integers, which cannot be wrong.

    Raises:
        tf.errors.InvalidArgumentError: in the graph; the message names the input.
    """
    # What follows knows nothing of the declared shape: else its check would be
    # optimized away, as true.
    images = tf.raw_ops.PlaceholderWithDefault(input=images, shape=tf.TensorShape(None))
    found = tf.shape(images)
    checks = [_not_empty(found, name)]
    axes = [axis for axis, size in enumerate(shape, start=1) if size is not None]
    sizes = [size for size in shape if size is not None]
    with tf.control_dependencies([_of_rank(found, len(shape) + 1, shape, name)]):
        fits = tf.reduce_all(tf.equal(tf.gather(found, axes), sizes))
    checks.append(_assert(fits, name, f"have shape {_written(shape)}", found))
    with tf.control_dependencies(checks):
        images = tf.identity(images)
    images.set_shape((None, *shape))
    if value_range is not None:
        with tf.control_dependencies([_within(images, name, value_range)]):
            images = tf.identity(images)
    return images


def checked_files(encoded: Any, name: str) -> Any:
    """`encoded`, strings `[batch]`, when what is wrong with them was refused."""
    encoded = tf.raw_ops.PlaceholderWithDefault(
        input=encoded, shape=tf.TensorShape(None)
    )
    found = tf.shape(encoded)
    with tf.control_dependencies([_of_rank(found, 1, (), name)]):
        checks = [_not_empty(found, name)]
    with tf.control_dependencies(checks):
        encoded = tf.identity(encoded)
    encoded.set_shape((None,))
    return encoded


def _of_rank(found: Any, rank: int, shape: tuple[int | None, ...], name: str) -> Any:
    of_rank = tf.equal(tf.size(found), rank)
    return _assert(of_rank, name, f"have shape {_written(shape)}", found)


def _not_empty(found: Any, name: str) -> Any:
    some = tf.greater(tf.reduce_prod(found[:1]), 0)
    return _assert(some, name, "hold one image or more", found)


def _within(images: Any, name: str, value_range: tuple[float, float]) -> Any:
    """One pass over the pixels, and a second only over what is wrong."""
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


def _assert(condition: Any, name: str, expected: str, *came: Any) -> Any:
    said = [f"Input `{name}` must {expected}. Received:", *came]
    return tf.debugging.Assert(condition, said, summarize=9)


def _written(shape: tuple[int | None, ...]) -> str:
    return str(["batch", *("any" if size is None else size for size in shape)]).replace(
        "'", ""
    )
