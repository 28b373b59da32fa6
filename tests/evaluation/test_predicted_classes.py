"""A report knows which class is predicted of each image."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import (
    APGDAttack,
    AutoAttack,
    PGDAttack,
    RobustnessReport,
    evaluate_robustness,
)
from tests.conftest import outputs_of, small_images, small_network

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

IMAGES, LABELS = small_images(40)
ATTACKS = [
    PGDAttack(0.1, steps=1, restarts=2, step_size=0.03, seed=0),
    APGDAttack(0.1, steps=5, seed=0),
]


@pytest.fixture
def network():
    return small_network()


def test_classes_and_images_are_what_the_model_reads(network):
    report = evaluate_robustness(
        network, (IMAGES, LABELS), ATTACKS, batch_size=16, verbose=0
    )
    predicted = report.predicted
    np.testing.assert_array_equal(predicted.labels, LABELS)
    np.testing.assert_array_equal(predicted.images, IMAGES[:8])
    clean = outputs_of(network, IMAGES).argmax(-1)
    np.testing.assert_array_equal(predicted.classes["natural"], clean)
    for attack in ATTACKS:
        read, changed = (
            predicted.classes[attack.name],
            predicted.adversarial[attack.name],
        )
        # A verdict and a class say the same.
        np.testing.assert_array_equal(read == LABELS, report.robust[attack.name])
        assert np.abs(changed - IMAGES[:8]).max() <= attack.epsilon + 1e-6
        by_model = outputs_of(network, changed).argmax(-1)
        np.testing.assert_array_equal(by_model, read[:8])
        never_attacked = clean[:8] != LABELS[:8]
        np.testing.assert_array_equal(
            changed[never_attacked], IMAGES[:8][never_attacked]
        )
    assert (predicted.classes["apgd_ce"] != clean).any()


def test_an_ensemble_keeps_what_each_part_reached(network):
    attack = AutoAttack(0.1, attacks=list(ATTACKS), seed=0)
    report = evaluate_robustness(network, (IMAGES, LABELS), attack, verbose=0)
    read = report.predicted.classes["autoattack"]
    np.testing.assert_array_equal(read == LABELS, report.robust["autoattack"])
    changed = report.predicted.adversarial["autoattack"]
    np.testing.assert_array_equal(outputs_of(network, changed).argmax(-1), read[:8])


def test_a_resumed_evaluation_knows_the_classes(network, tmp_path):
    def evaluated(attacks):
        return evaluate_robustness(
            network, (IMAGES, LABELS), attacks, verbose=0, resume=tmp_path / "a.json"
        ).predicted

    first = evaluated(ATTACKS[:1])
    second = evaluated(ATTACKS)
    for name in first.classes:
        np.testing.assert_array_equal(first.classes[name], second.classes[name])
    one, other = (attack.name for attack in ATTACKS)
    assert list(second.adversarial) == [one, other]
    np.testing.assert_array_equal(second.adversarial[one], first.adversarial[one])


def test_they_go_through_json_but_for_the_images(network):
    report = evaluate_robustness(network, (IMAGES, LABELS), ATTACKS, verbose=0)
    again = RobustnessReport.from_json(report.to_json())
    assert again.predicted.images is None
    assert again.predicted.to_dict() == report.predicted.to_dict()
    for name, read in report.predicted.classes.items():
        np.testing.assert_array_equal(again.predicted.classes[name], read)


def test_a_model_of_several_labels_has_none():
    network = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="sigmoid"),
        ]
    )
    labels = np.random.default_rng(0).integers(0, 2, (40, 3))
    report = evaluate_robustness(
        network, (IMAGES, labels), PGDAttack(0.1, steps=2, seed=0), verbose=0
    )
    assert report.predicted is None
    assert "predicted" not in report.to_dict()


@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_images_of_any_rank_are_arrays(rank):
    shape = {2: (6,), 3: (6, 6), 4: (6, 6, 1), 5: (2, 4, 4, 1)}[rank]
    network = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    images, labels = small_images(8, shape)
    before = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_first")
        attack = PGDAttack(0.1, steps=1, seed=0)
        report = evaluate_robustness(network, (images, labels), attack, verbose=0)
    finally:
        keras.config.set_image_data_format(before)
    shown = report.predicted.images
    assert isinstance(shown, np.ndarray)
    expected = images
    if rank == 3:
        expected = images[..., None]
    if rank == 4:
        expected = images.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(shown, expected)


def test_names_of_classes_come_from_the_data(network):
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(20)
    data.class_names = ["a", "b", 7]
    report = evaluate_robustness(network, data, ATTACKS[:1], verbose=0)
    assert report.predicted.class_names == ("a", "b", "7")
    assert report.predicted.name_of(1) == "b"
    assert report.predicted.name_of(5) == "5"
