"""Data that Keras trains on as it is, and that is taken as Keras takes it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_free_adv import FreeAdversarialModel, PGDAdversarialModel, backends
from tests.conftest import from_logits, small_images


def free(model, **kwargs):
    # So small a ball changes no loss that is compared.
    return FreeAdversarialModel(model, 1e-7, replays=1, **kwargs)


HALVES = np.tile([0.1, 0.9], 10)
CLASS_WEIGHTS = {
    "labels that are not whole": (1, "mse", HALVES, {0: 1.0, 1: 10.0}),
    "labels at one half": (1, "mse", np.tile([0.5, 1.5], 10), {0: 2.0, 1: 5.0, 2: 7.0}),
    "labels of a hinge loss": (1, "hinge", np.tile([-1.0, 1.0], 10), {1: 4.0}),
    "a weight of -1": (1, "hinge", np.tile([-1, 1], 10), {-1: 3.0, 1: 4.0}),
    "ignored labels": (
        3,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1),
        np.tile([-1, 0, 1, 2], 5),
        {0: 2.0, 2: 5.0},
    ),
    "smoothed one-hot rows": (
        3,
        keras.losses.CategoricalCrossentropy(from_logits=True),
        (0.8 * np.eye(3) + 0.2 / 3)[np.arange(20) % 3],
        {1: 4.0},
    ),
    "a column": (1, "mse", HALVES[:, None], {1: 10.0}),
}


@pytest.mark.parametrize("kind", CLASS_WEIGHTS)
def test_class_weights_are_keras_own(kind):
    units, loss, labels, class_weight = CLASS_WEIGHTS[kind]
    images, _ = small_images(20)

    def loss_of(wrap):
        keras.utils.set_random_seed(0)
        network = [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(units)]
        model = wrap(keras.Sequential(network))
        model.compile(keras.optimizers.SGD(0.0), loss)
        weighted = {"batch_size": 20, "class_weight": class_weight, "verbose": 0}
        return model.fit(images, labels, **weighted).history["loss"][0]

    assert loss_of(free) == pytest.approx(loss_of(lambda model: model), rel=1e-5)


def test_class_weights_of_labels_that_are_not_whole_by_hand():
    # Probabilities of one half: each cross-entropy is log 2. Ten labels of 0.1 weigh
    # 1, ten of 0.9 weigh 10: log 2 * (10 * 1 + 10 * 10) / 20 = 5.5 log 2.
    last = layers.Dense(1, activation="sigmoid", kernel_initializer="zeros")
    model = free(keras.Sequential([keras.Input((4,)), last]))
    model.compile(keras.optimizers.SGD(0.0), "binary_crossentropy")
    weights = {"batch_size": 20, "class_weight": {0: 1.0, 1: 10.0}, "verbose": 0}
    history = model.fit(np.full((20, 4), 0.5), HALVES, **weights)
    assert history.history["loss"][0] == pytest.approx(5.5 * np.log(2), rel=1e-5)


# Keras warns of a dict whose inputs have other names, and trains.
@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict:UserWarning")
@pytest.mark.parametrize("perturbed_input", ["image", "the tensor's name"])
def test_inputs_without_names_are_known_by_the_keys_of_their_dict(
    perturbed_input, tmp_path
):
    extra, image = keras.Input((2,)), keras.Input((6, 6, 1))
    joined = layers.Concatenate()([layers.Flatten()(image), extra])
    network = keras.Model({"image": image, "extra": extra}, layers.Dense(3)(joined))
    perturbed_input = image.name if perturbed_input != "image" else perturbed_input
    model = FreeAdversarialModel(
        network, 0.1, replays=2, perturbed_input=perturbed_input
    )
    model.compile("sgd", from_logits())
    images, labels = small_images(8)
    data = {"image": images, "extra": np.full((8, 2), 50.0, "float32")}
    model.fit(data, labels, epochs=2, verbose=0)
    assert model.delta.shape == (1, 8, 6, 6, 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.fit(data, labels, epochs=2, verbose=0)
    assert loaded.delta.shape == (1, 8, 6, 6, 1)


def test_a_name_that_keras_made_up_is_found_again_in_a_file(tmp_path):
    image, extra = keras.Input((6, 6, 1)), keras.Input((2,))
    joined = layers.Concatenate()([layers.Flatten()(image), extra])
    network = keras.Model([extra, image], layers.Dense(3)(joined))
    assert image.name.startswith("keras_tensor")
    model = FreeAdversarialModel(network, 0.1, perturbed_input=image.name)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    # The second input, and its name in the file.
    assert loaded.perturbed_input == loaded.model.inputs[1].name
    assert loaded.model.inputs[1].shape == (None, 6, 6, 1)


class Added(layers.Layer):
    def call(self, x, more=None):
        return x if more is None else x + more


def in_a_py_dataset(x, y):
    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, i):
            return x, y

    return Data()


def in_a_dataset(x, y):
    """Its None is put in by `map`, as from_tensor_slices cannot hold one."""
    present = [leaf for leaf in keras.tree.flatten((x, y)) if leaf is not None]

    def whole(*leaves):
        left = iter(leaves)
        return keras.tree.map_structure(
            lambda leaf: None if leaf is None else next(left), (x, y)
        )

    return tf.data.Dataset.from_tensors(tuple(present)).map(whole)


SOURCES = {
    "arrays": lambda x, y: (x, y),
    "PyDataset": lambda x, y: (in_a_py_dataset(x, y), None),
    "dataset": lambda x, y: (in_a_dataset(x, y), None),
}


def check_as_keras(network, loss, source, x, y, **settings):
    """Trains a network on what `source` makes of arrays, Keras' own on the arrays."""

    def weights_of(wrap, x, y):
        keras.utils.set_random_seed(0)
        model = wrap(network())
        model.compile("sgd", loss)
        model.fit(x, y, batch_size=8, epochs=2, verbose=0)
        return model.get_weights()

    # Keras itself does not take None from a PyDataset.
    plain = weights_of(lambda model: model, x, y)
    ours = weights_of(lambda model: free(model, **settings), *SOURCES[source](x, y))
    for one, other in zip(ours, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("source", SOURCES)
def test_an_optional_input_may_be_none(source):
    def network():
        image = keras.Input((6, 6, 1), name="image")
        extra = keras.Input((36,), name="extra", optional=True)
        outputs = layers.Dense(3)(Added()(layers.Flatten()(image), extra))
        return keras.Model({"image": image, "extra": extra}, outputs)

    images, labels = small_images(8)
    x = {"image": images, "extra": None}
    check_as_keras(network, from_logits(), source, x, labels, perturbed_input="image")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")
def test_an_output_without_a_loss_may_have_no_label(source):
    def network():
        inputs = keras.Input((6, 6, 1))
        flat = layers.Flatten()(inputs)
        outputs = [layers.Dense(3, name=name)(flat) for name in ("a", "b")]
        return keras.Model(inputs, outputs)

    images, labels = small_images(8)
    loss = [from_logits(), None]
    check_as_keras(network, loss, source, images, (labels, None))


class Endless(keras.utils.PyDataset):
    """Notes its epochs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = []

    @property
    def num_batches(self):
        return None

    def __getitem__(self, i):
        return small_images(4, seed=i)

    def on_epoch_begin(self):
        self.calls.append("begin")

    def on_epoch_end(self):
        self.calls.append("end")


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
def test_a_py_dataset_without_end_is_told_of_the_epochs_of_fit():
    def calls(wrap):
        network = [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(3)]
        model, data = wrap(keras.Sequential(network)), Endless()
        model.compile("sgd", from_logits())
        model.fit(data, epochs=3, steps_per_epoch=2, verbose=0)
        return data.calls

    if backends.NAME == "tensorflow":
        # Keras also ends an epoch, which never began, before the first.
        assert calls(lambda model: model) == ["end", *["begin", "end"] * 3]
    assert calls(free) == ["begin", "end"] * 3


def of_sizes(*sizes):
    """Minibatches of four images, each of another size."""
    spec = (tf.TensorSpec((None, None, None, 1)), tf.TensorSpec((None,), tf.int64))
    return tf.data.Dataset.from_generator(
        lambda: (small_images(4, (size, size, 1)) for size in sizes),
        output_signature=spec,
    )


def of_any_size():
    pooled = [layers.GlobalAveragePooling2D(), layers.Dense(3)]
    return keras.Sequential([keras.Input((None, None, 1)), *pooled])


@pytest.mark.parametrize("first", [1, 6])
def test_delta_is_never_spread_over_images_of_another_size(first):
    """Of the third minibatch nothing is known before it is read."""

    def model():
        keras.utils.set_random_seed(0)
        model = FreeAdversarialModel(of_any_size(), 0.1, replays=1)
        model.compile("sgd", from_logits())
        return model

    one, other = model(), model()
    one.fit(of_sizes(first, first), steps_per_epoch=2, verbose=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="images of one size"):
        other.fit(of_sizes(first, first, 8), steps_per_epoch=3, verbose=0)
    for before, after in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_k_pgd_keeps_no_delta_and_trains_on_any_sizes(norm):
    model = PGDAdversarialModel(of_any_size(), 0.1, steps=1, norm=norm)
    model.compile("sgd", from_logits())
    model.fit(of_sizes(5, 8, 6), epochs=2, steps_per_epoch=3, verbose=0)
    assert int(model.optimizer.iterations) == 6
