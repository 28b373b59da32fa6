"""Attacks by the names that are typed."""

from collections.abc import Sequence
from typing import Any

import keras_free_adv as kfa
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.command_line.command import CommandError
from keras_free_adv.command_line.commands import ATTACKS
from keras_free_adv.evaluation.standard_attacks import standard_attacks


def named_attacks(
    names: Sequence[str],
    epsilon: float,
    *,
    norm: str,
    seed: int,
    table: str = "cifar10",
) -> list[Attack]:
    """The attacks of some names, each once.

    Args:
        names: "standard", "paper", or what `ATTACKS` holds.
        epsilon: radius of the ball, on the scale of the model's pixels.
        norm: "linf" or "l2".
        seed: of all attacks.
        table: whose columns "paper" stands for.

    Raises:
        CommandError: an unknown name.
    """
    found: dict[str, Attack] = {}
    for name in names:
        if name == "standard":
            made = standard_attacks(epsilon, norm=norm, seed=seed)
        elif name == "paper":
            made = _of_the_paper(table, epsilon, norm, seed)
        else:
            made = [_one(name, epsilon, norm, seed)]
        found.update({attack.name: attack for attack in made})
    return list(found.values())


def _one(name: str, epsilon: float, norm: str, seed: int) -> Attack:
    ball: dict[str, Any] = {"norm": norm, "seed": seed}
    step = {**ball, "step_size": epsilon / 4, "keep": "last"}
    match name:
        case "fgsm":
            return kfa.PGDAttack(
                epsilon, steps=1, step_size=epsilon, random_start=False, **ball
            )
        case "pgd20":
            return kfa.PGDAttack(epsilon, steps=20, **step)
        case "pgd100":
            return kfa.PGDAttack(epsilon, steps=100, **step)
        case "pgd20x10":
            return kfa.PGDAttack(epsilon, steps=20, restarts=10, **step)
        case "pgd50x10":
            return kfa.PGDAttack(epsilon, steps=50, restarts=10, **step)
        case "cw100":
            return kfa.PGDAttack(epsilon, steps=100, loss="cw_margin", **step)
        case "apgd_ce":
            return kfa.APGDAttack(epsilon, **ball)
        case "apgd_dlr":
            return kfa.APGDAttack(epsilon, loss="dlr", **ball)
        case "apgd_t":
            return kfa.APGDAttack(epsilon, loss="targeted_dlr", **ball)
        case "fab_t":
            return kfa.FABAttack(epsilon, **ball)
        case "square":
            return kfa.SquareAttack(epsilon, **ball)
        case "autoattack":
            return kfa.AutoAttack(epsilon, **ball)
        case "autoattack_plus":
            return kfa.AutoAttack(epsilon, version="plus", **ball)
        case "autoattack_rand":
            return kfa.AutoAttack(epsilon, version="rand", **ball)
    raise CommandError(
        f"--attacks must be of standard, paper, {', '.join(ATTACKS)}. Received: "
        f"{name}.",
        "attacks",
    )


def _of_the_paper(table: str, epsilon: float, norm: str, seed: int) -> list[Attack]:
    """The columns of a table of the paper, at this epsilon, with steps of a quarter."""
    settings = {
        "epsilon": epsilon,
        "step_size": epsilon / 4,
        "norm": norm,
        "value_range": None,
        "seed": seed,
    }
    return [
        kfa.PGDAttack.from_config({**column.get_config(), **settings})
        for column in kfa.paper_attacks(table)
    ]
