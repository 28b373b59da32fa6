"""Attacks by the names that are typed."""

from collections.abc import Sequence
from typing import Any

import keras_free_adv as kfa
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.command_line.command import CommandError
from keras_free_adv.command_line.commands.evaluate import ATTACKS

# One look that is quick, and one whose figure can be trusted.
STANDARD = ("pgd20", "autoattack")


def named_attacks(
    names: Sequence[str],
    epsilon: float,
    *,
    norm: str,
    value_range: tuple[float, float] | None = None,
    seed: int,
    table: str = "cifar10",
) -> list[Attack]:
    """The attacks of some names, each once.

    Args:
        names: "standard", "paper", or what `ATTACKS` holds.
        epsilon: radius of the ball, on the scale of the model's pixels.
        norm: "linf" or "l2".
        value_range: of the pixels; None for the model's.
        seed: of all attacks.
        table: whose columns "paper" stands for.

    Raises:
        CommandError: an unknown name.
    """
    ball = {"norm": norm, "value_range": value_range, "seed": seed}
    found: dict[str, Attack] = {}
    for name in names:
        if name == "standard":
            made = [_one(each, epsilon, ball) for each in STANDARD]
        elif name == "paper":
            made = _of_the_paper(table, epsilon, ball)
        else:
            made = [_one(name, epsilon, ball)]
        found.update({attack.name: attack for attack in made})
    return list(found.values())


def _one(name: str, epsilon: float, ball: dict[str, Any]) -> Attack:
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


def _of_the_paper(table: str, epsilon: float, ball: dict[str, Any]) -> list[Attack]:
    """The columns of a table of the paper, at this epsilon, with steps of a quarter."""
    settings = {"epsilon": epsilon, "step_size": epsilon / 4, **ball}
    return [
        kfa.PGDAttack.from_config({**column.get_config(), **settings})
        for column in kfa.paper_attacks(table)
    ]
