import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_free_adv import backends
from keras_free_adv.evaluation.probe import probe
from keras_free_adv.predictions import Predictions, predictions_of
from tests.conftest import outputs_of, small_images, small_network


class Call(keras.layers.Layer):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


class KeepsShape(Call):
    """Says so, or Keras would call it with other batch sizes to find out."""

    def compute_output_shape(self, shape):
        return shape


class Noise(keras.layers.Layer):
    """Noise in inference, too."""

    def __init__(self, stddev, seed=None):
        super().__init__()
        self.stddev = stddev
        self.seed = keras.random.SeedGenerator(0) if seed is None else seed

    def call(self, inputs):
        noise = keras.random.normal(ops.shape(inputs), seed=self.seed)
        return inputs + self.stddev * noise


def one_pixel_network(function, units=2):
    """Logits (-function(x), function(x)) of images of one pixel x."""
    inputs = keras.Input((1,))
    logit = Call(function)(inputs)
    if units == 2:
        logit = ops.concatenate([-logit, logit], axis=-1)
    return keras.Model(inputs, logit)


def look(model, images, labels=None, from_logits="auto"):
    """Labels, unless given, are what the model predicts."""
    view = predictions_of(model, images[:2], from_logits=from_logits)
    if labels is None:
        outputs = outputs_of(model, images)
        one_unit = outputs.shape[-1] == 1
        threshold = 0.5 if view.source == "probabilities" else 0.0
        labels = outputs[:, 0] > threshold if one_unit else outputs.argmax(-1)
    return probe(model, view, images, labels)


def behind(layer, shape=(6, 6, 1)):
    """A small network behind a layer."""
    return keras.Sequential([keras.Input(shape), layer, small_network(shape)])


def test_an_honest_model_and_its_data():
    images, _ = small_images(40)
    images = images * 0.5 + 0.25
    network = small_network()
    outputs = outputs_of(network, images)
    predicted = outputs.argmax(-1)
    labels = predicted.copy()
    labels[:10] = (labels[:10] + 1) % 3  # wrong ten times

    seen = look(network, images, labels)
    assert (seen.source, seen.shape, seen.images) == ("logits", (6, 6, 1), 40)
    assert (seen.lowest_pixel, seen.highest_pixel) == (images.min(), images.max())
    assert seen.most_frequent == np.bincount(labels).max() / 40
    assert seen.predicted_classes == len(set(predicted))
    assert (seen.lowest_output, seen.highest_output) == pytest.approx(
        (outputs.min(), outputs.max()), rel=1e-5
    )
    assert not seen.shares
    assert (seen.moved, seen.correct) == (20, 30)
    assert (seen.random, seen.changed_by_batch) == (0, 0)
    assert (seen.saturated, seen.without_gradient) == (0, 0)


def test_images_are_the_first_128_and_the_share_is_of_all_labels():
    images, _ = small_images(130)
    images[128:] = 5.0
    labels = np.concatenate([np.zeros(130, int), np.ones(270, int)])
    seen = look(small_network(), images, labels)
    assert seen.images == 128
    assert seen.highest_pixel <= 1.0
    assert seen.most_frequent == 270 / 400


@pytest.mark.parametrize("form", ["column", "one_hot"])
def test_other_forms_of_labels(form):
    images, labels = small_images(20)
    network = small_network()
    other = labels[:, None] if form == "column" else np.eye(3)[labels]
    assert look(network, images, other) == look(network, images, labels)


@pytest.mark.parametrize("shape", [(7,), (4, 5), (4, 5, 2), (3, 4, 5, 1)])
def test_any_rank(shape):
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 1, (12, *shape)).astype("float32")
    network = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    seen = look(network, images)
    assert (seen.shape, seen.correct, seen.without_gradient) == (shape, 12, 0)


