"""foolbox 3.3.4: plain PGD in both norms, with an exchangeable loss.

It has none of AutoAttack's parts. Its PGD keeps the last iterate, starts uniformly in
the ball, and ascends the summed cross-entropy.

The CW-margin row is its PGD with the loss of its own Carlini-Wagner attack put in:
foolbox documents `get_loss_fn` as the place for that. No library here has the attack
as a whole. (adv-lib 0.2.8 has PGD on the margin without the maximum with zero, for
linf only; it cannot be installed beside current setuptools.)
"""

from collections.abc import Callable
from typing import Any

import foolbox
from foolbox.attacks import LinfPGD
from foolbox.attacks.carlini_wagner import best_other_classes
from foolbox.attacks.projected_gradient_descent import (
    L2ProjectedGradientDescentAttack as L2PGD,
)
from torch import Tensor, nn

from peers.settings import Settings
from peers.standing import Attack, Run, one_after_the_other


class _OnMargin:
    """Ascends -max(z_y - max_{j != y} z_j, 0) instead of the cross-entropy."""

    def get_loss_fn(self, model: Any, labels: Any) -> Callable[[Any], Any]:
        def loss(images: Any) -> Any:
            logits = model(images)
            rows = range(len(images))
            others = best_other_classes(logits, labels)
            return -(logits[rows, labels] - logits[rows, others]).maximum(0).sum()

        return loss


class _LinfMargin(_OnMargin, LinfPGD):
    pass


class _L2Margin(_OnMargin, L2PGD):
    pass


PGD = {"linf": LinfPGD, "l2": L2PGD}
MARGIN = {"linf": _LinfMargin, "l2": _L2Margin}


def _attack(network: nn.Module, s: Settings, kind: type, steps: int) -> Attack:
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    attack = kind(abs_stepsize=s.step_size, steps=s.steps(steps))

    def adversarial(images: Tensor, labels: Tensor) -> Tensor:
        wrong = foolbox.criteria.Misclassification(labels)
        # Calling the attack itself would classify the result once more.
        return attack.run(model, images, wrong, epsilon=s.epsilon)

    return adversarial


ATTACKS = {
    "pgd20": lambda n, s: [_attack(n, s, PGD[s.norm], 20)],
    "pgd20x10": lambda n, s: 10 * [_attack(n, s, PGD[s.norm], 20)],
    "cw100": lambda n, s: [_attack(n, s, MARGIN[s.norm], 100)],
}


def make(row: str, network: nn.Module, settings: Settings) -> Run | None:
    """The attack of a row, or None if the library has none."""
    if row not in ATTACKS:
        return None
    attacks = ATTACKS[row](network, settings)
    return one_after_the_other(network, attacks, settings.batch_size)
