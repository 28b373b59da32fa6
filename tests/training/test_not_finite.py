"""NaN and infinity in one minibatch: it is named, and delta stays finite."""

import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import FreeAdversarialModel, PGDAdversarialModel
from tests.conftest import from_logits, small_images, small_network


def linear_network():
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(3, dtype="float32"),
        ]
    )


def free(network=None, rate=0.1, loss=None, replays=4, **kwargs):
    model = FreeAdversarialModel(
        network or linear_network(), 0.1, replays=replays, **kwargs
    )
    model.compile(keras.optimizers.SGD(rate), loss or from_logits())
    return model


def dataset(*parts):
    return tf.data.Dataset.from_tensor_slices(parts).batch(8)


def spoiled(array, place, value=np.nan):
    array = np.array(array, "float32")
    array[place] = value
    return array


def said(fit):
    """The warnings of a training, as one text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit()
    found = [str(each.message) for each in caught if each.category is UserWarning]
    return "\n".join(each for each in found if "finite" in each)


class Items(keras.utils.PyDataset):
    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return tuple(part[8 * i : 8 * i + 8] for part in self.parts)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_the_minibatch_is_named_and_delta_stays_finite(policy, norm):
    keras.config.set_dtype_policy(policy)
    images, labels = small_images(40)
    images = spoiled(images, (21, 0, 0))
    model = free(small_network(), norm=norm)
    text = said(lambda: model.fit(dataset(images, labels), epochs=8, verbose=0))
    assert text.count("\n") == 0
    expected = "Minibatch 2 of pass 0.*`x` of 1 of its 8 examples, the first at place 5"
    assert re.search(expected, text)
    assert np.isfinite(model.delta).all()


@pytest.mark.parametrize("source", [dataset, Items])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["x", "y", "sample_weight"])
def test_what_is_not_finite_is_named(source, value, part):
    images, labels = small_images(40)
    parts = {"x": images, "y": np.eye(3)[labels], "sample_weight": np.ones(40)}
    parts = {name: array.astype("float32") for name, array in parts.items()}
    parts[part][33:35] = value
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model = free(loss=loss)
    data = source(*parts.values())
    text = said(lambda: model.fit(data, epochs=4, shuffle=False, verbose=0))
    expected = f"4 of pass 0.*`{part}` of 2 of its 8 examples, the first at place 1"
    assert re.search(expected, text)
    assert text.count("\n") == 0


def test_a_minibatch_of_a_later_pass_is_named_when_it_is_trained_on():
    images, labels = small_images(40)
    passes = iter(range(9))

    def items():
        bad = next(passes) > 1  # Keras' and our look at the data are one
        for i in range(0, 40, 8):
            x = images[i : i + 8]
            yield (spoiled(x, 0) if bad and i == 8 else x), labels[i : i + 8]

    signature = (
        tf.TensorSpec((None, 6, 6, 1), "float32"),
        tf.TensorSpec((None,), "int64"),
    )
    data = tf.data.Dataset.from_generator(items, output_signature=signature)
    data = data.apply(tf.data.experimental.assert_cardinality(5))
    told = []

    class When(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            told.append(len(caught))

    model = free(replays=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model.fit(data, epochs=4, verbose=0, callbacks=[When()])
    assert "Minibatch 1 of pass 1" in str(caught[0].message)
    # Two replays of each: minibatch 6 is trained on in the updates 12 and 13.
    assert told[:12] == [0] * 12
    assert told[12] == 1


def test_terminate_on_nan_stops_at_the_minibatch():
    images, labels = small_images(40)
    images = spoiled(images, (21, 0, 0))
    model = free()
    updates = []

    class Count(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            updates.append(logs["loss"])

    callbacks = [Count(), keras.callbacks.TerminateOnNaN()]
    text = said(
        lambda: model.fit(
            dataset(images, labels), epochs=8, verbose=0, callbacks=callbacks
        )
    )
    assert "Minibatch 2 of pass 0" in text
    assert len(updates) == 9  # eight of the two minibatches before
    assert np.isfinite(updates[:8]).all()
    assert np.isnan(updates[8])
    assert np.isfinite(model.delta).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_other_examples_are_attacked_as_if_nothing_was(norm):
    """With weights that do not move, each row of delta is of its example alone."""
    images, labels = small_images(16)

    def trained(images, epochs=6):
        keras.utils.set_random_seed(1)
        network = linear_network()
        network.trainable = False
        model = free(network, norm=norm)
        data = dataset(images, labels[: len(images)])
        return model, said(lambda: model.fit(data, epochs=epochs, verbose=0))

    model, text = trained(spoiled(images, 9))
    clean, nothing = trained(images)
    assert "Minibatch 1" in text
    assert nothing == ""
    # Updates 4 to 7 are on the second minibatch, whose place 1 is spoiled.
    others = [0, 2, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal(model.delta[0, others], clean.delta[0, others])
    # That row moves in the eight updates on the first minibatch only.
    without, _ = trained(images[:8], epochs=8)
    np.testing.assert_array_equal(model.delta[0, 1], without.delta[0, 1])


@pytest.mark.parametrize(
    ("executions", "expected"),
    [
        (1, "nan from update 2 on, replay 0 of 2 of minibatch 1 of pass 0"),
        (5, "from one of the updates 0 to 4 on"),
    ],
)
def test_a_loss_that_runs_away_is_named_by_its_update(executions, expected):
    images, labels = small_images(40)
    model = FreeAdversarialModel(linear_network(), 0.1, replays=2)

    class Bursts(keras.optimizers.SGD):
        """Its second update makes the weights infinite."""

        def update_step(self, gradient, variable, learning_rate):
            second = keras.ops.equal(self.iterations, 1)
            value = keras.ops.convert_to_tensor(variable)
            self.assign(variable, keras.ops.where(second, np.inf, value))

    model.compile(Bursts(0.1), from_logits(), steps_per_execution=executions)
    text = said(
        lambda: model.fit(
            images, labels, batch_size=8, shuffle=False, epochs=2, verbose=0
        )
    )
    assert expected in text
    assert "though images and labels are finite" in text
    assert text.count("\n") == 0
    assert np.isfinite(model.delta).all()


def test_large_values_are_finite():
    """Their sum is not."""
    images, _ = small_images(16)
    model = free(replays=2)
    model.compile(
        keras.optimizers.SGD(0.0), lambda y_true, y_pred: keras.ops.sum(y_pred, -1)
    )
    huge = np.full(16, 3e38, "float32")
    text = said(lambda: model.fit(dataset(images, huge), epochs=2, verbose=0))
    assert text == ""


def test_pgd_training_names_it_too():
    images, labels = small_images(40)
    model = PGDAdversarialModel(linear_network(), 0.1, steps=2)
    model.compile("sgd", from_logits())
    data = dataset(spoiled(images, 21), labels)
    text = said(lambda: model.fit(data, verbose=0))
    assert "Minibatch 2 of pass 0" in text