def test_a_cross_entropy_saturates_where_the_margin_exceeds_the_range_of_floats():
    """Its gradient is a multiple of e^-margin, which float32 has down to e^-87."""
    network = one_pixel_network(lambda x: 200.0 * (x - 0.5))
    # Margins: 40 seven times, 160 thirteen times.
    images = np.array([[0.6]] * 7 + [[0.9]] * 13, "float32")
    seen = look(network, images, from_logits=True)
    assert (seen.correct, seen.saturated, seen.without_gradient) == (20, 13, 0)


def test_a_gradient_that_float16_layers_would_lose_is_scaled():
    """4.5e-5, of the softmax, times 2^-12 is below float16's least, 6e-8."""
    dense = keras.layers.Dense(2, use_bias=False, dtype="mixed_float16")
    network = keras.Sequential([keras.Input((2,)), dense])
    network.set_weights([np.eye(2) * 2.0**-12])
    assert network.compute_dtype == "float32"
    images = np.array([[40960, 0]] * 4, "float32")  # logits 10 and 0
    seen = look(network, images, from_logits=True)
    assert (seen.correct, seen.saturated, seen.without_gradient) == (4, 0, 0)


def test_an_image_that_comes_out_as_nan_is_not_correct():
    network = one_pixel_network(lambda x: ops.where(x > 0.7, np.nan, x - 0.5))
    images = np.array([[0.1]] * 3 + [[0.9]] * 4, "float32")
    seen = look(network, images, labels=np.zeros(7, int), from_logits=True)
    assert seen.correct == 3


def test_a_cross_entropy_saturates_where_its_gradient_is_lost_on_the_way():
    """Small gradients become zero, as in half precision: here of less than 1e-6."""

    @ops.custom_gradient
    def loses_small_gradients(x):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return ops.where(ops.abs(upstream) < 1e-6, 0.0, upstream)

        return ops.copy(x), gradient

    network = one_pixel_network(lambda x: loses_small_gradients(50.0 * (x - 0.5)))
    # Margins: 10 seven times, 40 thirteen times; e^-10 = 5e-5, e^-40 = 4e-18.
    images = np.array([[0.6]] * 7 + [[0.9]] * 13, "float32")
    seen = look(network, images, from_logits=True)
    assert (seen.correct, seen.saturated, seen.without_gradient) == (20, 13, 0)


@pytest.mark.parametrize("hidden", [True, False])
def test_a_probability_of_exactly_one_saturates_unless_it_is_looked_through(hidden):
    """Next to 1, float32 has 1 - 2^-24: e^-margin vanishes from a margin of 17 on.

    TensorFlow rounds 1 to 1 - 2^-24 where it uses AVX2.
    """
    inputs = keras.Input((1,))
    half = 50.0 * (inputs - 0.5)
    outputs = keras.layers.Softmax()(ops.concatenate([-half, half], axis=-1))
    if hidden:
        outputs = keras.layers.Rescaling(1.0)(outputs)
    network = keras.Model(inputs, outputs)
    # Margins: 15 seven times, 40 thirteen times.
    images = np.array([[0.65]] * 7 + [[0.9]] * 13, "float32")
    seen = look(network, images)
    assert seen.source == ("probabilities" if hidden else "softmax_input")
    assert seen.shares == hidden
    assert (seen.saturated, seen.without_gradient) == (13 if hidden else 0, 0)


def test_one_unit_saturates_at_both_ends():
    network = one_pixel_network(lambda x: ops.sigmoid(100 * (x - 0.5)) * 1.0, 1)
    # p is 1 - e^-15 three times, 1 four times; 1 - p is 1 - e^-15 and 1 five times.
    images = np.array([[0.65]] * 3 + [[0.9]] * 4 + [[0.35]] + [[0.1]] * 5, "float32")
    seen = look(network, images, from_logits=False)
    assert (seen.shares, seen.correct, seen.saturated) == (True, 13, 9)


