"""The signatures of a served classifier."""

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras import tree

from keras_free_adv import logits
from keras_free_adv.predictions import Predictions
from keras_free_adv.serving.encoded_images import decoded_images
from keras_free_adv.serving.request_checks import checked_files, checked_images

# The number of likeliest classes in an answer.
TOP = 5


def call_with_images(network: keras.Model, images: Any) -> Any:
    """Calls a network, which may take its images in a dict or a list of one."""
    declared = getattr(network, "input", None)
    if isinstance(declared, (dict, list, tuple)):
        images = tree.pack_sequence_as(declared, [images])
    return logits.call_in_inference_mode(network, images)


@dataclass(frozen=True)
class ServedClassifier:
    """A classifier for clients.

    Attributes:
        network: the Keras model.
        view: the interpretation of its outputs.
        class_names: names of the classes, in the order of their numbers.
        input_shape: shape of its images; None for a height and width that vary.
        value_range: range of its pixels.
        image_size: height and width to resize encoded images to.
        margin: see `decoded_images`.
    """

    network: keras.Model
    view: Predictions
    class_names: tuple[str, ...]
    input_shape: tuple[int | None, int | None, int]
    value_range: tuple[float, float]
    image_size: tuple[int, int]
    margin: float

    def signatures(self) -> dict[str, Any]:
        """Returns signature names and functions, the default first."""
        pixels = (None, *self.input_shape)
        specs = {
            "serving_default": (self.of_floats, tf.TensorSpec(pixels, name="images")),
            "serve_uint8": (
                self.of_uint8,
                tf.TensorSpec(pixels, tf.uint8, name="images"),
            ),
            "serve_bytes": (
                self.of_files,
                tf.TensorSpec((None,), tf.string, name="image_bytes"),
            ),
        }
        return {
            name: tf.function(function, input_signature=[spec], autograph=False)
            for name, (function, spec) in specs.items()
        }

    def of_floats(self, images: Any) -> dict[str, Any]:
        """Classifies images `[B, height, width, channels]` in `value_range`."""
        images = checked_images(images, "images", self.input_shape, self.value_range)
        return self.answers(images)

    def of_uint8(self, images: Any) -> dict[str, Any]:
        """Classifies 8-bit images, from 0 to 255 whatever `value_range` is."""
        images = checked_images(images, "images", self.input_shape)
        return self.answers(self.scaled(tf.cast(images, tf.float32) / 255.0))

    def of_files(self, image_bytes: Any) -> dict[str, Any]:
        """Classifies JPEG and PNG files `[B]`."""
        files = checked_files(image_bytes, "image_bytes")
        images = decoded_images(
            files,
            "image_bytes",
            self.image_size,
            channels=self.input_shape[-1],
            margin=self.margin,
        )
        return self.answers(self.scaled(images))

    def scaled(self, images: Any) -> Any:
        """Rescales pixels from [0, 1] to `value_range`."""
        low, high = self.value_range
        return images if (low, high) == (0.0, 1.0) else low + (high - low) * images

    def answers(self, images: Any) -> dict[str, Any]:
        """The outputs for checked images."""
        probabilities = self.probabilities(images)
        top, ids = tf.math.top_k(probabilities, min(TOP, len(self.class_names)))
        return {
            "probabilities": probabilities,
            "top_probabilities": top,
            "class_ids": tf.cast(ids, tf.int64),
            "class_names": tf.gather(tf.constant(self.class_names), ids),
        }

    def probabilities(self, images: Any) -> Any:
        """Probabilities `[B, classes]`, float32; the network's own, if it returns them.

        Those of labels that are not exclusive need not have the sum 1.
        """
        return self.view.probabilities(call_with_images(self.network, images))
