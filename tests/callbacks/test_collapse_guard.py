"""Robust accuracy is scripted: each pixel alone has one that is known beforehand.

The label is the sign of every pixel's deviation from 0.5. Of pixel j the deviation is
0.3 on the first j tenths of the examples, and 0.02 on the others. So a linear model
that looks at pixel j alone is always right; and with perturbations up to 0.1 it
stays right on j tenths of the examples.
"""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import (
    BackupAndRestore,
    CollapseGuard,
    FreeAdversarialModel,
    PGDAdversarialModel,
    PGDAttack,
    RobustnessEvaluation,
    evaluate_robustness,
)
from tests.conftest import from_logits, small_images, small_network

pytestmark = pytest.mark.filterwarnings("ignore:This run ends after")

EPSILON = 0.1
KEY = "val_guard_accuracy"
HEALTHY = [0.3, 0.6, 0.5, 0.9, 0.7]
COLLAPSING = [0.6, 0.9, 0.9, 0.1, 0.9]


def toy_data(count=20):
    labels = np.arange(count) % 2
    tenths = 10 * np.arange(count)[:, None] // count  # of each example, [count, 1]
    deviation = np.where(tenths < np.arange(11), 0.3, 0.02)
    sign = np.where(labels, 1.0, -1.0)[:, None]
    return (0.5 + sign * deviation).astype("float32"), labels


IMAGES, LABELS = toy_data()


class Scripted(keras.callbacks.Callback):
    """Gives the model, before epoch e, the robust accuracy `shares[e]`."""

    def __init__(self, shares):
        super().__init__()
        self.shares = shares
        self.weights = []

    def on_epoch_begin(self, epoch, logs=None):
        kernel = np.zeros((11, 2), "float32")
        # The slope tells epochs of the same share from each other.
        slopes = np.array([-1, 1]) * (5 + epoch)
        kernel[round(10 * self.shares[epoch])] = slopes
        self.model.get_layer("scripted").set_weights([kernel, -0.5 * slopes])

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())


class Interrupted(keras.callbacks.Callback):
    def __init__(self, at_epoch):
        super().__init__()
        self.at_epoch = at_epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.at_epoch:
            raise KeyboardInterrupt


def toy_model(kind="free", epsilon=EPSILON):
    network = keras.Sequential(
        [
            keras.Input((11,)),
            keras.layers.Dense(2, name="scripted"),
            # Its moving variance changes from epoch to epoch.
            keras.layers.BatchNormalization(center=False, scale=False),
        ]
    )
    wrap = {
        "plain": lambda model, epsilon: model,
        "free": lambda *args: FreeAdversarialModel(*args, replays=1),
        "pgd": lambda *args: PGDAdversarialModel(*args, steps=1),
    }
    model = wrap[kind](network, epsilon)
    model.compile(keras.optimizers.SGD(0.0), from_logits(), metrics=["accuracy"])
    return model


def train(shares, guard, *more, model=None):
    """Trains for as many epochs as there are shares."""
    model = model or toy_model()
    script = Scripted(shares)
    history = model.fit(
        IMAGES,
        LABELS,
        batch_size=len(IMAGES),
        epochs=len(shares),
        shuffle=False,
        callbacks=[script, guard, *more],
        verbose=0,
    )
    return model, script, history.history


def toy_guard(**kwargs):
    return CollapseGuard((IMAGES, LABELS), **kwargs)


def assert_same(weights, expected):
    assert len(weights) == len(expected)
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_healthy_run_is_left_alone():
    """20 examples are few, of which an evaluation warns, and the guard does not."""
    guard = toy_guard()
    model, script, history = train(HEALTHY, guard)
    assert history[KEY] == HEALTHY
    assert (guard.best, guard.best_epoch, guard.collapsed_epoch) == (0.9, 3, None)
    assert_same(model.get_weights(), script.weights[-1])