def test_probabilities_taken_for_logits_and_one_number_that_may_be_either():
    images, _ = small_images(12)
    assert look(small_network(softmax=True), images, from_logits=True).shares
    one_unit = one_pixel_network(lambda x: x, 1)
    pixels = np.linspace(0.1, 0.9, 12, dtype="float32")[:, None]
    assert not look(one_unit, pixels, from_logits=True).shares


@ops.custom_gradient
def infinite_gradient(x):
    def gradient(*args, upstream=None):
        return (args[0] if upstream is None else upstream) * float("inf")

    return ops.copy(x), gradient


@pytest.mark.parametrize(
    "blind",
    [
        lambda x: ops.round(4 * x) / 4,  # a gradient of zero
        lambda x: ops.cast(ops.cast(9 * x, "int32"), "float32"),  # None
        pytest.param(
            lambda x: tf.numpy_function(lambda x: x * 1.0, [x], tf.float32),
            marks=pytest.mark.tensorflow_only,
        ),  # None, too
        infinite_gradient,
    ],
    ids=["round", "cast", "numpy", "not_finite"],
)
def test_no_gradient(blind):
    def keeps_shape(x):
        return ops.reshape(blind(x), (-1, 6, 6, 1))

    images, _ = small_images(30)
    seen = look(behind(Call(keeps_shape)), images)
    assert (seen.correct, seen.without_gradient, seen.saturated) == (30, 30, 0)


@pytest.mark.tensorflow_only
def test_an_operation_that_tensorflow_cannot_differentiate():
    images, _ = small_images(10, (6, 6, 3))
    hue = Call(lambda x: tf.raw_ops.AdjustHue(images=x, delta=0.1))
    seen = look(behind(hue, (6, 6, 3)), images)
    assert (seen.correct, seen.without_gradient) == (10, 10)


def test_a_gradient_that_is_missing_for_some():
    network = one_pixel_network(lambda x: ops.relu(x - 0.5) + 0.1)
    # Below 0.5 the logits are constant.
    images = np.array([[0.2]] * 4 + [[0.8]] * 6, "float32")
    assert look(network, images, from_logits=True).without_gradient == 4


def test_noise_is_random_and_layers_that_only_train_with_it_are_not():
    images, _ = small_images(30)
    assert look(behind(Noise(0.01)), images).random == 30
    for layer in (keras.layers.GaussianNoise(0.5), keras.layers.Dropout(0.5)):
        assert look(behind(layer), images).random == 0


def test_noise_that_is_the_same_in_every_pass_depends_on_the_place_in_the_batch():
    images, _ = small_images(30)
    seen = look(behind(Noise(0.1, seed=3)), images)
    assert (seen.random, seen.moved, seen.changed_by_batch) == (0, 15, 15)


def test_the_mean_of_the_batch_changes_with_the_batch():
    images, _ = small_images(30)
    images += np.linspace(0, 1, 30)[:, None, None, None].astype("float32")
    centred = Call(lambda x: x - ops.mean(x, axis=0, keepdims=True))
    seen = look(behind(centred), images)
    assert (seen.random, seen.moved) == (0, 15)
    assert seen.changed_by_batch == 15


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_half_precision_is_neither_random_nor_without_gradient(policy):
    keras.config.set_dtype_policy(policy)
    images, _ = small_images(64)
    seen = look(small_network(softmax=True), images)
    assert (seen.random, seen.changed_by_batch, seen.without_gradient) == (0, 0, 0)
    assert seen.correct >= 60  # two classes can tie


