"""The control of a comparison learns what plain Keras would."""

import keras
import numpy as np
import pytest

from keras_free_adv import AveragedWeights, BackupAndRestore, PGDAdversarialModel
from keras_free_adv.training import NaturalModel


def network() -> keras.Model:
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.0),
            keras.layers.Dense(3),
        ]
    )


def some_data(examples: int = 48) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    images = draw.uniform(size=(examples, 6, 6, 1)).astype("float32")
    return images, draw.integers(0, 3, examples)


def compiled(model: keras.Model) -> keras.Model:
    model.compile(
        keras.optimizers.SGD(0.1, 0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def test_it_learns_what_plain_keras_learns():
    images, labels = some_data()
    plain, ours = compiled(network()), compiled(NaturalModel(network()))
    settings = {"epochs": 3, "batch_size": 16, "shuffle": False, "verbose": 0}
    expected = plain.fit(images, labels, **settings).history
    found = ours.fit(images, labels, **settings).history
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-4)
    np.testing.assert_allclose(found["accuracy"], expected["accuracy"])
    for one, two in zip(ours.model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)


def test_it_is_given_the_minibatches_of_an_adversarial_model():
    seen = []

    images, labels = some_data()
    for make in (NaturalModel, lambda n: PGDAdversarialModel(n, 1e-6, steps=1)):
        model = make(network())
        model._position.seed = 5
        model.compile(
            keras.optimizers.SGD(0.0),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        history = model.fit(images, labels, batch_size=8, epochs=2, verbose=0)
        # The statistics of batch norm hold which images came when.
        seen.append((history.history["loss"], model.model.layers[1].moving_mean))
    np.testing.assert_allclose(seen[0][0], seen[1][0], rtol=1e-4)
    np.testing.assert_allclose(seen[0][1], seen[1][1], rtol=1e-4)


def test_a_stopped_training_goes_on_where_it_stopped(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    images, labels = some_data()

    def fit(*callbacks, folder):
        model = NaturalModel(network())
        model._position.seed = 7
        compiled(model)
        model.fit(
            images,
            labels,
            batch_size=8,
            epochs=4,
            callbacks=[BackupAndRestore(folder), *callbacks],
            verbose=0,
        )
        return model

    whole = fit(folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(Stop(), folder=tmp_path / "stopped")
    continued = fit(folder=tmp_path / "stopped")
    for one, two in zip(continued.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_it_is_saved_and_loaded(tmp_path):
    images, labels = some_data()
    model = compiled(NaturalModel(network(), value_range=(0.0, 255.0)))
    model.fit(255 * images, labels, verbose=0)
    model.save(tmp_path / "natural.keras")
    loaded = keras.saving.load_model(tmp_path / "natural.keras")
    assert isinstance(loaded, NaturalModel)
    assert loaded.value_range == (0.0, 255.0)
    assert loaded.stream_position.current() == model.stream_position.current()
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0), rtol=1e-5
    )


def test_its_weights_are_averaged_as_those_of_an_adversarial_model():
    model = NaturalModel(network())
    model.compile(
        keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    images, labels = some_data()
    model.fit(
        images, labels, batch_size=8, epochs=2, callbacks=[AveragedWeights()], verbose=0
    )
    assert np.isfinite(model.predict(images, verbose=0)).all()


def test_pixels_outside_of_its_range_are_refused():
    images, labels = some_data()
    with pytest.raises(ValueError, match="value_range"):
        compiled(NaturalModel(network())).fit(255 * images, labels, verbose=0)
