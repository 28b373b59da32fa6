"""How many examples an evaluation during training takes."""

from collections.abc import Sequence
from typing import Any

from keras_free_adv.attacks.attack import Attack
from keras_free_adv.training.weight_updates import WeightUpdates

SHARE = 0.2  # of an epoch's passes
FORWARD, BACKWARD = 1.0, 2.0  # what a pass costs, in forward passes


def affordable_examples(
    model: Any, attacks: Sequence[Attack], steps: int | None
) -> int | None:
    """So many examples that attacking them costs at most a fifth of an epoch.

    Counted in passes through the network, never in seconds: every machine, and a run
    that goes on after an interruption, sees the same examples.

    Args:
        model: in its `fit`.
        attacks: all of them, as if none of the examples fell before the end.
        steps: updates of an epoch.

    Returns:
        The number, 1 or more; None where an epoch's passes are not known: a plain Keras
        model does not tell the size of a minibatch.
    """
    shape = getattr(model, "output_shape", None)
    if not isinstance(model, WeightUpdates) or not steps or not model.minibatch_rows:
        return None
    classes = shape[-1] if isinstance(shape, tuple) and len(shape) == 2 else 2
    update = model.passes_of_an_update * (FORWARD + BACKWARD)
    epoch = steps * model.minibatch_rows * update
    example = FORWARD + sum(_cost(attack, max(classes, 2)) for attack in attacks)
    return max(1, int(SHARE * epoch / example))


def _cost(attack: Attack, classes: int) -> float:
    """What an attack on one example costs, in forward passes."""
    total = 0.0
    for part in attack.parts():
        forward, backward = part.passes_of_a_step(classes)
        step = forward * FORWARD + backward * BACKWARD
        start = part.passes_of_a_start() * FORWARD
        total += part.runs(classes) * (start + part.steps_of_a_run * step)
    return total
