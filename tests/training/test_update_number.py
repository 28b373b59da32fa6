"""Random starts and the warm-up of epsilon follow the position in the stream."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import BackupAndRestore, PGDAdversarialModel, TRADESModel
from tests.conftest import from_logits, small_images, small_network

EPSILON, WARMUP = 0.2, 16
# 4 updates an epoch: gray images, that no start be clipped.
IMAGES, LABELS = np.full((16, 6, 6, 1), 0.5, "float32"), small_images(16)[1]


def recording(kind):
    """A model of class `kind` that keeps the start and the radius of each update."""

    class Recording(kind):
        def _climb(self, images, start, loss_at):
            def keep(noise, epsilon):
                self.starts.append(noise)
                self.radii.append(float(epsilon))

            tf.numpy_function(
                keep, [start - images, self._ball().epsilon], [], stateful=True
            )
            return super()._climb(images, start, loss_at)

    keras.utils.set_random_seed(3)
    model = Recording(small_network(), EPSILON, steps=1, epsilon_warmup_steps=WARMUP)
    model.starts, model.radii = [], []
    return model


def compiled(model, accumulated=4, steps_per_execution=1):
    optimizer = keras.optimizers.SGD(0.05, gradient_accumulation_steps=accumulated)
    model.compile(optimizer, from_logits(), steps_per_execution=steps_per_execution)
    return model


def fit(model, epochs, **settings):
    data = {"batch_size": 4, "verbose": 0, **settings}
    return model.fit(IMAGES, LABELS, epochs=epochs, **data)


def plainly(model):
    """Three epochs, in one `fit`."""
    fit(compiled(model), 3)


def in_executions(model):
    fit(compiled(model, steps_per_execution=4), 3)


def in_two_fits(model):
    compiled(model)
    fit(model, 1)
    fit(model, 2)


def compiled_again(model):
    fit(compiled(model), 1)
    fit(compiled(model), 2)


WAYS = [in_executions, in_two_fits, compiled_again]


@pytest.mark.parametrize("kind", [PGDAdversarialModel, TRADESModel])
@pytest.mark.parametrize("way", WAYS)
def test_starts_and_warm_up_are_those_of_the_position(kind, way):
    """However the twelve updates are made, and while gradients accumulate."""
    expected, found = recording(kind), recording(kind)
    plainly(expected)
    way(found)
    np.testing.assert_array_equal(found.starts, expected.starts)
    shares = [min(number / WARMUP, 1.0) for number in range(1, 13)]
    np.testing.assert_allclose(found.radii, EPSILON * np.array(shares), rtol=1e-6)
    # No two starts are alike; those of K-PGD by their directions in the grown ball.
    directions = {np.sign(start).tobytes() for start in found.starts}
    assert len(directions) == 12


def test_a_restored_backup_goes_on_with_the_same_starts(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model._position.update == 6:
                raise KeyboardInterrupt

    whole = compiled(recording(PGDAdversarialModel))
    fit(whole, 3)
    killed, resumed = (compiled(recording(PGDAdversarialModel)) for _ in range(2))
    with pytest.raises(KeyboardInterrupt):
        fit(killed, 3, callbacks=[BackupAndRestore(tmp_path, save_freq=5), Stop()])
    fit(resumed, 3, callbacks=[BackupAndRestore(tmp_path, save_freq=5)])
    np.testing.assert_array_equal(resumed.starts, whole.starts[5:])
    np.testing.assert_array_equal(resumed.radii, whole.radii[5:])


def test_train_on_batch_counts_its_own_updates_on_from_the_place(tmp_path):
    model = compiled(recording(PGDAdversarialModel))
    fit(model, 1)  # 4 updates
    for _ in range(3):
        model.train_on_batch(IMAGES[:4], LABELS[:4])
    shares = np.arange(1, 8) / WARMUP
    np.testing.assert_allclose(model.radii, EPSILON * shares, rtol=1e-6)
    assert len({np.sign(start).tobytes() for start in model.starts}) == 7
    # A saved model counts on.
    model.save_weights(tmp_path / "model.weights.h5")
    other = compiled(recording(PGDAdversarialModel))
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "model.weights.h5")
    other.train_on_batch(IMAGES[:4], LABELS[:4])
    fit(other, 1)  # the stream is where it was: its fifth update comes next
    numbers = np.array([8, 5, 6, 7, 8])
    np.testing.assert_allclose(other.radii, EPSILON * numbers / WARMUP, rtol=1e-6)