@pytest.mark.parametrize("kind", ["free", "pgd", "plain"])
def test_a_collapse_is_told_and_ends_with_the_weights_of_the_best_epoch(kind):
    guard = toy_guard(attack=PGDAttack(EPSILON, steps=5) if kind == "plain" else None)
    with pytest.warns(UserWarning, match="Robust accuracy has collapsed") as caught:
        model, script, history = train(COLLAPSING, guard, model=toy_model(kind))
    assert history[KEY] == COLLAPSING[:4]
    assert (guard.best, guard.best_epoch, guard.collapsed_epoch) == (0.9, 1, 3)
    assert_same(model.get_weights(), script.weights[1])
    moving_variances = [weights[-1] for weights in script.weights]
    assert (moving_variances[1] != moving_variances[3]).all()
    message = next(str(w.message) for w in caught if w.category is UserWarning)
    accuracy = f"{history['accuracy'][3]:.2%}"
    assert re.search("10.00% after epoch 4, from 90.00% after epoch 2", message)
    assert f"while training accuracy is {accuracy}" in message
    assert "restores the weights of epoch 2" in message


@pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")
def test_real_training_that_gives_up_robustness_is_stopped():
    """One robust pixel is right on 9 of 10; twenty fragile ones together always."""
    labels = np.arange(100) % 2
    sign = np.where(labels, 1.0, -1.0)[:, None]
    misled = np.where(np.arange(100) < 10, -1, 1)[:, None]
    images = 0.5 + sign * np.hstack([0.3 * misled, np.full((100, 20), 0.04)])
    network = keras.Sequential([keras.Input((21,)), keras.layers.Dense(2)])
    kernel = np.zeros((21, 2))
    kernel[0] = [-3, 3]
    robust = [kernel, np.array([1.5, -1.5])]
    network.set_weights(robust)
    network.compile(keras.optimizers.Adam(0.05), from_logits(), metrics=["accuracy"])
    guard = CollapseGuard((images, labels), attack=PGDAttack(EPSILON, steps=5))
    ten_updates = tf.data.Dataset.from_tensors((images, labels)).repeat(10)
    with pytest.warns(UserWarning, match="has collapsed"):
        history = network.fit(
            ten_updates, epochs=100, shuffle=False, callbacks=[guard], verbose=0
        ).history
    assert len(history[KEY]) < 100
    assert history["loss"][-1] < history["loss"][0]  # which looks well
    assert history[KEY][0] == guard.best == 0.9
    assert history[KEY][-1] < 0.7
    restored = evaluate_robustness(network, (images, labels), guard.attack, verbose=0)
    assert list(restored.accuracy.values()) == [0.9, 0.9]


@pytest.mark.parametrize(
    ("shares", "drop", "collapses"),
    [
        ([0.9, 0.7], 0.2, False),  # 0.9 - 0.7 is above 0.2 in floats
        ([0.9, 0.6], 0.2, True),
        ([0.9, 0.6], 0.3, False),
        ([0.2, 0.0], 0.2, False),
        ([0.2, 0.0], 0.1, True),
    ],
)
def test_a_fall_of_more_than_drop_is_a_collapse(shares, drop, collapses):
    guard = toy_guard(drop=drop)
    if collapses:
        with pytest.warns(UserWarning, match="has collapsed"):
            train(shares, guard)
    else:
        train(shares, guard)
    assert guard.collapsed_epoch == (1 if collapses else None)


def test_patience_counts_checks_in_a_row():
    shares = [0.9, 0.1, 0.8, 0.1, 0.1, 0.8]
    guard = toy_guard(patience=3)
    assert train(shares, guard)[2][KEY] == shares
    guard = toy_guard(patience=2)
    with pytest.warns(UserWarning, match="has collapsed"):
        model, script, history = train(shares, guard)
    assert history[KEY] == shares[:5]
    assert guard.collapsed_epoch == 4
    assert_same(model.get_weights(), script.weights[0])


def test_without_restoring_it_only_warns_and_stops():
    guard = toy_guard(restore_best_weights=False)
    with pytest.warns(UserWarning, match="leaves the weights as they are"):
        model, script, history = train(COLLAPSING, guard)
    assert len(history[KEY]) == 4
    assert guard.best_weights is None
    assert_same(model.get_weights(), script.weights[3])


