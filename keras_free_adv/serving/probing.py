"""Whether a served model is the one that was trained, and as robust."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_free_adv.attacks.pgd_attack import PGDAttack
from keras_free_adv.attacks.square_attack import SquareAttack
from keras_free_adv.serving.agreement import tolerance_of
from keras_free_adv.serving.from_model import served_classifier
from keras_free_adv.serving.signatures import ServedClassifier
from keras_free_adv.serving.tf_serving import RefusedError, Server, ServingError

AT_A_TIME = 64
FLOATS = "clean, float32"

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
    """A server as a Keras model: it returns the server's scores, without gradients.

    Attributes:
        error: why the server did not answer; TensorFlow would tell it as its own.
    """

    def __init__(self, server: Server, classes: int) -> None:
        super().__init__(name="server")
        self.server = server
        self.classes = classes
        self.error: ServingError | None = None

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Probabilities `[B, classes]`."""
        del training
        scores = tf.numpy_function(self._scores, [inputs], tf.float32)
        return tf.ensure_shape(scores, (None, self.classes))

    def _scores(self, images: np.ndarray) -> np.ndarray:
        try:
            return scores(self.server, "serving_default", "images", images)
        except ServingError as error:
            self.error = error
            raise


def in_parts(values: np.ndarray) -> Iterator[np.ndarray]:
    """A few at a time; the last part may be shorter."""
    for begin in range(0, len(values), AT_A_TIME):
        yield values[begin : begin + AT_A_TIME]