@pytest.mark.parametrize(
    ("policy", "step", "counted"),
    [
        # 8 roundings: 8 * 2^-8 = 3.1% of the range, 8 * 2^-11 = 0.4%; else 0.01%.
        ("bfloat16", 0.025, 0),
        ("bfloat16", 0.1, 4),
        ("float16", 0.002, 0),
        ("float16", 0.01, 4),
        ("float32", 0.00005, 0),
        ("float32", 0.0005, 4),
    ],
)
def test_what_counts_as_rounding(policy, step, counted):
    """Outputs from 0 to 1; in a batch of fewer than 8, each is larger by a step."""

    def with_step(x):
        smaller = ops.shape(x)[0] < 8
        return x + ops.cast(smaller, "float32") * step

    inputs = keras.Input((3,), dtype="float32")
    call = KeepsShape(with_step)
    call.dtype_policy = keras.DTypePolicy("float32")
    model = keras.Model(inputs, call(inputs))
    model.dtype_policy = keras.DTypePolicy(policy)
    images = np.zeros((8, 3), "float32")
    images[:, 0] = 1.0
    seen = probe(model, Predictions("logits", 3), images, np.zeros(8, int))
    assert (seen.moved, seen.changed_by_batch) == (4, counted)


def of_size(size):
    """A network of minibatches of one size only."""

    def check(x):
        if backends.NAME == "tensorflow":
            rows = tf.debugging.assert_equal(tf.shape(x)[0], size)
            with tf.control_dependencies([rows]):
                return tf.identity(x)
        if x.shape[0] != size:
            raise ValueError(f"minibatches of {size} only")
        return x

    return behind(KeepsShape(check))


def test_a_model_that_fails_when_it_is_looked_at_ends_nothing():
    images, _ = small_images(12)
    labels = np.arange(12) % 3
    seen = probe(of_size(13), Predictions("logits", 3), images, labels)
    assert (seen.images, seen.most_frequent) == (12, 1 / 3)
    assert (seen.moved, seen.correct) == (0, 0)


def reshaping(size):
    """The same, by what users write."""
    flat = Call(lambda x: ops.reshape(x, (size, 36)))
    return keras.Sequential([keras.Input((6, 6, 1)), flat, keras.layers.Dense(3)])


@pytest.mark.parametrize("make", [of_size, reshaping])
def test_a_model_of_one_batch_size_is_looked_at(make):
    images, _ = small_images(12)
    network = make(12)
    labels = outputs_of(network, images).argmax(-1)
    labels[:4] = (labels[:4] + 1) % 3
    seen = probe(network, Predictions("logits", 3), images, labels)
    assert (seen.moved, seen.changed_by_batch, seen.correct) == (6, 0, 8)


@pytest.mark.tensorflow_only
def test_no_operation_fails_where_a_graph_shows_the_batch_size():
    """TensorFlow would write of it to the user's console, whatever is caught."""
    program = """
import numpy as np
from keras_free_adv.evaluation.probe import probe
from keras_free_adv.predictions import Predictions
from tests.evaluation.test_probe import reshaping
images = np.random.rand(12, 6, 6, 1).astype("float32")
seen = probe(reshaping(12), Predictions("logits", 3), images, np.arange(12) % 3)
assert seen.moved == 6
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "oneDNN" in ended.stderr or "I0000" in ended.stderr  # it does write
    assert "rendezvous" not in ended.stderr


def test_the_only_class_and_its_labels():
    images, _ = small_images(30)
    network = small_network()
    network.layers[-1].set_weights([np.zeros((64, 3)), np.array([0.0, 0.2, 0.1])])
    labels = np.array([0] * 10 + [1] * 5 + [2] * 15)
    seen = look(network, images[:20], labels)  # ten more than were looked at
    assert (seen.predicted_classes, seen.only_predicted, seen.labels_of_it) == (1, 1, 5)
    assert seen.label_classes == 3
    assert look(network, images, np.full(30, 2)).label_classes == 1
    # NaN is no class.
    network.layers[-1].set_weights([np.zeros((64, 3)), np.full(3, np.nan)])
    assert look(network, images, labels).only_predicted is None
    assert look(small_network(), images, labels).only_predicted is None


def test_a_look_changes_no_variable():
    images, _ = small_images(20)
    network = behind(keras.layers.BatchNormalization())
    before = [ops.convert_to_numpy(v) for v in network.variables]
    look(network, images)
    for old, new in zip(before, network.variables, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))