def test_epsilon_is_that_of_the_model_in_training():
    guard = toy_guard()
    assert train([0.4], guard)[2][KEY] == [0.4]
    assert train([0.4], guard, model=toy_model(epsilon=0.01))[2][KEY] == [1.0]


@pytest.mark.parametrize(
    ("norm", "scale", "expected"), [("linf", 1, 0.0), ("l2", 1, 1.0), ("l2", 255, 1.0)]
)
def test_norm_and_value_range_are_those_of_the_model_in_training(norm, scale, expected):
    """The sum of 100 pixels is 2 from the boundary.

    A perturbation of size 0.1 moves it by 0.1 * 100 in L-infinity, and by
    0.1 * sqrt(100) in L2.
    """
    sign = np.where(LABELS, 1.0, -1.0)[:, None]
    images = scale * (0.5 + sign * np.full((1, 100), 0.02))
    network = keras.Sequential([keras.Input((100,)), keras.layers.Dense(2)])
    network.set_weights(
        [np.array([[-1, 1]] * 100) / scale, np.array([50.0, -50.0])],
    )
    model = FreeAdversarialModel(
        network, EPSILON * scale, norm=norm, replays=1, value_range=(0, scale)
    )
    model.compile(keras.optimizers.SGD(0.0), from_logits())
    history = model.fit(
        images, LABELS, callbacks=[CollapseGuard((images, LABELS))], verbose=0
    )
    assert history.history[KEY] == [expected]


def test_the_guard_does_not_change_the_training():
    images, labels = small_images(40)

    def trained(callbacks):
        keras.utils.set_random_seed(3)
        model = FreeAdversarialModel(small_network(), EPSILON, replays=2)
        model.compile("adam", from_logits())
        model.fit(images, labels, epochs=4, callbacks=callbacks, verbose=0)
        return [*model.get_weights(), model.delta]

    guard = CollapseGuard((images, labels), drop=0.99)
    assert_same(trained([guard]), trained([]))


def test_callbacks_that_come_after_can_monitor_it(tmp_path):
    saved = tmp_path / "best.weights.h5"
    stopping = keras.callbacks.EarlyStopping(KEY, mode="max", patience=2)
    checkpoint = keras.callbacks.ModelCheckpoint(
        saved, KEY, mode="max", save_best_only=True, save_weights_only=True
    )
    guard = toy_guard()
    with pytest.warns(UserWarning, match="has collapsed"):
        _, script, history = train(COLLAPSING, guard, checkpoint, stopping)
    assert len(history[KEY]) == 4
    assert checkpoint.best == stopping.best == guard.best
    best = toy_model()
    best.load_weights(saved)
    assert_same(best.get_weights(), script.weights[1])


def test_early_stopping_that_comes_first_ends_a_healthy_run_as_it_does():
    shares = [0.6, 0.9, 0.8, 0.8, 0.1]
    stopping = keras.callbacks.EarlyStopping(KEY, mode="max", patience=2)
    guard = toy_guard()
    model, script, history = train(shares, guard, stopping)
    assert history[KEY] == shares[:4]
    assert guard.collapsed_epoch is None
    assert_same(model.get_weights(), script.weights[3])


@pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")
def test_it_agrees_with_an_evaluation_beside_it():
    attack = PGDAttack(EPSILON, steps=5, name="beside")
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(8)
    beside = RobustnessEvaluation((*toy_data(100),), attack, max_examples=100)
    history = train(HEALTHY, CollapseGuard(data, attack=attack), beside)[2]
    assert history[KEY] == history["val_beside_accuracy"] == HEALTHY


@pytest.mark.filterwarnings("ignore:Early stopping conditioned")
# Weights as each backend draws them, hardly trained, may see one class only.
@pytest.mark.filterwarnings("ignore:The model predicts class")
def test_a_callback_that_comes_too_early_is_named_at_the_start():
    early = keras.callbacks.EarlyStopping(KEY, mode="max")
    with pytest.warns(UserWarning, match="EarlyStopping.*before CollapseGuard in the"):
        toy_model().fit(IMAGES, LABELS, callbacks=[early, toy_guard()], verbose=0)


