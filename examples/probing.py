"""Whether a served model is the one that was trained, and as robust."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tf_serving import Server

import keras_free_adv as kfa
from keras_free_adv.serving.from_model import served_classifier

# How far probabilities may be apart: of float32 they agree to 1e-5.
TOLERANCE = 1e-3
AT_A_TIME = 64

# What may have been done to the pixels on their way, and what to look for.
MISTAKES = {
    "pixels multiplied by 255": lambda x, low, high: 255 * x,
    "pixels divided by 255": lambda x, low, high: x / 255,
    "pixels of [0, 1] scaled to [-1, 1]": lambda x, low, high: 2 * x - 1,
    "pixels of [-1, 1] scaled to [0, 1]": lambda x, low, high: (x + 1) / 2,
    "colour channels in reverse order": lambda x, low, high: x[..., ::-1],
    "images upside down": lambda x, low, high: x[:, ::-1],
    "negative images": lambda x, low, high: low + high - x,
}


class ServedModel(keras.Model):
    """A server as a Keras model: it returns the server's scores, without gradients."""

    def __init__(self, server: Server, classes: int) -> None:
        super().__init__(name="server")
        self.server = server
        self.classes = classes

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Probabilities `[B, classes]`."""
        del training
        scores = tf.numpy_function(self._scores, [inputs], tf.float32)
        return tf.ensure_shape(scores, (None, self.classes))

    def _scores(self, images: np.ndarray) -> np.ndarray:
        return scores(self.server, "serving_default", "images", images)


def scores(server: Server, signature: str, name: str, values: np.ndarray) -> np.ndarray:
    """The server's probabilities, asked for a few at a time."""
    parts = [
        server.ask(signature, **{name: values[i : i + AT_A_TIME]})["probabilities"]
        for i in range(0, len(values), AT_A_TIME)
    ]
    return np.concatenate(parts).astype("float32")


@dataclass(frozen=True)
class Row:
    """What Keras and the server make of the same images.

    Attributes:
        images: which they are.
        keras: accuracy of the Keras model.
        server: accuracy of the server.
        apart: how far probabilities are apart, at most.
    """

    images: str
    keras: float
    server: float
    apart: float


def probe(
    server: Server,
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float,
    norm: str,
    value_range: tuple[float, float],
    queries: int,
    seed: int,
) -> tuple[list[Row], list[str]]:
    """Sends clean and adversarial images.

    Args:
        server: that is probed.
        model: the Keras model that it should serve.
        images: 8-bit images `[B, height, width, channels]`.
        labels: their classes `[B]`.
        epsilon: radius of the ball, on the scale of `value_range`.
        norm: "linf" or "l2".
        value_range: of the model's pixels.
        queries: of the Square attack, for each image.
        seed: of the attacks.

    Returns:
        What was measured, and what is wrong.
    """
    classifier = served_classifier(
        model,
        class_names=None,
        image_size=None,
        value_range=value_range,
        from_logits="auto",
    )

    def of_keras(pixels: np.ndarray) -> np.ndarray:
        parts = np.array_split(pixels, -(-len(pixels) // AT_A_TIME))
        return np.concatenate(
            [classifier.probabilities(tf.constant(part, tf.float32)) for part in parts]
        )

    low, high = value_range
    floats = (low + (high - low) * (images / 255.0)).astype("float32")
    files = np.array([tf.io.encode_png(one).numpy() for one in images], object)
    expected = of_keras(floats)

    def row(name: str, ours: np.ndarray, theirs: np.ndarray) -> Row:
        _check_classes(ours, theirs)
        right = [float((p.argmax(-1) == labels).mean()) for p in (ours, theirs)]
        return Row(name, *right, float(np.abs(ours - theirs).max()))

    by_floats = scores(server, "serving_default", "images", floats)
    rows = [
        row("clean, float32", expected, by_floats),
        row(
            "clean, uint8",
            expected,
            scores(server, "serve_uint8", "images", images),
        ),
        row(
            "clean, PNG files",
            expected,
            scores(server, "serve_bytes", "image_bytes", files),
        ),
    ]
    ball = {"norm": norm, "value_range": value_range, "seed": seed}
    pgd = kfa.PGDAttack(epsilon, steps=20, **ball)
    attacked = np.concatenate(
        [
            np.asarray(pgd(x, y, model=model))
            for x, y in _in_parts(floats, labels, AT_A_TIME)
        ]
    )
    rows.append(
        row(
            "PGD-20, made on the Keras model",
            of_keras(attacked),
            scores(server, "serving_default", "images", attacked),
        )
    )
    square = kfa.SquareAttack(epsilon, queries=queries, from_logits=False, **ball)
    remote = ServedModel(server, classifier.view.classes)
    attacked = np.concatenate(
        [
            np.asarray(square(x, y, model=remote))
            for x, y in _in_parts(floats, labels, AT_A_TIME)
        ]
    )
    rows.append(
        row(
            f"Square ({queries} queries), made on the server's scores",
            of_keras(attacked),
            scores(server, "serving_default", "images", attacked),
        )
    )
    return rows, doubts(rows, floats, by_floats, of_keras, value_range)


def doubts(
    rows: list[Row],
    floats: np.ndarray,
    by_floats: np.ndarray,
    of_keras: Any,
    value_range: tuple[float, float],
) -> list[str]:
    """What is wrong with the server, in words."""
    wrong = [row.images for row in rows if not row.apart <= TOLERANCE]
    if not wrong:
        return []
    found = [
        f"The server and the Keras model answer differently for: {'; '.join(wrong)}."
    ]
    if rows[0].images not in wrong:
        found.append(
            "Float images agree, so the weights are the same: a step before the "
            "network is wrong, that scales or decodes other requests."
        )
        return found
    for mistake, change in MISTAKES.items():
        apart = np.abs(of_keras(change(floats, *value_range)) - by_floats).max()
        if apart <= TOLERANCE:
            found.append(
                f"The server answers as the Keras model does for {mistake}: a "
                "preprocessing step is missing, or is done twice."
            )
            return found
    found.append(
        "No preprocessing mistake that is known here explains it: are these the same "
        "weights, and is this the right version of the model?"
    )
    return found


def _check_classes(ours: np.ndarray, theirs: np.ndarray) -> None:
    if ours.shape != theirs.shape:
        raise ValueError(
            f"The server answers {theirs.shape[-1]} classes, and the Keras model has "
            f"{ours.shape[-1]}: it serves another model."
        )


def _in_parts(images: np.ndarray, labels: np.ndarray, size: int) -> Any:
    # Of one size, so that each attack is compiled once; the last part may be shorter.
    for begin in range(0, len(images), size):
        yield images[begin : begin + size], labels[begin : begin + size]
