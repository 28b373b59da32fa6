"""KerasTuner copies the callbacks of `fit` for each trial."""

import copy

import pytest
import tensorflow as tf

from keras_free_adv import (
    CollapseGuard,
    FreeAdversarialModel,
    PGDAttack,
    RobustnessEvaluation,
)
from tests.conftest import from_logits, small_images, small_network

IMAGES, LABELS = small_images(32)
DATASET = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(32)


def attack():
    return PGDAttack(0.1, steps=1, seed=0)


@pytest.mark.filterwarnings("ignore:Only 32 examples")
@pytest.mark.parametrize(
    "make",
    [
        lambda: RobustnessEvaluation(DATASET, attack(), max_examples=1000),
        lambda: CollapseGuard(DATASET, attack=attack()),
        lambda: CollapseGuard((IMAGES, LABELS)),
    ],
)
def test_a_copy_shares_the_data_and_learns_by_itself(make):
    callback = make()

    def history_of(each):
        model = FreeAdversarialModel(small_network(), 0.1, replays=1)
        model.compile("sgd", from_logits())
        return model.fit(IMAGES, LABELS, callbacks=[each], verbose=0).history

    fresh = copy.deepcopy(callback)
    first = history_of(callback)
    before = vars(callback).copy()
    used = copy.deepcopy(callback)
    assert used.data is fresh.data is callback.data
    assert used.model is callback.model
    for name in ("last_accuracy", "best", "best_epoch"):
        assert getattr(used, name, None) == getattr(callback, name, None)
        assert getattr(fresh, name, None) in (None, {})
    for name in ("attacks", "attack"):
        if getattr(callback, name, None) is not None:
            assert getattr(used, name) is not getattr(callback, name)
    assert history_of(used).keys() == first.keys()
    assert vars(callback) == before
