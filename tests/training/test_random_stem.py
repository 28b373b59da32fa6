"""Random preprocessing layers at the input of a model are applied to the data."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import (
    BackupAndRestore,
    FreeAdversarialModel,
    PGDAdversarialModel,
    TRADESModel,
    replay,
)
from tests.conftest import from_logits, small_images, tell

L = keras.layers
IMAGES, LABELS = small_images(24)
PIXELS = np.round(255 * IMAGES)
TRAINERS = {
    "free": lambda network, *args, **kwargs: FreeAdversarialModel(
        network, *args, replays=2, **kwargs
    ),
    "pgd": lambda network, *args, **kwargs: PGDAdversarialModel(
        network, *args, steps=2, **kwargs
    ),
    "trades": lambda network, *args, **kwargs: TRADESModel(
        network, *args, steps=2, **kwargs
    ),
}


def body():
    """What is behind the stem, with the same weights each time."""
    keras.utils.set_random_seed(5)
    return [L.Conv2D(3, 3, activation="tanh"), L.Flatten(), L.Dense(3)]


def plain(*layers):
    return keras.Sequential([keras.Input((6, 6, 1)), *layers])


def trained(method, network, data, epsilon=0.1, epochs=4, **settings):
    keras.utils.set_random_seed(1)
    model = TRAINERS[method](network, epsilon, **settings)
    model.compile(keras.optimizers.SGD(0.05), from_logits())
    model.fit(*data, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return model


def assert_equal_training(found, expected):
    for one, other in zip(
        found.trainable_weights, expected.trainable_weights, strict=True
    ):
        np.testing.assert_allclose(one, other, atol=2e-6)
    if hasattr(found, "delta"):
        np.testing.assert_allclose(found.delta, expected.delta, atol=1e-5)


# Stems whose factors leave nothing to chance, so that x' is known: shifts by a pixel,
# more light. Each gives the model, its rest as plain Keras, x', and settings.


def down():
    return L.RandomTranslation((1 / 6, 1 / 6), (0, 0), fill_mode="constant")


def right():
    return L.RandomTranslation((0, 0), (1 / 6, 1 / 6), fill_mode="constant")


def shifted(images):
    """Down and to the right, by a pixel each."""
    moved = np.zeros_like(images)
    moved[:, 1:, 1:] = images[:, :-1, :-1]
    return moved


def sequential():
    network = plain(down(), right(), *body())
    return network, plain(*body()), shifted(IMAGES), {}


def lighter_behind_a_rescaling():
    """x' is in the user's units, and clipped to the user's range."""
    # Numbers that floats hold exactly: rounding would tip signs of gradients.
    light = L.RandomBrightness((0.25, 0.25), value_range=(-1, 1))
    stem = [L.Rescaling(1 / 128, -1), light]
    network = plain(*stem, *body())
    augmented = np.clip(PIXELS + 64, 0, 255)  # a down of the width of (-1, 1)
    settings = {"epsilon": 16.0, "value_range": (0, 255), "images": PIXELS}
    return network, plain(L.Rescaling(1 / 128, -1), *body()), augmented, settings


def normalized_in_between():
    def normalization():
        return L.Normalization(axis=-1, mean=[0.5], variance=[0.25])

    stem = [keras.Sequential([down(), normalization(), L.Pipeline([right()])])]
    network = plain(*stem, L.ReLU(), *body())
    augmented = shifted(PIXELS / 256)
    augmented[:, :, 0] = 0.5  # filled in with 0 behind the normalization
    rest = plain(normalization(), L.ReLU(), *body())
    return network, rest, augmented, {"images": PIXELS / 256}


def functional():
    """Keras' own layout: a block of augmentation, then a graph with branches."""

    def network(*block):
        inputs = keras.Input((6, 6, 1))
        x = keras.Sequential([*block, L.Rescaling(2.0)])(inputs)
        first, *others = body()
        x = first(x)
        x = L.Add()([x, L.Dropout(0.9)(x, training=False)])
        for layer in others:
            x = layer(x)
        return keras.Model(inputs, x)

    return network(down(), right()), network(), shifted(IMAGES), {}


def functional_block():
    inputs, inner = keras.Input((6, 6, 1)), keras.Input((6, 6, 1))
    block = keras.Model(inner, right()(down()(inner)))
    outputs = keras.Sequential(body())(block(inputs), training=True)
    network = keras.Model(inputs, outputs)
    return network, plain(*body()), shifted(IMAGES), {}