def scores(server: Server, signature: str, name: str, values: np.ndarray) -> np.ndarray:
    """The server's probabilities, asked for a few at a time."""
    parts = [
        server.ask(signature, **{name: part})["probabilities"]
        for part in in_parts(values)
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
        answers: the server's probabilities.
    """

    images: str
    keras: float
    server: float
    apart: float
    answers: np.ndarray


def compared(
    name: str, ours: np.ndarray, theirs: np.ndarray, labels: np.ndarray
) -> Row:
    """Keras' probabilities and the server's, side by side.

    Raises:
        ValueError: they are of another number of classes.
    """
    if ours.shape != theirs.shape:
        raise ValueError(
            f"The server answers {theirs.shape[-1]} classes, and the Keras model has "
            f"{ours.shape[-1]}: it serves another model."
        )
    here, there = (float((p.argmax(-1) == labels).mean()) for p in (ours, theirs))
    return Row(name, here, there, float(np.abs(ours - theirs).max()), theirs)


def probe(
    server: Server,
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    white_box: PGDAttack,
    black_box: SquareAttack,
    image_size: int | None,
    tolerance: float | None,
) -> tuple[list[Row], list[str]]:
    """Sends clean images, and adversarial ones unless the clean ones are refused.

    Args:
        server: that is probed.
        model: the Keras model that it should serve.
        images: 8-bit images `[B, height, width, channels]`.
        labels: their classes `[B]`.
        white_box: attack on the Keras model; its `value_range` is the model's.
        black_box: attack on the server.
        image_size: to which the server resizes files; None as in the export.
        tolerance: how far probabilities may be apart; None for that of the export.

    Returns:
        What was measured, and what is wrong.

    Raises:
        ServingError: the server does not answer.
        ValueError: it serves a model of another number of classes.
    """
    low, high = white_box.value_range_for(model)
    classifier = served_classifier(
        model,
        class_names=None,
        image_size=image_size,
        value_range=(low, high),
        from_logits="auto",
    )
    if tolerance is None:
        tolerance = tolerance_of(classifier.network)

    def of_keras(pixels: np.ndarray) -> np.ndarray:
        parts = (tf.constant(part, tf.float32) for part in in_parts(pixels))
        return np.concatenate([classifier.probabilities(part) for part in parts])

    floats = (low + (high - low) * (images / 255.0)).astype("float32")
    rows, refused = [], []
    for name, request, ours in clean_requests(classifier, images, floats, of_keras):
        try:
            theirs = scores(server, *request)
        except RefusedError as error:
            refused.append(f"{name}: {error}")
        else:
            rows.append(compared(name, ours, theirs, labels))
    if refused:
        refused.append(
            "Was the model exported for pixels of another range, for images of another "
            f"size, or not by export_for_serving? Here pixels are of [{low:g}, "
            f"{high:g}], and images {images.shape[1:]}. No attack was tried."
        )
        return rows, refused + doubts(rows, tolerance, floats, of_keras, (low, high))
    remote = ServedModel(server, classifier.view.classes)
    queries = f"{black_box.name} ({black_box.queries} queries)"
    for name, attack, attacked in (
        (f"{white_box.name}, made on the Keras model", white_box, model),
        (f"{queries}, made on the server's scores", black_box, remote),
    ):
        adversarial = attacked_images(attack, attacked, floats, labels)
        theirs = scores(server, "serving_default", "images", adversarial)
        rows.append(compared(name, of_keras(adversarial), theirs, labels))
    return rows, doubts(rows, tolerance, floats, of_keras, (low, high))


def clean_requests(
    classifier: ServedClassifier,
    images: np.ndarray,
    floats: np.ndarray,
    of_keras: Callable[[np.ndarray], np.ndarray],
) -> Iterator[tuple[str, tuple[str, str, np.ndarray], np.ndarray]]:
    """The same images to each signature, and Keras' probabilities of what it takes."""
    expected = of_keras(floats)
    yield FLOATS, ("serving_default", "images", floats), expected
    yield "clean, uint8", ("serve_uint8", "images", images), expected
    files = np.array([tf.io.encode_png(one).numpy() for one in images], object)
    # Files are cropped, where the images of the data set vary in size.
    decode = classifier.signatures()["serve_bytes"]
    parts = [decode(tf.constant(part))["probabilities"] for part in in_parts(files)]
    yield (
        "clean, PNG files",
        ("serve_bytes", "image_bytes", files),
        np.concatenate(parts),
    )


def attacked_images(
    attack: Any, model: keras.Model, images: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Adversarial images, made a few at a time.

    Raises:
        ServingError: the model is a server, and does not answer.
    """
    try:
        found = [
            attack(x, y, model=model)
            for x, y in zip(in_parts(images), in_parts(labels), strict=True)
        ]
    except tf.errors.OpError as error:
        if isinstance(model, ServedModel) and model.error is not None:
            raise model.error from error
        raise
    return np.concatenate(found)


def doubts(
    rows: list[Row],
    tolerance: float,
    floats: np.ndarray,
    of_keras: Callable[[np.ndarray], np.ndarray],
    value_range: tuple[float, float],
) -> list[str]:
    """What is wrong with the answers, in words."""
    wrong = [row for row in rows if not row.apart <= tolerance]  # NaN too
    if not wrong:
        return []
    listed = "; ".join(row.images for row in wrong)
    said = [f"The server and the Keras model answer differently for: {listed}."]
    first = wrong[0]
    if not first.images.startswith("clean"):
        said.append(
            "Clean images agree: does a step before the network round pixels, or "
            "smooth them? Then robustness was measured without it."
        )
        return said
    if first.images != FLOATS and FLOATS in (row.images for row in rows):
        said.append(
            "Float images agree, so the weights are the same: a step before the "
            "network is wrong, that scales or decodes other requests."
        )
    for mistake, change in MISTAKES.items():
        apart = np.abs(of_keras(change(floats, *value_range)) - first.answers).max()
        if apart <= tolerance:
            said.append(
                f"The server answers as the Keras model does for {mistake}: a "
                "preprocessing step is missing, or is done twice."
            )
            return said
    if first.images == FLOATS:
        said.append(
            "No preprocessing mistake that is known here explains it: are these the "
            "same weights, and is this the right version of the model?"
        )
    return said
