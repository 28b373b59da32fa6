import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import zoo
from tests.conftest import said_by


def images(count=2, size=32):
    generator = np.random.default_rng(0)
    return generator.uniform(size=(count, size, size, 3)).astype("float32")


def published_number_of_weights(units, width, classes):
    """Of the network of Madry et al. (2018), layer by layer."""
    total, channels = 9 * 3 * 16, 16
    for filters in (16 * width, 32 * width, 64 * width):
        for _ in range(units):
            total += 2 * channels + 9 * channels * filters
            total += 2 * filters + 9 * filters * filters
            channels = filters
    return total + 2 * channels + channels * classes + classes


@pytest.mark.parametrize(("depth", "width"), [(32, 10), (14, 2)])
def test_it_has_the_published_number_of_weights(depth, width):
    model = zoo.wide_resnet(depth, width)
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert trainable == published_number_of_weights((depth - 2) // 6, width, 10)
    if (depth, width) == (32, 10):
        assert 45.8e6 < trainable < 46.0e6  # "46 million parameters"
    assert model.output_shape == (None, 10)


def as_the_authors_write_it(x, weights, units, width):
    """The TensorFlow program of Madry et al., in inference mode, on 0..255 images."""
    weights = iter(weights)

    def batch_norm(x):
        gamma, beta, mean, variance = (next(weights) for _ in range(4))
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)

    def relu(x):
        return tf.where(x < 0.0, 0.1 * x, x)

    def conv(x, stride):
        return tf.nn.conv2d(x, next(weights), stride, "SAME")

    x = tf.map_fn(tf.image.per_image_standardization, x)
    x = conv(x, 1)
    channels = 16
    for stage, filters in enumerate((16 * width, 32 * width, 64 * width)):
        for unit in range(units):
            stride = 2 if stage > 0 and unit == 0 else 1
            if stage == 0 and unit == 0:
                x = relu(batch_norm(x))
                shortcut, y = x, x
            else:
                shortcut, y = x, relu(batch_norm(x))
            y = conv(y, stride)
            y = conv(relu(batch_norm(y)), 1)
            if channels != filters:
                shortcut = tf.nn.avg_pool(shortcut, stride, stride, "VALID")
                pad = (filters - channels) // 2
                shortcut = tf.pad(shortcut, [[0, 0], [0, 0], [0, 0], [pad, pad]])
            x, channels = shortcut + y, filters
    x = relu(batch_norm(x))
    x = tf.reduce_mean(x, axis=[1, 2])
    return x @ next(weights) + next(weights)


@pytest.mark.parametrize("value_range", [(0, 1), (0, 255), (-1, 1)])
def test_it_computes_what_the_authors_program_does(value_range):
    low, high = value_range
    model = zoo.wide_resnet(14, 2, value_range=value_range)
    generator = np.random.default_rng(1)
    for variable in model.weights:  # batch norm too is to be something else than 0, 1
        noise = generator.uniform(0.5, 1.5, variable.shape)
        if len(variable.shape) == 1:
            variable.assign(noise)
    pixels = images(4)
    expected = as_the_authors_write_it(
        255.0 * pixels, in_order_of_use(model), units=2, width=2
    )
    found = model(low + (high - low) * pixels)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def in_order_of_use(model):
    """Weights as the layers are connected, an activation before its convolution."""
    return [w.value for layer in model.layers for w in layer.weights]


def test_an_image_of_one_color_has_a_finite_gradient():
    model = zoo.wide_resnet(8, 1)
    gray = tf.fill((1, 32, 32, 3), 0.5)
    with tf.GradientTape() as tape:
        tape.watch(gray)
        loss = tf.reduce_sum(model(gray)[:, 0])
    assert np.isfinite(tape.gradient(loss, gray)).all()


@pytest.mark.parametrize("depth", [2, 7, 28, 34])
def test_another_depth_is_refused_with_those_there_are(depth):
    with pytest.raises(ValueError, match=rf"`depth`.*6 n \+ 2.*depth={depth}"):
        zoo.wide_resnet(depth, 1)


def test_an_image_that_cannot_be_halved_twice_is_refused():
    with pytest.raises(ValueError, match=r"`input_shape`.*multiples of 4.*30"):
        zoo.wide_resnet(8, 1, input_shape=(30, 32, 3))


def test_other_shapes_and_classes():
    model = zoo.wide_resnet(8, 1, classes=7, input_shape=(16, 24, 1))
    assert model(np.zeros((2, 16, 24, 1), "float32")).shape == (2, 7)


@pytest.mark.parametrize("make", ["wide_resnet(8, 1)", "preact_resnet18(width=4)"])
def test_a_saved_model_is_loaded_where_only_keras_is_installed(tmp_path, make):
    model = eval(f"zoo.{make}")
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images())
    program = textwrap.dedent(
        """
        import sys
        sys.modules["keras_free_adv"] = None  # an import of it fails
        import keras, numpy as np
        model = keras.models.load_model(sys.argv[1] + "/model.keras")
        logits = model(np.load(sys.argv[1] + "/images.npy"))
        np.save(sys.argv[1] + "/logits.npy", logits)
        """
    )
    said_by(program, tmp_path, forks=False)
    np.testing.assert_allclose(
        np.load(tmp_path / "logits.npy"), model(images()), rtol=1e-5, atol=1e-5
    )
    loaded = keras.models.load_model(tmp_path / "model.keras")
    kinds = {type(layer) for layer in loaded.layers}
    assert keras.layers.BatchNormalization in kinds
    fused = zoo.fused(loaded)
    kinds = {type(layer) for layer in fused.layers}
    assert keras.layers.BatchNormalization not in kinds
    assert zoo.FusedBatchNormalization in kinds
    np.testing.assert_array_equal(fused(images()), model(images()))
