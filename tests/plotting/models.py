"""What the tests of pictures share."""

import keras
import matplotlib.pyplot as plt
import numpy as np

from tests.conftest import small_images


def linear_network(weights, softmax=False, dtype=None):
    """Flatten and Dense, whose gradient can be worked out by hand."""
    network = keras.Sequential(
        [
            keras.Input((3, 3, 1)),
            keras.layers.Flatten(dtype=dtype),
            keras.layers.Dense(
                3, activation="softmax" if softmax else None, dtype=dtype
            ),
        ]
    )
    network.set_weights([weights, np.zeros(3, "float32")])
    return network


def linear_weights(seed=0):
    return np.random.default_rng(seed).normal(0, 1, (9, 3)).astype("float32")


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def cross_entropy(weights, images, labels):
    shares = softmax(images.reshape(len(images), -1).astype("float64") @ weights)
    return -np.log(shares[np.arange(len(images)), labels])


def gradients(weights, images, labels):
    """W (softmax(W^T x) - e_y), of images `[B, 3, 3, 1]`."""
    shares = softmax(images.reshape(len(images), -1).astype("float64") @ weights)
    return ((shares - np.eye(3)[labels]) @ weights.T).reshape(images.shape)


def linear_data(count=12):
    """Images, and the labels that the network of `linear_weights()` gives them."""
    images, _ = small_images(count, (3, 3, 1))
    return images, (images.reshape(count, -1) @ linear_weights()).argmax(-1)


def check_looks(figure, path):
    """Drawn without pyplot's state; texts are large enough, and not cut."""
    assert plt.get_fignums() == []
    figure.savefig(path)
    assert path.stat().st_size > 1000
    width, height = figure.bbox.size
    for axis in figure.axes:
        texts = [axis.title, axis.xaxis.label, axis.yaxis.label]
        texts += axis.get_xticklabels() + axis.get_yticklabels()
        if axis.get_legend():
            texts += axis.get_legend().get_texts()
        for text in texts:
            if text.get_text() and text.get_visible() and axis.axison:
                assert text.get_fontsize() >= 12, text
        for text in texts[:3]:
            if text.get_text() and axis.name != "3d":
                box = text.get_window_extent()
                assert -1 <= box.x0 <= box.x1 <= width + 1, text
                assert -1 <= box.y0 <= box.y1 <= height + 1, text
