"""The file for small devices answers as the model does."""

import keras
import numpy as np
import pytest

from keras_free_adv import ExportDisagreesError, export_for_litert, zoo
from tests.serving.artifacts import (
    colour_images,
    colour_network,
    probabilities,
    trained_model,
)
from tests.serving.test_export_for_serving import Noisy, Subclassed


def answers(path, images):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=path).get_signature_runner()(images=images)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_it_answers_as_keras(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = trained_model()
    keras.config.set_dtype_policy("float32")
    path = export_for_litert(model, tmp_path / "robust.tflite")
    images, _ = colour_images(500, seed=1)
    floats = (images / 255).astype("float32")
    found = answers(path, floats)
    assert list(found) == ["probabilities"]
    assert found["probabilities"].dtype == np.float32
    # The same weights, in a network of float32.
    network = colour_network()
    network.set_weights(model.get_weights())
    np.testing.assert_allclose(
        found["probabilities"], probabilities(network, floats), atol=1e-5
    )


def test_a_network_of_the_zoo(tmp_path):
    network = zoo.preact_resnet18(width=4)
    images = np.random.default_rng(0).uniform(size=(3, 32, 32, 3)).astype("float32")
    path = export_for_litert(network, tmp_path / "a.tflite")
    found = answers(path, images)["probabilities"]
    np.testing.assert_allclose(found, probabilities(network, images), atol=1e-5)


def test_images_of_any_size_become_of_one(tmp_path):
    network = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    with pytest.raises(ValueError, match="`image_size` is needed"):
        export_for_litert(network, tmp_path / "a.tflite")
    path = export_for_litert(network, tmp_path / "a.tflite", image_size=12)
    images = np.random.default_rng(0).uniform(size=(3, 12, 12, 3)).astype("float32")
    found = answers(path, images)["probabilities"]
    np.testing.assert_allclose(found, probabilities(network, images), atol=1e-5)


@keras.saving.register_keras_serializable("tests")
class Offset(keras.layers.Layer):
    """Adds what its configuration does not know."""

    offset = 0.0

    def call(self, inputs):
        numbers = keras.ops.arange(inputs.shape[-1])
        return inputs + self.offset * keras.ops.cast(numbers, inputs.dtype)


def test_a_copy_that_lost_something_is_not_written(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    network = keras.Sequential([colour_network(), Offset()])
    network.layers[-1].offset = 3.0
    with pytest.raises(ExportDisagreesError, match="Nothing was written"):
        export_for_litert(network, tmp_path / "a.tflite")
    assert list(tmp_path.iterdir()) == []


def test_what_answers_otherwise_is_not_written(tmp_path):
    (tmp_path / "a.tflite").write_text("before")
    network = keras.Sequential([colour_network(), Noisy()])
    with pytest.raises(ExportDisagreesError, match="Nothing was written"):
        export_for_litert(network, tmp_path / "a.tflite")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"]


def test_a_subclassed_model_has_to_be_of_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = Subclassed()
    model(colour_images(1)[0] / 255)
    with pytest.raises(ValueError, match="functional or Sequential.*set_weights"):
        export_for_litert(model, tmp_path / "a.tflite")
    keras.config.set_dtype_policy("float32")
    model = Subclassed()
    floats = (colour_images(4)[0] / 255).astype("float32")
    expected = probabilities(model, floats)
    found = answers(export_for_litert(model, tmp_path / "a.tflite"), floats)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
