"""pyautoattack 0.2.0: the code of AutoAttack's authors, packaged.

The reference for these rows; both norms, the paper's settings. To know of it:
- Square tries a square at one place (with linf: of one color) for the whole batch, so
  an example's result depends on its neighbors.
- AutoAttack has Square keep the schedule of 10,000 queries and stop at 5,000
  (`resc_schedule=False`; the default of Square alone stretches it). So do both rows.
- `perturb` sets the seed anew, so every batch draws the same numbers.
- AutoAttack begins with some checks of the model, 7 forward passes of a batch.
- An attack asks for the clean predictions once more; that belongs to its cost.
"""

import torch
from pyautoattack import AutoAttack
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from peers.settings import Settings
from peers.standing import Run, one_after_the_other

NORMS = {"linf": "Linf", "l2": "L2"}


def _apgd(network: nn.Module, s: Settings, loss: str) -> APGDAttack:
    return APGDAttack(network, n_iter=s.steps(100), loss=loss, **_common(network, s))


def _apgd_t(network: nn.Module, s: Settings) -> APGDAttack_targeted:
    return APGDAttack_targeted(
        network, n_iter=s.steps(100), n_target_classes=s.targets, **_common(network, s)
    )


def _fab_t(network: nn.Module, s: Settings) -> FABAttack_PT:
    return FABAttack_PT(
        network,
        n_iter=s.steps(100),
        targeted=True,
        n_target_classes=s.targets,
        **_common(network, s),
    )


def _square(network: nn.Module, s: Settings) -> SquareAttack:
    return SquareAttack(
        network, n_queries=s.queries, resc_schedule=False, **_common(network, s)
    )


def _common(network: nn.Module, s: Settings) -> dict:
    weights = network.state_dict()
    return {
        "norm": NORMS[s.norm],
        "eps": s.epsilon,
        "seed": s.seed,
        "device": str(next(iter(weights.values())).device),
    }


def _auto_attack(network: nn.Module, s: Settings) -> Run:
    """It makes its own batches of what still stands."""
    attack = AutoAttack(network, version="standard", **_common(network, s))
    attack.apgd = _apgd(network, s, "ce")
    attack.apgd_targeted = _apgd_t(network, s)
    attack.fab = _fab_t(network, s)
    attack.square = _square(network, s)

    def run(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        broken, predicted = attack.run_standard_evaluation(
            images, labels, batch_size=s.batch_size
        )
        return torch.eq(predicted, labels), broken

    return run


ATTACKS = {
    "apgd_ce": lambda n, s: _apgd(n, s, "ce"),
    "apgd_dlr": lambda n, s: _apgd(n, s, "dlr"),
    "apgd_t": _apgd_t,
    "fab_t": _fab_t,
    "square": _square,
}


def make(row: str, network: nn.Module, settings: Settings) -> Run | None:
    """The attack of a row, or None if the library has none."""
    if row == "autoattack":
        return _auto_attack(network, settings)
    if row not in ATTACKS:
        return None
    attack = ATTACKS[row](network, settings)
    return one_after_the_other(network, [attack.perturb], settings.batch_size)
