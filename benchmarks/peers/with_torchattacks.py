"""torchattacks 3.5.1: plain PGD of its own, and ports of AutoAttack's four parts.

Where it differs from the papers, or from our settings:
- `APGD`, `APGDT` and `FAB` make 10 steps by default, and its `AutoAttack` leaves them
  at that (100 in the paper). Here they get the steps of the paper, and AutoAttack is
  put together from its parts; it would be much weaker otherwise.
- `Square` rescales the schedule of the squares' sizes by default; AutoAttack does not.
- `APGDT` with l2 uses the step size of the batch's first example for all.
- `Square` with l2 has an older formula for the strength of a new square.
- `PGDL2` draws the radius of the random start uniformly in [0, eps], nearer to the
  image than a uniform draw from the ball, and adds 1e-10 to the length of the gradient
  of the batch's mean loss, which shortens the steps of very confident examples of a
  large batch (not here: the shortest gradient of the natural model is 6e-9).
- Each call of a part sets the seed anew, so every batch draws the same numbers.
"""

import torchattacks
from torch import nn

from peers.settings import Settings
from peers.standing import Attack, Run, one_after_the_other

NORMS = {"linf": "Linf", "l2": "L2"}


def _pgd(network: nn.Module, s: Settings) -> Attack:
    kind = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}[s.norm]
    return kind(network, eps=s.epsilon, alpha=s.step_size, steps=s.steps(20))


def _apgd(network: nn.Module, s: Settings, loss: str) -> Attack:
    return torchattacks.APGD(
        network,
        norm=NORMS[s.norm],
        eps=s.epsilon,
        steps=s.steps(100),
        seed=s.seed,
        loss=loss,
    )


def _apgd_t(network: nn.Module, s: Settings) -> Attack:
    return torchattacks.APGDT(
        network,
        norm=NORMS[s.norm],
        eps=s.epsilon,
        steps=s.steps(100),
        seed=s.seed,
        n_classes=s.targets + 1,
    )


def _fab_t(network: nn.Module, s: Settings) -> Attack:
    return torchattacks.FAB(
        network,
        norm=NORMS[s.norm],
        eps=s.epsilon,
        steps=s.steps(100),
        seed=s.seed,
        multi_targeted=True,
        n_classes=s.targets + 1,
    )


def _square(network: nn.Module, s: Settings) -> Attack:
    return torchattacks.Square(
        network,
        norm=NORMS[s.norm],
        eps=s.epsilon,
        n_queries=s.queries,
        seed=s.seed,
        resc_schedule=False,
    )


ATTACKS = {
    "pgd20": lambda n, s: [_pgd(n, s)],
    "pgd20x10": lambda n, s: 10 * [_pgd(n, s)],
    "apgd_ce": lambda n, s: [_apgd(n, s, "ce")],
    "apgd_dlr": lambda n, s: [_apgd(n, s, "dlr")],
    "apgd_t": lambda n, s: [_apgd_t(n, s)],
    "fab_t": lambda n, s: [_fab_t(n, s)],
    "square": lambda n, s: [_square(n, s)],
    "autoattack": lambda n, s: [
        _apgd(n, s, "ce"),
        _apgd_t(n, s),
        _fab_t(n, s),
        _square(n, s),
    ],
}


def make(row: str, network: nn.Module, settings: Settings) -> Run | None:
    """The attack of a row, or None if the library has none."""
    if row not in ATTACKS:
        return None
    attacks = ATTACKS[row](network, settings)
    return one_after_the_other(network, attacks, settings.batch_size)
