"""Checks and decodes image files in the graph, as in training.

The size of an image is read before it is decoded: a small file can hold an image that
fills the memory.
"""

from typing import Any

import tensorflow as tf

from keras_free_adv.datasets import decoding

# A decoded photo of 33 megapixels takes up 100 MB.
MOST_PIXELS = 2**25

# The first bytes of files.
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
# A PNG's signature, and the length, name, width and height of its first part.
_HEADER_BYTES = 24


def decoded_images(
    files: Any, name: str, size: tuple[int, int], *, channels: int, margin: float
) -> Any:
    """Decodes JPEG and PNG files, and resizes the central window of each.

    Args:
        files: the bytes of the files, strings `[B]`.
        name: name of the input, for messages.
        size: height and width of the result.
        channels: 1 or 3.
        margin: see `decoding.central_window`: that of training on images of varying
            size, or 0.

    Returns:
        `[B, height, width, channels]`, float32 in [0, 1].

    Raises:
        tf.errors.InvalidArgumentError: in the graph; the message names the input.
    """

    def one(file: Any) -> Any:
        def window_of(shape: Any) -> decoding.Window:
            return decoding.central_window(shape, size, margin)

        def decode(is_jpeg: bool) -> Any:
            # Errors of the decoders name the node, and thereby the input.
            with tf.name_scope(name):
                pixels = decoding.resized_window(
                    file, window_of, size, channels=channels, is_jpeg=is_jpeg
                )
            return tf.ensure_shape(pixels, (*size, channels))

        header = tf.strings.substr(
            tf.strings.join([file, bytes(_HEADER_BYTES)]), 0, _HEADER_BYTES
        )
        is_jpeg = _begins_with(header, JPEG)
        is_png = _begins_with(header, PNG)
        known = tf.debugging.Assert(
            is_jpeg | is_png,
            [f"Input `{name}` must hold JPEG or PNG files. Received one of bytes:"]
            + [tf.strings.length(file)],
        )
        with tf.control_dependencies([known]):
            shape = tf.cond(
                is_jpeg,
                lambda: _jpeg_shape(file, name),
                lambda: tf.io.decode_raw(
                    tf.strings.substr(header, 16, 8), tf.int32, little_endian=False
                ),
            )
        pixels = tf.reduce_prod(tf.cast(shape, tf.float32))
        fits = tf.debugging.Assert(
            (pixels <= MOST_PIXELS) & tf.reduce_all(shape > 0),
            [
                f"Input `{name}` must hold images of at most {MOST_PIXELS} pixels. "
                "Received height and width:"
            ]
            + [shape],
        )
        with tf.control_dependencies([fits]):
            return tf.cond(is_jpeg, lambda: decode(True), lambda: decode(False))

    spec = tf.TensorSpec((*size, channels), tf.float32)
    return tf.map_fn(one, files, fn_output_signature=spec)


def _jpeg_shape(file: Any, name: str) -> Any:
    with tf.name_scope(name):
        return tf.io.extract_jpeg_shape(file)[:2]


def _begins_with(header: Any, signature: bytes) -> Any:
    return tf.equal(tf.strings.substr(header, 0, len(signature)), signature)
