"""Runs: the loop under every attack.

A run is one attempt of an attack at an example: one restart, or one target class of
one. Each of B slots holds an example in the middle of its run, and a step takes all
slots on by one. ActiveRuns need not be at the same step: what ends is replaced, so that
batches stay full.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf
from keras import ops

from keras_free_adv.attacks.outcome import (
    Outcome,
    all_labels,
    choose,
    more_damaging,
    nothing_yet,
)
from keras_free_adv.attacks.target import Target

if TYPE_CHECKING:
    from keras_free_adv.attacks.attack import Attack


class ActiveRuns(NamedTuple):
    """B examples in the middle of their runs.

    Attributes:
        step: steps made, `[B]`, int32.
        state: what the attack keeps of each example, any nest of `[B, ...]`.
        best: the most damaging outcome so far.
    """

    step: Any
    state: Any
    best: Outcome


def begin_runs(
    attack: "Attack",
    target: Target,
    images: Any,
    keys: Any,
    runs: Any,
    labels: int | None = None,
) -> ActiveRuns:
    """ActiveRuns at the beginning of run number `runs` `[B]` with the keys `[B, 1]`.

    `labels` says how many, of a model that predicts several at once.
    """
    state = attack.start(target, images, keys, runs)
    return ActiveRuns(ops.zeros_like(runs), state, nothing_yet(images, labels))


def ended(attack: "Attack", slots: ActiveRuns, until_fooled: bool) -> Any:
    """Whether each run is at its end, `[B]`."""
    out_of_steps = ops.greater_equal(slots.step, attack.steps_of_a_run)
    if not until_fooled:
        return out_of_steps
    return ops.logical_or(out_of_steps, all_labels(slots.best.fooled))


def advance(
    attack: "Attack",
    target: Target,
    images: Any,
    slots: ActiveRuns,
    *,
    stop_after: Any,
    until_fooled: bool,
) -> tuple[ActiveRuns, Any]:
    """Makes steps until `stop_after` runs have ended; a run that ended stays as it is.

    The loop is one operation of the graph.

    Args:
        attack: the attack.
        target: the model under attack.
        images: clean images, `[B, ...]`.
        slots: where the runs are.
        stop_after: how many runs must have ended.
        until_fooled: whether a run ends when its example is fooled.

    Returns:
        Where the runs are now, and the number of steps made in the loop.
    """

    def go_on(slots: ActiveRuns, steps: Any) -> Any:
        del steps
        over = ended(attack, slots, until_fooled)
        return ops.sum(ops.cast(over, "int32")) < stop_after

    def one_step(slots: ActiveRuns, steps: Any) -> tuple[ActiveRuns, Any]:
        # A run that ended waits for the others, and repeats its last step in vain.
        step = ops.minimum(slots.step, attack.steps_of_a_run - 1)
        state, seen = attack.step(target, images, slots.state, step)
        seen = seen._replace(images=target.keep_masked(seen.images))
        moved = ActiveRuns(slots.step + 1, state, more_damaging(slots.best, seen))
        over = ended(attack, slots, until_fooled)
        kept = tf.nest.map_structure(
            lambda old, new: choose(over, old, new), slots, moved
        )
        return kept, steps + 1

    return tf.while_loop(go_on, one_step, (slots, 0))
