"""What to attack with when nothing is said."""

from typing import Any

from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.auto_attack import AutoAttack
from keras_free_adv.attacks.pgd_attack import PGDAttack


def standard_attacks(epsilon: float, **settings: Any) -> list[Attack]:
    """PGD-20, which shows much at once, and AutoAttack, whose figure can be trusted.

    Args:
        epsilon: radius of the ball, on the pixel scale.
        **settings: `norm`, `value_range`, `from_logits`, `predicts`: as of the attacks.

    Returns:
        Attacks with seed 0, so that an evaluation can be repeated and resumed.

    Example:
    >>> [attack.name for attack in standard_attacks(8 / 255)]
    ['pgd20', 'autoattack']
    """
    settings = {"seed": 0, **settings}
    return [PGDAttack(epsilon, **settings), AutoAttack(epsilon, **settings)]
