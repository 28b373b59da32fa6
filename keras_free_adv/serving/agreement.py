"""Checks that an artifact gives the same answers as the Keras model."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from keras_free_adv import logits
from keras_free_adv.attacks.loss_scale import compute_dtypes
from keras_free_adv.distribution.workers import replica_count, strategy_of
from keras_free_adv.serving.signatures import ServedClassifier

# The largest difference allowed between probabilities. Only the order of sums differs
# between the graph and the eager model, which matters in half precision.
TOLERANCE = 1e-3
HALF_PRECISION_TOLERANCE = 5e-2


class ExportDisagreesError(RuntimeError):
    """An exported artifact gives other answers than the model."""


def tolerance_of(network: keras.Model) -> float:
    """The largest difference allowed between probabilities of this network."""
    whole = set(compute_dtypes(network)) <= {"float32", "float64"}
    return TOLERANCE if whole else HALF_PRECISION_TOLERANCE


def sample_requests(
    served: ServedClassifier, images: int
) -> dict[str, list[dict[str, Any]]]:
    """Makes requests to each signature: random pixels, and images of one color.

    Encoded images have the size of the result, or other sizes.
    """
    random = np.random.default_rng(0)
    height, width, channels = (
        given if given is not None else size
        for given, size in zip(served.input_shape, (*served.image_size, 0), strict=True)
    )
    shape = (images, height, width, channels)
    pixels = random.integers(0, 256, shape, dtype="uint8")
    pixels[0] = np.linspace(0, 255, height * width * channels).reshape(shape[1:])
    if images > 2:
        pixels[1:3] = np.array([0, 255])[:, None, None, None]
    low, high = served.value_range
    floats = (low + (high - low) * (pixels / 255.0)).astype("float32")
    files = []
    for number, image in enumerate(pixels):
        larger = np.pad(image, [(0, 3 * number), (0, 5 * number), (0, 0)], "reflect")
        encode = tf.io.encode_png if number % 2 else tf.io.encode_jpeg
        files.append(encode(larger).numpy())
    return {
        "serving_default": [{"images": floats}],
        "serve_uint8": [{"images": pixels}],
        "serve_bytes": [{"image_bytes": np.array(files, object)}],
    }


def predicted(served: ServedClassifier, pixels: np.ndarray) -> np.ndarray:
    """Probabilities `[B, classes]` of the model's own `predict`.

    No exported code is used: NumPy scales the pixels, and turns logits into
    probabilities. Under a MirroredStrategy the model is called: each device may have
    moving statistics of its own, and those of the first are exported.

    Args:
        served: the classifier.
        pixels: `[B, height, width, channels]`, uint8.
    """
    low, high = served.value_range
    images = (low + (high - low) * (pixels / 255.0)).astype("float32")
    declared = getattr(served.network, "input", None)
    if isinstance(declared, (dict, list, tuple)):
        images = tree.pack_sequence_as(declared, [images])
    (outputs,) = tree.flatten(_predict_or_call(served.network, images))
    outputs = np.asarray(outputs, "float64").reshape(len(pixels), -1)
    if served.view.source == logits.LOGITS:
        if served.view.independent:
            return 1.0 / (1.0 + np.exp(-outputs))
        if served.view.one_unit:
            outputs = np.concatenate([np.zeros_like(outputs), outputs], axis=-1)
        outputs = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        return outputs / outputs.sum(axis=-1, keepdims=True)
    if served.view.one_unit:
        outputs = np.concatenate([1.0 - outputs, outputs], axis=-1)
    return outputs


def _predict_or_call(network: Any, images: Any) -> Any:
    if replica_count(strategy_of(network)) > 1:
        return network(images, training=False)
    rows = len(tree.flatten(images)[0])
    return network.predict(images, batch_size=rows, verbose=0)


def check_agreement(folder: Path, served: ServedClassifier) -> None:
    """Loads an artifact, and compares its answers with the model's `predict`.

    `predict` does not take image files: for those the code is run eagerly.

    Raises:
        ExportDisagreesError: the answers differ, or depend on how images are batched.
    """
    loaded = tf.saved_model.load(str(folder))
    tolerance = tolerance_of(served.network)
    eager = {
        "serving_default": served.of_floats,
        "serve_uint8": served.of_uint8,
        "serve_bytes": served.of_files,
    }
    requests = sample_requests(served, images=4)
    by_keras = predicted(served, requests["serve_uint8"][0]["images"])
    for signature, (request,) in requests.items():
        function = loaded.signatures[signature]
        tensors = {name: tf.constant(value) for name, value in request.items()}
        found = function(**tensors)
        expected = eager[signature](*tensors.values())
        if signature != "serve_bytes":
            expected["probabilities"] = tf.constant(by_keras, tf.float32)
        single = function(**{name: value[:1] for name, value in tensors.items()})
        _check_equal(found, expected, signature, tolerance, "the model")
        expected = {name: value[:1] for name, value in expected.items()}
        _check_equal(single, expected, signature, tolerance, "the model, for one image")


def _check_equal(
    found: dict[str, Any],
    expected: dict[str, Any],
    signature: str,
    tolerance: float,
    reference: str,
) -> None:
    probabilities = found["probabilities"].numpy()
    wanted = expected["probabilities"].numpy()
    if not np.isfinite(wanted).all():
        raise ExportDisagreesError(
            "The model itself answers NaN: nothing was published. Are its weights "
            "finite? Export the last good ones."
        )
    apart = np.abs(probabilities - wanted).max()
    if not apart <= tolerance:  # NaN too
        raise ExportDisagreesError(
            f"The signature {signature!r} of the exported artifact answers other "
            f"probabilities than {reference}: they are {apart:.2g} apart, of at most "
            f"{tolerance:g}. Nothing was published. Is there a layer that draws random "
            "numbers or changes its state when training=False?"
        )
    ids = found["class_ids"].numpy()
    by_id = np.take_along_axis(probabilities, ids, axis=-1)
    best = -np.sort(-probabilities, axis=-1)[:, : ids.shape[1]]
    same = np.array_equal(by_id, best) and np.array_equal(
        found["top_probabilities"].numpy(), best
    )
    if not same or set(found) != set(expected):
        raise ExportDisagreesError(
            f"The signature {signature!r} of the exported artifact names other classes "
            f"than {reference}. Nothing was published."
        )