def test_a_second_fit_begins_anew():
    guard = toy_guard()
    with pytest.warns(UserWarning, match="has collapsed"):
        model, _, _ = train([0.9, 0.1], guard)
    model, script, history = train([0.5, 0.4, 0.4], guard, model=model)
    assert history[KEY] == [0.5, 0.4, 0.4]
    assert (guard.best, guard.best_epoch, guard.collapsed_epoch) == (0.5, 0, None)
    assert_same(model.get_weights(), script.weights[-1])


@pytest.mark.parametrize(
    ("patience", "stopped_before"), [(1, 2), (1, 3), (2, 4)], ids=str
)
def test_what_it_knows_survives_a_backup(tmp_path, patience, stopped_before):
    """With patience 2, the run is interrupted between the two low checks."""
    shares = [0.6, 0.9, 0.8, 0.1, 0.1, 0.9]
    backup = BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        train(shares, toy_guard(patience=patience), backup, Interrupted(stopped_before))
    guard = toy_guard(patience=patience)
    again = BackupAndRestore(tmp_path / "backup")
    with pytest.warns(UserWarning, match="from 90.00% after epoch 2"):
        model, _, history = train(shares, guard, again)
    with pytest.warns(UserWarning, match="from 90.00% after epoch 2"):
        straight, _, expected = train(shares, toy_guard(patience=patience))
    assert history[KEY] == expected[KEY] == shares[: 3 + patience]
    assert (guard.best_epoch, guard.collapsed_epoch) == (1, 2 + patience)
    assert_same(model.get_weights(), straight.get_weights())


def test_a_run_killed_after_the_backup_of_the_collapsed_epoch_has_ended(tmp_path):
    shares = [0.9, 0.1, 0.1, 0.1]
    backup = BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
    with pytest.warns(UserWarning, match="0.00% after epoch 2"):
        straight, script, _ = train(shares, toy_guard(), backup)
    again = BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
    guard = toy_guard()
    model, _, history = train(shares, guard, again)
    assert history[KEY] == shares[:2]
    assert guard.collapsed_epoch == 1
    assert_same(model.get_weights(), script.weights[0])
    assert_same(model.get_weights(), straight.get_weights())


def test_an_error_of_the_evaluation_is_not_hidden():
    guard = CollapseGuard((IMAGES, LABELS + 5), attack=PGDAttack(EPSILON))
    with pytest.raises(ValueError, match="`labels` must hold class numbers from 0"):
        train([0.9], guard)


@pytest.mark.filterwarnings("ignore:Only .* examples were evaluated")
@pytest.mark.filterwarnings("ignore:The model predicts class")
def test_of_a_model_that_is_not_built_the_first_epoch_tells():
    """As it has no classes yet to check the labels against."""
    network = keras.Sequential([keras.layers.Dense(2)])
    network.compile("sgd", from_logits())
    attack = PGDAttack(EPSILON, steps=1)
    history = network.fit(
        IMAGES,
        LABELS,
        callbacks=[CollapseGuard((IMAGES, LABELS), attack=attack)],
        verbose=0,
    )
    assert len(history.history[KEY]) == 1


def test_a_callback_that_never_saw_the_beginning_says_so():
    with pytest.raises(RuntimeError, match="must see the beginning of training"):
        toy_guard().on_epoch_end(0, {})


def test_it_is_serializable_with_its_arguments():
    images, labels = small_images(4)
    guard = CollapseGuard(
        (images, labels),
        attack=PGDAttack(0.05, steps=3, seed=1),
        drop=0.3,
        patience=2,
        restore_best_weights=False,
    )
    for original in (guard, CollapseGuard((images, labels))):
        copy = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(original)
        )
        for name in ("drop", "patience", "restore_best_weights"):
            assert getattr(copy, name) == getattr(original, name)
        np.testing.assert_allclose(copy.data[0], images)
        if original.attack is None:
            assert copy.attack is None
        else:
            assert copy.attack.get_config() == original.attack.get_config()
