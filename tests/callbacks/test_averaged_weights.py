import keras
import numpy as np
import pytest

from keras_free_adv import AveragedWeights, BackupAndRestore, FreeAdversarialModel
from tests.conftest import from_logits, small_images

MOMENTUM = 0.8


def network():
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def compiled(method="free", use_ema=True, **settings):
    keras.utils.set_random_seed(3)
    model = network()
    if method == "free":
        model = FreeAdversarialModel(model, 0.1, replays=2)
    optimizer = keras.optimizers.SGD(0.1, use_ema=use_ema, ema_momentum=MOMENTUM)
    model.compile(optimizer, from_logits(), metrics=["accuracy"], **settings)
    return model


class Weights(keras.callbacks.Callback):
    """What the model holds after each update and at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.after_updates, self.at_ends, self.in_tests = [], [], []

    def on_train_batch_end(self, batch, logs=None):
        self.after_updates.append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        self.at_ends.append(self.model.get_weights())

    def on_test_batch_end(self, batch, logs=None):
        self.in_tests.append(self.model.get_weights())


def averages(updates):
    """The moving averages after each update; the first is the weights themselves."""
    found = [updates[0]]
    for weights in updates[1:]:
        found.append(
            [
                MOMENTUM * average + (1 - MOMENTUM) * w
                for average, w in zip(found[-1], weights, strict=True)
            ]
        )
    return found


def assert_close(one, other, atol=1e-5):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


@pytest.mark.parametrize("method", ["free", "natural"])
def test_evaluation_sees_averages_of_all_and_training_goes_on_without(method):
    images, labels = small_images(32)
    held_out = small_images(8, seed=1)
    model, seen = compiled(method), Weights()
    model.fit(
        images,
        labels,
        batch_size=8,
        epochs=3,
        shuffle=False,
        validation_data=held_out,
        callbacks=[AveragedWeights(), seen],
        verbose=0,
    )
    expected = averages(seen.after_updates)
    for epoch in range(3):
        assert_close(seen.at_ends[epoch], expected[4 * epoch + 3])
        assert_close(seen.in_tests[epoch], expected[4 * epoch + 3])
    assert_close(model.get_weights(), expected[-1])
    # The statistics did differ, or this would prove nothing.
    assert np.abs(seen.after_updates[-1][4] - expected[-1][4]).max() > 1e-4

    plain, without = compiled(method, use_ema=False), Weights()
    plain.fit(
        images,
        labels,
        batch_size=8,
        epochs=3,
        shuffle=False,
        callbacks=[without],
        verbose=0,
    )
    assert_close(seen.after_updates[-1], without.after_updates[-1], atol=1e-6)


def test_several_updates_in_one_execution_count_as_several():
    images, labels = small_images(32)
    callback = AveragedWeights()
    model = compiled("natural", steps_per_execution=2)
    seen = Weights()
    model.fit(
        images, labels, batch_size=8, epochs=1, callbacks=[callback, seen], verbose=0
    )
    first, second = (weights[4] for weights in seen.after_updates)
    expected = MOMENTUM**2 * first + (1 - MOMENTUM**2) * second
    np.testing.assert_allclose(callback.averaged_statistics[0], expected, atol=1e-6)


@pytest.mark.parametrize("save_freq", ["epoch", 3])
def test_a_backup_continues_with_the_weights_in_training(tmp_path, save_freq):
    images, labels = small_images(32)

    class Stops(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def run(folder, *more):
        model = compiled()
        model.fit(
            images,
            labels,
            batch_size=8,
            epochs=4,
            callbacks=[
                AveragedWeights(),
                *more,
                BackupAndRestore(tmp_path / folder, save_freq=save_freq),
            ],
            verbose=0,
        )
        return model.get_weights()

    with pytest.raises(KeyboardInterrupt):
        run("stopped", Stops())
    for one, other in zip(run("stopped"), run("whole"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_killed_after_its_last_epoch_ends_with_the_averages(tmp_path):
    images, labels = small_images(32)

    def run(*more):
        model = compiled()
        backup = BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
        model.fit(
            images,
            labels,
            batch_size=8,
            epochs=2,
            callbacks=[AveragedWeights(), *more, backup],
            verbose=0,
        )
        return model.get_weights()

    whole = run()  # its last backup is that of a run killed before it could save
    for one, other in zip(run(), whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_optimizer_that_does_not_average_is_refused():
    with pytest.raises(ValueError, match="use_ema=True"):
        compiled("natural", use_ema=False).fit(
            *small_images(8), callbacks=[AveragedWeights()], verbose=0
        )


def test_an_optimizer_that_overwrites_is_refused():
    model = network()
    optimizer = keras.optimizers.SGD(use_ema=True, ema_overwrite_frequency=5)
    model.compile(optimizer, from_logits())
    with pytest.raises(ValueError, match="ema_overwrite_frequency=5"):
        model.fit(*small_images(8), callbacks=[AveragedWeights()], verbose=0)
