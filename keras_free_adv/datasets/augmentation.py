"""Random crops and flips, determined by a key."""

from typing import Any

import tensorflow as tf

from keras_free_adv.data import keys

# The usual random resized crop for ImageNet.
AREAS = (0.08, 1.0)
ASPECT_RATIOS = (3 / 4, 4 / 3)


def pad_crop_flip(
    images: Any,
    key: Any,
    *,
    padding: tuple[int, int],
    flip: bool,
    places: Any = None,
    size: Any = None,
) -> Any:
    """Pads with zeros, crops to the old size and flips, each image at random.

    Args:
        images: `[B, height, width, channels]`.
        key: `[2]`, see `keys.key`.
        padding: pixels at top and bottom, and at left and right.
        flip: whether to flip every second image left to right.
        places: the places of these images in their minibatch, `[B]`, if they are only a
            part of it; they are augmented as in the whole.
        size: images in that whole minibatch.

    Returns:
        Images of the same shape.
    """
    pad_y, pad_x = padding
    batch = tf.shape(images)[0] if size is None else size
    height, width = images.shape[1:3]
    rows = tf.range(height)
    columns = tf.range(width)
    row_key, column_key, flip_key = (
        keys.key(key[0], key[1], draw) for draw in range(3)
    )
    top = tf.random.stateless_uniform(
        (batch, 1), row_key, maxval=2 * pad_y + 1, dtype=tf.int32
    )
    left = tf.random.stateless_uniform(
        (batch, 1), column_key, maxval=2 * pad_x + 1, dtype=tf.int32
    )
    mirrored = (
        tf.random.stateless_uniform((batch, 1), flip_key, maxval=2, dtype=tf.int32)
        if flip
        else tf.zeros((batch, 1), tf.int32)
    )
    if places is not None:
        top, left, mirrored = (tf.gather(d, places) for d in (top, left, mirrored))
    columns = tf.where(mirrored == 1, columns[::-1], columns)
    padded = tf.pad(images, [[0, 0], [pad_y, pad_y], [pad_x, pad_x], [0, 0]])
    cropped_rows = tf.gather(padded, top + rows, batch_dims=1)
    turned = tf.gather(
        tf.transpose(cropped_rows, (0, 2, 1, 3)), left + columns, batch_dims=1
    )
    return tf.ensure_shape(tf.transpose(turned, (0, 2, 1, 3)), images.shape)


def random_window(shape: Any, key: Any) -> tuple[Any, Any, Any, Any]:
    """A window of random area and aspect ratio: top, left, height, width.

    Args:
        shape: shape of the image, `[3]`, int32.
        key: `[2]`.
    """
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        tf.zeros((1, 0, 4)),
        seed=key,
        min_object_covered=0.0,
        aspect_ratio_range=ASPECT_RATIOS,
        area_range=AREAS,
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    return begin[0], begin[1], size[0], size[1]