@pytest.mark.parametrize(
    ("method", "stem"),
    [
        ("free", sequential),
        ("pgd", sequential),
        ("trades", sequential),
        ("free", lighter_behind_a_rescaling),
        ("pgd", normalized_in_between),
        ("trades", functional),
        ("free", functional_block),
    ],
)
def test_training_is_that_of_the_rest_on_augmented_minibatches(method, stem):
    network, rest, augmented, settings = stem()
    images = settings.pop("images", IMAGES)
    found = trained(method, network, (images, LABELS), **settings)
    expected = trained(method, rest, (augmented.astype("float32"), LABELS), **settings)
    assert_equal_training(found, expected)


# Stems that draw: the minibatches that training sees are kept.


def drawing_network():
    stem = [
        L.RandomFlip(),
        L.Rescaling(2.0),
        keras.Sequential([L.RandomRotation(0.2), L.RandomCrop(5, 5)]),
    ]
    return plain(*stem, *body_of_any_size())


def body_of_any_size():
    """A RandomCrop only crops in training."""
    keras.utils.set_random_seed(5)
    return [L.Conv2D(6, 3, activation="tanh"), L.GlobalAveragePooling2D(), L.Dense(3)]


def keeping(method, network):
    """A model that keeps the images of each update."""
    keras.utils.set_random_seed(1)
    model = TRAINERS[method](network, 0.1)
    kept, update = [], model.update

    def kept_update(data):
        tell(kept.append, data[0])
        return update(data)

    model.update = kept_update
    model.compile(keras.optimizers.SGD(0.05), from_logits())
    return model, kept


def fit(model, epochs, **settings):
    data = {"batch_size": 8, "shuffle": False, "verbose": 0, **settings}
    return model.fit(IMAGES, LABELS, epochs=epochs, **data)


@pytest.mark.parametrize("method", TRAINERS)
def test_draws_are_made_once_for_all_replays_and_anew_for_each_minibatch(method):
    model, kept = keeping(method, drawing_network())
    fit(model, 4)  # of 3 updates: 12
    assert all(x.shape == (8, 5, 5, 1) for x in kept)
    minibatches = kept[:: model.replays]
    for number, images in enumerate(kept):
        np.testing.assert_array_equal(images, minibatches[number // model.replays])
    assert len({images.tobytes() for images in minibatches}) == len(minibatches)

    rest = [L.Rescaling(2.0), *body_of_any_size()]
    rest = keras.Sequential([keras.Input((5, 5, 1)), *rest])
    labels = [LABELS[8 * (n % 3) :][:8] for n in range(len(minibatches))]
    x, y = np.concatenate(minibatches), np.concatenate(labels)
    expected = TRAINERS[method](rest, 0.1)
    expected._position.seed = model._position.seed  # of the random starts
    expected.compile(keras.optimizers.SGD(0.05), from_logits())
    with_all = {"batch_size": 8, "shuffle": False, "verbose": 0}
    expected.fit(x, y, epochs=model.replays, **with_all)
    assert_equal_training(model, expected)
    if method == "free":
        assert model.delta.shape == (1, 8, 5, 5, 1)


@pytest.mark.filterwarnings("ignore:This run ends after")
def test_a_second_fit_and_a_restored_backup_see_the_same_pixels(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model._position.update == 6:
                raise KeyboardInterrupt

    whole, seen = keeping("free", drawing_network())
    fit(whole, 4)
    often, seen_often = keeping("free", drawing_network())
    for _ in range(4):
        fit(often, 1)
    np.testing.assert_array_equal(seen_often, seen)

    killed, _ = keeping("free", drawing_network())
    resumed, seen_resumed = keeping("free", drawing_network())
    with pytest.raises(KeyboardInterrupt):
        fit(killed, 4, callbacks=[BackupAndRestore(tmp_path, save_freq=5), Stop()])
    fit(resumed, 4, callbacks=[BackupAndRestore(tmp_path, save_freq=5)])
    np.testing.assert_array_equal(seen_resumed, seen[5:])
    for other in (often, resumed):
        np.testing.assert_array_equal(other.delta, whole.delta)
        for a, b in zip(other.trainable_weights, whole.trainable_weights, strict=True):
            np.testing.assert_array_equal(a, b)


def test_everything_but_training_is_the_whole_model(tmp_path):
    network = drawing_network()
    alone = keras.models.clone_model(network)
    config = network.get_config()
    model, _ = keeping("free", network)
    history = fit(model, 2, validation_data=(IMAGES, LABELS)).history
    assert network.get_config() == config
    alone.set_weights(network.get_weights())
    alone.compile(loss=from_logits())
    expected = alone.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), expected, rtol=1e-5)
    loss = alone.evaluate(IMAGES, LABELS, verbose=0)
    np.testing.assert_allclose(history["val_loss"][-1], loss, rtol=1e-5)
    network.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(IMAGES, verbose=0), expected, rtol=1e-5)
    assert len(model.weights) == len(network.weights)  # none twice


