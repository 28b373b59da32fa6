"""Attacks: Keras layers that turn images into adversarial images."""

from keras_free_adv.attacks.apgd_attack import APGDAttack
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.auto_attack import AutoAttack
from keras_free_adv.attacks.fab_attack import FABAttack
from keras_free_adv.attacks.pgd_attack import PGDAttack
from keras_free_adv.attacks.square_attack import SquareAttack

__all__ = [
    "APGDAttack",
    "Attack",
    "AutoAttack",
    "FABAttack",
    "PGDAttack",
    "SquareAttack",
]
