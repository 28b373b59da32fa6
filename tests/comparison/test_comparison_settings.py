"""The settings of a comparison, from its arguments."""

import keras
import numpy as np
import pytest

from keras_free_adv import PGDAttack
from keras_free_adv.comparison import comparison_data
from keras_free_adv.comparison.comparison_settings import ComparisonSettings


def network(scale=None):
    layers = [keras.Input((4, 4, 1))]
    if scale is not None:
        layers.append(keras.layers.Rescaling(scale))
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(3)])


def settings(network_of=None, **arguments):
    defaults = {
        "methods": ["natural"],
        "seconds": 1.0,
        "epsilon": None,
        "norm": "linf",
        "value_range": None,
        "attacks": None,
        "epochs": 2,
        "batch_size": 32,
        "seed": 0,
    }
    return ComparisonSettings.checked(
        network_of or network(), **{**defaults, **arguments}
    )


@pytest.mark.parametrize(
    ("scale", "norm", "epsilon"),
    [(None, "linf", 8 / 255), (1 / 255, "linf", 8.0), (1 / 255, "l2", 128.0)],
)
def test_epsilon_is_a_share_of_the_range_of_the_pixels(scale, norm, epsilon):
    found = settings(network(scale), norm=norm)
    assert found.epsilon == pytest.approx(epsilon)
    assert found.look.epsilon == pytest.approx(epsilon)
    assert [attack.name for attack in found.attacks] == ["pgd20", "autoattack"]


def test_what_a_plan_is_made_for_is_plain_data():
    found = settings(attacks=PGDAttack(0.1, seed=0), epsilon=0.1).to_dict()
    assert found == {
        "seconds": 1.0,
        "epochs": 2,
        "batch_size": 32,
        "seed": 0,
        "norm": "linf",
        "epsilon": 0.1,
        "methods": ["natural"],
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"seconds": 0}, "`seconds`"),
        ({"epochs": 0}, "`epochs`"),
        ({"batch_size": 1.5}, "`batch_size`"),
        ({"norm": "l1"}, "`norm`"),
        ({"attacks": PGDAttack(0.1)}, "A comparison needs"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(arguments, said):
    with pytest.raises((TypeError, ValueError), match=said):
        settings(**arguments)


def test_a_changed_pixel_is_another_checksum_and_a_dataset_has_none():
    images, labels = np.zeros((4, 2, 2, 1)), np.arange(4)
    before = comparison_data.checksum((images, labels))
    assert before == comparison_data.checksum((images.copy(), labels))
    images[3, 1, 1] = 1e-3
    assert before != comparison_data.checksum((images, labels))
    assert comparison_data.checksum(object()) is None


def test_arrays_are_a_pair():
    with pytest.raises(ValueError, match="3 parts"):
        comparison_data.fit_arguments((1, 2, 3), 32)
    assert comparison_data.fit_arguments((1, 2), 32) == {
        "x": 1,
        "y": 2,
        "batch_size": 32,
    }