def test_the_perturbed_one_of_several_inputs_goes_through_the_stem():
    image, scale = keras.Input((6, 6, 1), name="image"), keras.Input((1,), name="scale")
    x = L.Flatten()(right()(down()(image)))
    outputs = L.Dense(3)(L.Multiply()([x, scale]))
    model = FreeAdversarialModel(
        keras.Model({"image": image, "scale": scale}, outputs),
        0.1,
        replays=2,
        perturbed_input="image",
    )
    model.compile(keras.optimizers.SGD(0.0), from_logits())
    scales = np.linspace(0.5, 2, 24, dtype="float32")[:, None]
    # The weights at rest: the first loss is that on clean images.
    x = {"image": IMAGES, "scale": scales}
    loss = model.fit(x, LABELS, batch_size=24, epochs=2, verbose=0, shuffle=False)
    kernel, bias = model.get_weights()
    logits = (shifted(IMAGES).reshape(24, -1) * scales) @ kernel + bias
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS, logits)
    np.testing.assert_allclose(loss.history["loss"][0], np.mean(expected), rtol=1e-5)


# What ends a stem, and what is said of random layers elsewhere.


class Branches(keras.Model):
    def __init__(self):
        super().__init__()
        self.flip = L.RandomFlip(name="flip")
        self.layers_behind = body()

    def call(self, inputs, training=None):
        x = self.flip(inputs, training=training)
        for layer in self.layers_behind:
            x = layer(x)
        return x


class OwnFlip(L.RandomFlip):
    pass


def shared():
    inputs = keras.Input((6, 6, 1))
    flip = L.RandomFlip(name="flip")
    x = L.Add()([flip(inputs), flip(L.Rescaling(2.0)(inputs))])
    return keras.Model(inputs, keras.Sequential(body())(x))


def behind(*layers):
    flip = L.RandomFlip(name="flip")
    return lambda: plain(*layers, flip, *body())


ELSEWHERE = {
    "subclassed": Branches,
    "resizing": behind(L.Resizing(7, 7)),
    "batch norm": behind(L.BatchNormalization()),
    "convolution": behind(L.Conv2D(1, 3, padding="same", name="first")),
    "not to be undone": behind(L.Rescaling([0.0])),
    "shared": shared,
}


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_random_layers_elsewhere_are_named_with_the_remedy(kind):
    keras.utils.set_random_seed(1)
    model = FreeAdversarialModel(ELSEWHERE[kind](), 0.1, replays=2)
    model.compile("sgd", from_logits())
    with pytest.warns(UserWarning, match=r"\['flip'\].*dataset\.map") as said:
        fit(model, 2)
    assert said[0].filename == __file__
    fit(model, 2)  # said once


@pytest.mark.parametrize(
    "layer", [lambda: L.MixUp(name="it"), lambda: OwnFlip(name="it")]
)
def test_layers_that_mix_examples_or_are_unknown_end_the_stem(layer):
    network = plain(down(), layer(), *body())
    model = PGDAdversarialModel(network, 0.1, steps=1)
    model.compile("sgd", from_logits())
    with pytest.warns(UserWarning, match=r"\['it'\].*dataset\.map"):
        fit(model, 1)


def test_noise_and_dropout_stay_where_they_are():
    stem = [L.GaussianNoise(0.1), L.Dropout(0.1)]
    network = plain(*stem, *body())
    fit(keeping("pgd", network)[0], 1)  # warnings are errors


def test_those_who_replay_themselves_are_warned():
    model = FreeAdversarialModel(drawing_network(), 0.1, replays=1)
    model.compile("sgd", from_logits())
    with pytest.warns(UserWarning, match="`train_on_batch` has no position.*'random_"):
        model.train_on_batch(IMAGES[:8], LABELS[:8])
    model.train_on_batch(IMAGES[:8], LABELS[:8])  # said once
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(8)
    with pytest.warns(UserWarning, match=r"replays=1.*replay\(m\)"):
        model.fit(data.apply(replay(3)), epochs=1, verbose=0)
