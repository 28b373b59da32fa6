"""Exports a trained model to a file for phones and small devices."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_free_adv import files
from keras_free_adv.attacks.loss_scale import compute_dtypes
from keras_free_adv.serving.agreement import (
    ExportDisagreesError,
    predicted,
    sample_requests,
    tolerance_of,
)
from keras_free_adv.serving.backend import require_tensorflow_to_export
from keras_free_adv.serving.from_model import served_classifier
from keras_free_adv.serving.signatures import ServedClassifier

ENDING = ".tflite"


def export_for_litert(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    image_size: int | None = None,
    value_range: tuple[float, float] | None = None,
    from_logits: bool | str = "auto",
    predicts: str = "auto",
) -> str:
    """Writes a classifier for LiteRT (once TensorFlow Lite), in float32.

    Its one signature, `serving_default`, takes `images`, float32 `[B, height, width,
    channels]` in `value_range`, and returns `probabilities`, `[B, classes]`. A model of
    mixed precision becomes one of float32 with the same weights. The file is run and
    compared with the model before it replaces `path`.

    Args:
        model: a built classifier, as for `export_for_serving`.
        path: path of the file; its name ends with ".tflite".
        image_size: height and width of the images that the file takes, for a model
            whose images vary in size.
        value_range: lowest and highest pixel value; None for that of the adversarial
            training, or that of a plain model's first layers, else (0, 1); see
            `keras_free_adv.pixel_scale`.
        from_logits: whether the model's outputs are logits; "auto" finds out.
        predicts: "class" (probabilities with the sum 1) or "labels" (one for each of
            several labels); "auto" decides from outputs and compiled loss.

    Returns:
        The path.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
        TypeError, ValueError: an argument is wrong, or the model is of mixed precision
            and neither functional nor Sequential.
        ImportError: the extra `litert` is not installed.
        OSError: the file cannot be written; an earlier file is untouched.
        ExportDisagreesError: the file gives other answers than the model.

    Example:
    >>> import tempfile
    >>> from keras_free_adv import zoo
    >>> network = zoo.small_cnn(classes=10, input_shape=(8, 8, 1))
    >>> path = export_for_litert(network, tempfile.mkdtemp() + "/model.tflite")
    """
    require_tensorflow_to_export("export_for_litert")
    _interpreter()
    if not isinstance(path, (str, os.PathLike)) or Path(path).suffix != ENDING:
        raise ValueError(
            f"Argument `path` must be a path that ends with {ENDING!r}. Received: "
            f"path={path!r}."
        )
    served = served_classifier(
        model,
        class_names=None,
        image_size=image_size,
        value_range=value_range,
        from_logits=from_logits,
        predicts=predicts,
    )
    shape = (*served.image_size, served.input_shape[-1])
    served = dataclasses.replace(served, input_shape=shape)
    converted = dataclasses.replace(served, network=in_float32(served.network))
    with files.atomic_write(path) as beside:
        beside.write_bytes(_converted(converted))
        _check(beside, served)
    return str(path)


def in_float32(network: keras.Model) -> keras.Model:
    """Returns the network, or a copy of it that computes in float32.

    Raises:
        ValueError: a copy is needed, and impossible.
    """
    if set(compute_dtypes(network)) <= {"float32"}:
        return network
    try:
        copy = keras.models.clone_model(
            network, clone_function=_layer_in_float32, recursive=True
        )
    except ValueError as error:
        raise ValueError(
            "Argument `model` must be a functional or Sequential model, or compute in "
            f"float32. Received: {type(network).__name__} of "
            f"{network.dtype_policy.name}. Build it under the policy 'float32', and "
            "give it these weights with set_weights."
        ) from error
    copy.set_weights(network.get_weights())
    return copy


def _layer_in_float32(layer: Any) -> Any:
    return type(layer).from_config({**layer.get_config(), "dtype": "float32"})


def _converted(served: ServedClassifier) -> bytes:
    images = tf.TensorSpec((None, *served.input_shape), name="images")

    @tf.function(input_signature=[images], autograph=False)
    def answers(images: Any) -> dict[str, Any]:
        return {"probabilities": served.probabilities(images)}

    module = tf.Module()
    module.variables_used = [one.value for one in served.network.variables]
    return tf.lite.TFLiteConverter.from_concrete_functions(
        [answers.get_concrete_function()], module
    ).convert()


def _check(file: Path, served: ServedClassifier) -> None:
    """Compares the file with the model in its own precision."""
    requests = sample_requests(served, images=4)
    images = requests["serving_default"][0]["images"]
    tolerance = tolerance_of(served.network)
    run = _interpreter()(model_path=str(file)).get_signature_runner()
    for _ in range(2):  # random numbers may agree once
        expected = predicted(served, requests["serve_uint8"][0]["images"])
        apart = np.abs(run(images=images)["probabilities"] - expected).max()
        if not apart <= tolerance:  # NaN too
            raise ExportDisagreesError(
                "The file answers other probabilities than the model: they are "
                f"{apart:.2g} apart, of at most {tolerance:g}. Nothing was written. Is "
                "there a layer that draws random numbers or changes its state when "
                "training=False?"
            )


def _interpreter() -> Callable:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            "export_for_litert needs ai-edge-litert, to test the file. Install it "
            'with: pip install "keras_free_adv[litert]"'
        ) from error
    return Interpreter
