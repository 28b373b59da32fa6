"""Runs: the loop under every attack.

A run is one attempt of an attack at an example: one restart, or one target class of
one (`Attack.runs` counts them). Each row of a batch holds an example in the middle of
its run, and a step advances all of them by one. They need not be at the same step:
`evaluation/packing.py` puts another run in the place of one that ended, so that batches
stay full.
"""

from typing import Any, NamedTuple, Protocol

from keras import ops, tree

from keras_free_adv import backends
from keras_free_adv.attacks.outcome import (
    Outcome,
    all_labels,
    choose,
    more_damaging,
    nothing_yet,
)
from keras_free_adv.attacks.target import Target


class Steps(Protocol):
    """What a loop needs of an attack; see `keras_free_adv.attacks.attack.Attack`."""

    @property
    def steps_of_a_run(self) -> int:
        """How many steps a run makes if nothing ends it before."""

    def start(self, target: Target, images: Any, keys: Any, runs: Any) -> Any:
        """Where a run begins."""

    def step(
        self, target: Target, images: Any, state: Any, step: Any
    ) -> tuple[Any, Outcome]:
        """The new state, and the outcome at the point the step looked at."""


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
    attack: Steps,
    target: Target,
    images: Any,
    keys: Any,
    runs: Any,
    label_count: int | None = None,
) -> ActiveRuns:
    """Examples at the beginning of run number `runs` `[B]` with the keys `[B, 2]`.

    `label_count` is that of a model that predicts several labels at once.
    """
    state = attack.start(target, images, keys, runs)
    return ActiveRuns(ops.zeros_like(runs), state, nothing_yet(images, label_count))


def ended(attack: Steps, active: ActiveRuns, until_fooled: bool) -> Any:
    """Whether each run is at its end, `[B]`."""
    out_of_steps = ops.greater_equal(active.step, attack.steps_of_a_run)
    if not until_fooled:
        return out_of_steps
    return ops.logical_or(out_of_steps, all_labels(active.best.fooled))


def advance(
    attack: Steps,
    target: Target,
    images: Any,
    active: ActiveRuns,
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
        active: where the runs are.
        stop_after: how many runs must have ended.
        until_fooled: whether a run ends when its example is fooled.

    Returns:
        Where the runs are now, and the number of steps made in the loop.
    """

    def go_on(active: ActiveRuns, steps: Any) -> Any:
        del steps
        over = ended(attack, active, until_fooled)
        return ops.sum(ops.cast(over, "int32")) < stop_after

    def one_step(active: ActiveRuns, steps: Any) -> tuple[ActiveRuns, Any]:
        # A run that ended waits for the others, and repeats its last step in vain.
        step = ops.minimum(active.step, attack.steps_of_a_run - 1)
        arguments = images, active.state, step
        made = attack.step(target, *arguments)
        if target.overflow is not None:
            lost = target.overflow.taken()
            if lost is not None:
                made = target.corrected(lost, attack.step, arguments, made)
        state, seen = made
        seen = seen._replace(images=target.keep_masked(seen.images))
        moved = ActiveRuns(active.step + 1, state, more_damaging(active.best, seen))
        over = ended(attack, active, until_fooled)
        kept = tree.map_structure(
            lambda old, new: choose(over, old, new), active, moved
        )
        return kept, steps + 1

    return backends.while_loop(go_on, one_step, (active, ops.zeros((), "int32")))
