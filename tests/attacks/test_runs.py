"""The loop under every attack, with an attack whose every step is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.outcome import Outcome, choose, more_damaging, nothing_yet
from keras_free_adv.attacks.runs import ActiveRuns, advance, begin_runs, ended

STEPS = 10


class Clock(Attack):
    """Step k looks at the image plus k; an image of value n is fooled from k = n on.

    The loss falls from step to step, so that of two points that both fool the model
    the first is the worse.
    """

    steps_of_a_run = STEPS

    def __init__(self):
        super().__init__(
            1.0,
            restarts=1,
            norm="linf",
            targeted=False,
            value_range=(0, 100),
            from_logits=True,
            seed=0,
            name=None,
            stem="clock",
        )

    def start(self, target, images, keys, runs):
        return {"ticks": tf.zeros_like(runs), "where": 100.0 + images}

    def step(self, target, images, state, step):
        tf.debugging.assert_less(step, STEPS)
        ticks = state["ticks"]
        fooled = tf.cast(ticks, "float32") >= images[:, 0]
        state = {"ticks": ticks + 1, "where": state["where"] + 1.0}
        seen = images + tf.cast(ticks, "float32")[:, None]
        return state, Outcome(seen, fooled, -tf.cast(ticks, "float32"))


CLOCK = Clock()
# It looks at no model, and none masks its images.
TARGET = SimpleNamespace(keep_masked=lambda points: points, overflow=None)


def at_the_beginning(images):
    keys, runs = tf.zeros((len(images), 2), "int32"), tf.zeros((len(images),), "int32")
    return begin_runs(CLOCK, TARGET, images, keys, runs)


def run(images, slots, stop_after, until_fooled=True):
    return advance(
        CLOCK, TARGET, images, slots, stop_after=stop_after, until_fooled=until_fooled
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_it_stops_when_enough_runs_have_ended(compiled):
    images = tf.constant([[2.0], [4.0], [77.0], [4.0]])
    continued = tf.function(run, autograph=False) if compiled else run
    slots = at_the_beginning(images)
    np.testing.assert_array_equal(slots.step, [0, 0, 0, 0])
    np.testing.assert_array_equal(slots.best.loss, [-np.inf] * 4)

    slots, steps = continued(images, slots, tf.constant(0))
    assert int(steps) == 0

    slots, steps = continued(images, slots, tf.constant(1))
    assert int(steps) == 3  # steps 0, 1 and 2
    np.testing.assert_array_equal(slots.step, [3, 3, 3, 3])
    np.testing.assert_array_equal(slots.best.fooled, [True, False, False, False])
    np.testing.assert_array_equal(slots.best.images[0], [4.0])

    # Two more are fooled at once; the one that had ended stays as it was.
    slots, steps = continued(images, slots, tf.constant(2))
    assert int(steps) == 2
    np.testing.assert_array_equal(slots.step, [3, 5, 5, 5])
    np.testing.assert_array_equal(slots.state["ticks"], [3, 5, 5, 5])
    np.testing.assert_array_equal(
        slots.state["where"], [[105.0], [109.0], [182.0], [109.0]]
    )
    np.testing.assert_array_equal(slots.best.fooled, [True, True, False, True])
    np.testing.assert_array_equal(slots.best.images[:2], [[4.0], [8.0]])

    # The last one withstands all its steps, and its worst point was the first.
    slots, steps = continued(images, slots, tf.constant(4))
    assert int(steps) == 5
    np.testing.assert_array_equal(slots.step, [3, 5, 10, 5])
    np.testing.assert_array_equal(slots.best.fooled, [True, True, False, True])
    np.testing.assert_array_equal(slots.best.images[2], [77.0])
    np.testing.assert_array_equal(slots.best.loss, [-2, -4, 0, -4])

    slots, steps = continued(images, slots, tf.constant(4))
    assert int(steps) == 0


def test_a_run_may_go_on_after_it_has_fooled_the_model():
    images = tf.constant([[2.0], [4.0]])
    slots, steps = run(images, at_the_beginning(images), 2, until_fooled=False)
    assert int(steps) == STEPS
    np.testing.assert_array_equal(slots.step, [STEPS, STEPS])
    np.testing.assert_array_equal(slots.best.images, [[4.0], [8.0]])
    np.testing.assert_array_equal(slots.best.fooled, [True, True])
    np.testing.assert_array_equal(ended(CLOCK, slots, False), [True, True])


def test_slots_need_not_be_at_the_same_step():
    images = tf.constant([[77.0], [77.0], [1.0]])
    slots = at_the_beginning(images)
    ticks = tf.constant([8, 3, 0])
    slots = ActiveRuns(ticks, {**slots.state, "ticks": ticks}, slots.best)
    slots, steps = run(images, slots, 2)
    assert int(steps) == 2  # the first is at its end, and the last is fooled
    np.testing.assert_array_equal(slots.step, [10, 5, 2])
    np.testing.assert_array_equal(ended(CLOCK, slots, True), [True, False, True])
    np.testing.assert_array_equal(ended(CLOCK, slots, False), [True, False, False])
    # One that is at its end waits, and is asked for no step beyond the last.
    slots, steps = run(images, slots, 3)
    assert int(steps) == 5
    np.testing.assert_array_equal(slots.step, [10, 10, 2])


def test_no_example_needs_no_step():
    images = tf.zeros((0, 1))
    slots, steps = run(images, at_the_beginning(images), 0)
    assert int(steps) == 0
    assert slots.best.images.shape == (0, 1)


def outcome(images, fooled, loss):
    return Outcome(np.float32(images)[:, None], np.array(fooled), np.float32(loss))


def test_the_more_damaging_of_two_outcomes_by_hand():
    """Fooled beats not fooled; then the larger loss; then the first."""
    one = outcome([1, 1, 1, 1, 1], [False, True, True, False, False], [9, 0, 1, 1, 1])
    two = outcome([2, 2, 2, 2, 2], [True, False, True, False, False], [0, 9, 2, 0, 1])
    worse = more_damaging(one, two)
    np.testing.assert_array_equal(worse.images[:, 0], [2, 1, 2, 1, 1])
    np.testing.assert_array_equal(worse.fooled, [True, True, True, False, False])
    np.testing.assert_array_equal(worse.loss, [0, 0, 2, 1, 1])


def test_a_loss_that_is_not_a_number_never_wins():
    one = outcome([1, 1], [False, False], [0, -np.inf])
    two = outcome([2, 2], [False, False], [np.nan, np.nan])
    np.testing.assert_array_equal(more_damaging(one, two).images[:, 0], [1, 1])


def test_anything_beats_nothing_yet():
    images = np.float32([[3.0], [4.0]])
    found = outcome([1, 2], [False, True], [-1e30, -1e30])
    worse = more_damaging(nothing_yet(images), found)
    np.testing.assert_array_equal(worse.images[:, 0], [1, 2])
    np.testing.assert_array_equal(nothing_yet(images).images, images)


def test_choose_takes_whole_examples():
    ones, twos = np.ones((2, 3, 2)), 2 * np.ones((2, 3, 2))
    chosen = np.asarray(choose(np.array([True, False]), ones, twos))
    np.testing.assert_array_equal(chosen[0], ones[0])
    np.testing.assert_array_equal(chosen[1], twos[0])
