"""Each warning points at the line of this file that caused it."""

import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import (
    APGDAttack,
    CollapseGuard,
    FreeAdversarialModel,
    PGDAttack,
    RobustnessEvaluation,
    evaluate_robustness,
)
from keras_free_adv.user_warnings import each_kind_once, warn_user
from tests.conftest import from_logits, small_images, small_network

SHAPE = (6, 6, 1)


def compiled(network=None, replays=1, loss=None):
    model = FreeAdversarialModel(
        network or small_network(), epsilon=0.1, replays=replays
    )
    model.compile("sgd", loss or from_logits(), metrics=["accuracy"])
    return model


def data(count=40):
    return small_images(count)


def evaluate():
    evaluate_robustness(small_network(), data(), PGDAttack(0.1, steps=1), verbose=0)


def call_an_attack_as_a_layer():
    images, labels = small_images(4, classes=2)
    two = small_network(classes=2)
    APGDAttack(0.1, steps=2, loss="dlr", seed=0)(images, labels, model=two)


def call_an_attack_in_a_functional_model():
    """Through more of Keras than a plain call."""
    attack = APGDAttack(0.1, steps=2, loss="dlr", from_logits=True, seed=0)
    inputs = keras.Input(SHAPE), keras.Input((), dtype="int32")
    network = small_network(classes=2)
    keras.Model(inputs, attack(*inputs, model=network))(small_images(4, classes=2))


def fit_for_few_passes():
    compiled(replays=8).fit(*data(80), epochs=1, verbose=0)


def fit_on_another_pixel_scale():
    model = FreeAdversarialModel(small_network(), epsilon=8, value_range=(0, 255))
    model.compile("sgd", from_logits())
    model.fit(*data(), epochs=8, verbose=0)


def fit_with_executions_that_do_not_divide():
    model = FreeAdversarialModel(small_network(), epsilon=0.1, replays=1)
    model.compile("sgd", from_logits(), steps_per_execution=2)
    model.fit(*data(96), epochs=1, verbose=0)


def fit_a_frozen_model():
    network = small_network()
    network.trainable = False
    compiled(network).fit(*data(), epochs=1, verbose=0)


def fit_until_the_loss_is_not_finite():
    model = compiled()
    model.optimizer.learning_rate = 1e30
    model.fit(*data(128), epochs=2, verbose=0)


def fit_on_a_minibatch_that_is_not_finite():
    images, labels = data(64)
    images[40] = np.nan
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(32)
    compiled().fit(batches, epochs=1, verbose=0)


def fit_and_evaluate():
    watch = RobustnessEvaluation(
        data(), PGDAttack(0.1, steps=1, seed=0), max_examples=40
    )
    compiled().fit(*data(), epochs=3, callbacks=[watch], verbose=0)


def fit_with_a_monitor_that_comes_too_early():
    stop = keras.callbacks.EarlyStopping("val_guard_accuracy", mode="max")
    guard = CollapseGuard(data())
    compiled().fit(*data(), callbacks=[stop, guard], verbose=0)


def compare_two_reports():
    images, labels = data(400)
    attack = PGDAttack(0.1, steps=1, seed=0)
    one, other = (
        evaluate_robustness(small_network(), (images, labels), attack, verbose=0)
        for _ in range(2)
    )
    other.robust["natural"] = one.robust["natural"].copy()
    one.difference(other)


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (evaluate, "Only 40 examples"),
        (call_an_attack_as_a_layer, "apgd_dlr: .* needs 3 classes"),
        (call_an_attack_in_a_functional_model, "apgd_dlr: .* needs 3 classes"),
        (fit_for_few_passes, "This run ends after"),
        (fit_on_another_pixel_scale, "The images reach from"),
        (fit_with_executions_that_do_not_divide, "steps_per_execution=2"),
        (fit_a_frozen_model, "does not have any trainable weights"),
        (fit_until_the_loss_is_not_finite, "The loss is (nan|inf)"),
        (fit_on_a_minibatch_that_is_not_finite, "is not finite"),
        (fit_and_evaluate, "Only 40 examples"),
        (fit_with_a_monitor_that_comes_too_early, "EarlyStopping monitors"),
        (compare_two_reports, "is too small to claim"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_warning_points_at_the_line_that_caused_it(cause, message):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cause()
    ours = [each for each in caught if re.search(message, str(each.message))]
    assert ours
    code = cause.__code__
    last = max(line for _, _, line in code.co_lines() if line)
    for each in ours:
        assert each.filename == __file__
        assert code.co_firstlineno < each.lineno <= last


def given_by(cause):
    """Every warning that it gives, as texts."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cause()
    return [str(each.message) for each in caught]


def test_what_an_evaluation_doubts_is_given_once_a_report_and_once_a_fit():
    (of_report,) = given_by(evaluate)
    # Three epochs, of different accuracies.
    (of_fit,) = given_by(fit_and_evaluate)
    assert of_report.startswith("Only 40 ")
    assert of_fit.startswith("Only 40 ")


def test_the_next_fit_gives_them_again():
    watch = RobustnessEvaluation(
        data(), PGDAttack(0.1, steps=1, seed=0), max_examples=40
    )
    model = compiled()

    def fit_twice():
        for _ in range(2):
            model.fit(*data(), epochs=2, callbacks=[watch], verbose=0)

    assert len(given_by(fit_twice)) == 2


def test_within_kinds_are_given_once_whatever_their_numbers():
    given = set()

    def warn():
        for numbers in ([1, 0.5], [2, 1e-3]):
            with each_kind_once(given):
                for number in numbers:
                    warn_user(f"a: {number} of 1,000 examples")
                    warn_user(f"b: {number} of +-1.5%, that is.")
        warn_user("a: 7 of 1,000 examples")  # outside

    assert given_by(warn) == [
        "a: 1 of 1,000 examples",
        "b: 1 of +-1.5%, that is.",
        "a: 7 of 1,000 examples",
    ]
