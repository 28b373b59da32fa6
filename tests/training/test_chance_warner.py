import types
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv import FreeAdversarialModel
from keras_free_adv.training.chance_warner import ChanceWarner, chance_of
from tests.conftest import from_logits, small_network


def warned(
    accuracies, *, updates=100, rows=50, replays=1, count=100, chance=(0.1, 0.1)
):
    """After which epochs of these accuracies it warns."""
    place = types.SimpleNamespace(update=7)  # a former `fit`
    warner = ChanceWarner(place, count * replays, rows / replays, chance)
    found = []
    for epoch, accuracy in enumerate(accuracies):
        warner.on_epoch_begin(epoch)
        place.update += updates
        logs = {"loss": 1.0} if accuracy is None else {"accuracy": accuracy}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warner.on_epoch_end(epoch, logs)
        found += [epoch] * len(caught)
    return found


# 100 updates of 50 examples: two deviations are 2 sqrt(0.09 / 5000) = 0.0085.
@pytest.mark.parametrize(
    ("accuracies", "settings", "expected"),
    [
        ([0.1, 0.1, 0.1], {}, [0]),  # once
        ([0.108], {}, [0]),
        ([0.109], {}, []),
        ([0.092], {}, [0]),
        # An attack that succeeds on a model that tells classes apart.
        ([0.091, 0.05, 0.0], {}, []),
        ([None, None], {}, []),
        ([0.5, 0.6, 0.1], {}, [2]),  # collapsed later
        # Between the rarest class and the most frequent.
        ([0.3], {"chance": (0.1, 0.5)}, [0]),
        ([0.52], {"chance": (0.1, 0.5)}, []),  # 0.5 + 0.014
        # A pass of four epochs, the last of them and all together at chance. Of one
        # epoch two deviations are 2 sqrt(0.09 / 1250) = 0.017, of four 0.0085.
        ([0.1] * 4, {"count": 100, "updates": 25}, [3]),
        ([0.1, 0.1, 0.1, 0.2], {"count": 100, "updates": 25}, []),
        ([0.11, 0.11, 0.11, 0.11], {"count": 100, "updates": 25}, []),
        ([0.1, 0.1, 0.2, 0.1], {"count": 100, "updates": 25}, []),
        # Of replays each example counts once: two deviations of 1,250.
        ([0.115], {"updates": 100, "count": 12, "replays": 8, "rows": 100}, [0]),
        ([0.12], {"updates": 100, "count": 12, "replays": 8, "rows": 100}, []),
        # At least 100 updates, and 1,000 examples.
        ([0.1] * 5, {"updates": 33, "count": 33}, [3]),
        ([0.1] * 5, {"updates": 100, "rows": 4}, [2]),
    ],
)
def test_when_accuracy_counts_as_chance(accuracies, settings, expected):
    assert warned(accuracies, **settings) == expected


@pytest.mark.parametrize(
    ("labels", "are_all", "expected"),
    [
        (np.array([0, 1, 1, 2]), True, (0.25, 0.5)),
        (np.array([[0], [1], [1], [2]]), True, (0.25, 0.5)),
        (np.array([0.0, 1.0, 1.0, 2.0]), True, (0.25, 0.5)),
        (np.eye(3)[[0, 1, 1, 2]], True, (0.25, 0.5)),
        (np.array([0, 1, 1, 2]), False, (1 / 3, 1 / 3)),  # of the model's classes
        # Not one class each: multi-hot, mixed, numbers, maps, several outputs.
        (np.array([[1, 1, 0], [0, 1, 0]]), True, None),
        (np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]), True, None),
        (np.array([0.5, 1.0]), True, None),
        (np.zeros((2, 3, 3), int), True, None),
        ({"a": np.array([0, 1])}, True, None),
        (None, True, None),
        # One class dominates.
        (np.array([0, 0, 0, 1]), True, None),
    ],
)
def test_the_shares_of_classes(labels, are_all, expected):
    assert chance_of(labels, small_network(), are_all=are_all) == expected


def digits(count):
    """Images that a model learns: one bright pixel row a class."""
    generator = np.random.default_rng(0)
    labels = generator.permutation(np.arange(count) % 6)
    images = generator.uniform(0, 0.3, (count, 6, 6, 1))
    images[np.arange(count), labels] += 0.5
    return images.astype("float32"), labels


def of_arrays(images, labels):
    return {"x": images, "y": labels, "batch_size": 50}


def of_dataset(images, labels):
    return {"x": tf.data.Dataset.from_tensor_slices((images, labels)).batch(50)}


@pytest.mark.parametrize("form", [of_arrays, of_dataset])
@pytest.mark.parametrize("stuck", [False, True])
def test_fit_says_that_training_is_stuck_at_chance(form, stuck):
    optimizer = keras.optimizers.SGD(1e3) if stuck else keras.optimizers.Adam(1e-2)
    model = FreeAdversarialModel(small_network(classes=6), epsilon=0.1, replays=2)
    model.compile(optimizer, from_logits(), metrics=["accuracy"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(**form(*digits(1500)), epochs=8, verbose=0)
    said = [each for each in caught if "at chance" in str(each.message)]
    assert len(said) == stuck
    for each in said:
        assert each.filename == __file__
        assert "16.67%" in str(each.message)
        assert "learning rate" in str(each.message)
