"""Images as PNG files, in memory."""

import base64

import numpy as np
import tensorflow as tf


def png_link(image: np.ndarray) -> str:
    """An image as a `data:` link, which a page shows without a file.

    Args:
        image: `[height, width, 1 or 3]`, in [0, 1].

    Example:
    >>> png_link(np.zeros((2, 2, 1)))[:22]
    'data:image/png;base64,'
    """
    pixels = np.rint(255 * np.clip(image, 0, 1)).astype("uint8")
    encoded = base64.b64encode(tf.io.encode_png(pixels).numpy()).decode()
    return f"data:image/png;base64,{encoded}"
