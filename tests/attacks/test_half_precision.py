"""Which layers of a model a search computes in half precision, and for how long."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_free_adv import FreeAdversarialModel, zoo
from keras_free_adv.attacks.half_precision import computing_in, inner_layers


def names(model):
    return [layer.name for layer in inner_layers(model)]


def dtype_of(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)


def stack(*more, cls=layers.Dense):
    return keras.Sequential(
        [keras.Input((6,)), *more, cls(3, name="logits"), layers.Softmax(name="last")]
    )


def test_what_sees_images_and_what_makes_logits_stays_as_it_is():
    model = stack(
        layers.Rescaling(2.0, name="pixels"),
        layers.BatchNormalization(name="scales"),
        layers.Dense(4, name="first"),
        layers.ReLU(name="a"),
        layers.Dense(4, name="b"),
        layers.LayerNormalization(name="c"),
    )
    assert names(model) == ["a", "b", "c"]


def test_paths_that_part_and_meet_again():
    image = keras.Input((8,), name="image")
    one = layers.Dense(4, name="left")(image)
    other = layers.Dense(4, name="right")(layers.Rescaling(1.0, name="pixels")(image))
    both = layers.Add(name="both")([one, other])
    # A way around all weights: what adds the image sees it.
    around = layers.Concatenate(name="around")([both, image])
    inner = layers.Dense(4, name="inner")(around)
    scores = layers.Dense(3, name="scores")(layers.ReLU(name="relu")(inner))
    more = layers.Dense(3, name="more")(inner)
    model = keras.Model(image, layers.Add(name="sum")([scores, more]))
    # `around` sees the image, and so does the first matrix after it.
    assert names(model) == ["both", "relu"]


def test_scales_of_each_pixel_and_scales_with_axes_of_one_are_no_matrix():
    pixels = layers.Normalization(axis=(1,), name="pixels")
    pixels.adapt(np.random.default_rng(0).uniform(0, 1, (9, 6)).astype("float32"))
    model = keras.Sequential(
        [
            keras.Input((6,)),
            pixels,
            layers.Dense(4, name="first"),
            layers.Dense(4, name="inner"),
            layers.Dense(3, name="logits"),
            layers.EinsumDense("ab,bb->ab", (3,), name="temperature"),
        ]
    )
    temperature = model.get_layer("temperature")
    assert [w.shape for w in temperature.weights] == [(3, 3)]  # that one mixes
    assert names(model) == ["inner", "logits"]
    scaled = keras.Sequential([keras.Input((6,)), *model.layers[:-1], OneScale()])
    assert names(scaled) == ["inner"]


class OneScale(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(1, 1), initializer="ones")

    def call(self, logits):
        return logits * self.scale


def test_a_first_layer_that_another_one_holds_too_stays_as_it_is():
    first = layers.Dense(6, name="first")

    class Tied(layers.Layer):
        def __init__(self):
            super().__init__(name="tied")
            self.first, self.own = first, layers.Dense(6, name="own")

        def call(self, x):
            return self.own(self.first(x))

    image = keras.Input((6,))
    model = keras.Model(image, layers.Dense(3)(Tied()(first(image))))
    assert names(model) == ["tied", "own"]


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
def test_a_model_within_that_is_called_with_a_mask():
    body = keras.Sequential([keras.Input((4, 6)), layers.Dense(6, name="inside")])
    image, mask = keras.Input((4, 6)), keras.Input((4,), dtype="bool")
    after = body(layers.Dense(6, name="first")(image), mask=mask)
    model = keras.Model([image, mask], layers.Dense(3)(layers.Flatten()(after)))
    assert "first" not in names(model)


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_models_within_models_are_entered(kind):
    inside = [layers.Dense(4, name="first"), layers.Dense(4, name="second")]
    if kind == "sequential":
        body = keras.Sequential(inside)
    else:
        begin = keras.Input((6,))
        body = keras.Model(begin, inside[1](inside[0](begin)))
    head = keras.Sequential([layers.Dense(4, name="third"), layers.Dense(3)])
    image = keras.Input((6,))
    model = keras.Model(image, head(body(image)))
    assert sorted(names(model)) == ["second", "third"]
    wrapped = FreeAdversarialModel(model, epsilon=0.1)
    assert sorted(names(wrapped)) == ["second", "third"]


def test_the_zoo_keeps_its_first_convolution_and_its_logits():
    model = zoo.preact_resnet18(width=4)
    inner = names(model)
    kept = [layer.name for layer in model.layers if layer.name not in inner]
    convolutions = [x for x in model.layers if isinstance(x, layers.Conv2D)]
    assert {convolutions[0].name, "logits"} <= set(kept)
    assert not set(kept) & {one.name for one in convolutions[1:]}


class InPython(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


def test_what_cannot_be_done_is_refused():
    with pytest.raises(
        ValueError, match="'float32' for a model whose `call` is Python"
    ):
        inner_layers(InPython())
    linear = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="no layer can be given another dtype"):
        inner_layers(linear)

    class Own(keras.Sequential):
        def call(self, x, **kwargs):
            return super().call(x, **kwargs)

    with pytest.raises(ValueError, match="a model whose `call` is Python"):
        inner_layers(Own([keras.Input((6,)), layers.Dense(3)]))


def test_layers_with_a_policy_of_their_own_are_left_alone():
    model = stack(
        layers.Dense(4),
        layers.Dense(4, name="wide"),
        layers.Dense(4, name="half", dtype="mixed_bfloat16"),
        layers.Dense(4, name="double", dtype="float64"),
        layers.Dense(
            4, name="old", dtype=keras.dtype_policies.FloatDTypePolicy("float32")
        ),
    )
    assert names(model) == ["wide", "old"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_layers_compute_in_half_precision_within(dtype):
    attention = layers.MultiHeadAttention(2, 4, name="attention")
    image = keras.Input((4, 6))
    first = layers.Dense(6)(image)
    attended = attention(first, first)
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(attended)))
    images = np.random.default_rng(0).uniform(0, 1, (5, 4, 6)).astype("float32")
    before = ops.convert_to_numpy(model(images))
    weights = [w.dtype for w in model.weights]
    with computing_in(inner_layers(model), dtype):
        half = model(images)
        assert attention.compute_dtype == dtype
        assert dtype_of(attention(images, images)) == dtype
    assert dtype_of(half) == "float32"
    error = np.abs(ops.convert_to_numpy(half) - before).max()
    assert 0 < error < 0.05 * np.abs(before).max()
    np.testing.assert_array_equal(ops.convert_to_numpy(model(images)), before)
    assert [w.dtype for w in model.weights] == weights
    assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}


def test_an_error_within_leaves_float32_behind():
    model = stack(layers.Dense(4), layers.Dense(4, name="inner"))
    with pytest.raises(KeyError), computing_in(inner_layers(model), "bfloat16"):
        raise KeyError
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
