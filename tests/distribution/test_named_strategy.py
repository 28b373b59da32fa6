"""The strategies that the command line has names for."""

import logging

import pytest
import tensorflow as tf

from keras_free_adv.distribution.named_strategy import named_strategy

pytestmark = pytest.mark.tensorflow_only


def test_single_is_what_is_in_force():
    assert named_strategy("single") is tf.distribute.get_strategy()
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        assert named_strategy("single") is strategy


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mirrored", "MirroredStrategy"),
        ("multi_worker", "MultiWorkerMirroredStrategy"),
    ],
)
def test_a_name_is_that_strategy_over_all_devices(name, kind, monkeypatch):
    made = []

    def make(*arguments):
        made.append(arguments)
        return kind

    monkeypatch.setattr(tf.distribute, kind, make)
    assert named_strategy(name) == kind
    assert made == [()]  # no device is left out


def test_many_workers_do_not_tell_of_each_collective(monkeypatch):
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", object)
    logger = logging.getLogger("absl")
    before = logger.level
    named_strategy("multi_worker")
    try:
        assert not logger.isEnabledFor(logging.INFO)
        assert logger.isEnabledFor(logging.WARNING)
    finally:
        logger.setLevel(before)
