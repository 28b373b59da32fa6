"""The attacks of an evaluation: checked, or those of the model's training."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_free_adv import pixel_scale
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.evaluation.robustness_report import NATURAL
from keras_free_adv.evaluation.standard_attacks import standard_attacks
from keras_free_adv.first_layers import unwrapped


def one_value_range(
    attacks: Sequence[Attack], model: keras.Model
) -> tuple[float, float]:
    """The pixel range of all attacks on this model, or raises if there are several."""
    ranges = {attack.name: attack.value_range_for(model) for attack in attacks}
    return pixel_scale.the_same(ranges, "attacks", "Evaluate them one by one.")


def attacks_of_training(model: keras.Model) -> list[Attack]:
    """The standard attacks, in the ball that a model was trained for."""
    if unwrapped(model) is model or not hasattr(model, "epsilon"):
        raise ValueError(
            "Argument `attacks` is needed for a model that does not tell the epsilon "
            f"it was trained for. Received: attacks=None, with {model.name!r}. Pass "
            "attacks=[PGDAttack(epsilon=8 / 255), AutoAttack(epsilon=8 / 255)]."
        )
    return standard_attacks(model.epsilon, norm=model.norm)


def check_seeds(attacks: list[Attack], who: str) -> None:
    """Raises if an attack has no seed, which several processes need to agree."""
    for attack in attacks:
        if attack.seed is None:
            raise ValueError(
                f"{who} attacks with a seed: without one, another process draws other "
                f"numbers. Received: {attack.name!r} with seed=None. Pass seed=0."
            )


def checked_attacks(attacks: Any) -> list[Attack]:
    """Returns `attacks` as a list, or raises if one report cannot hold them."""
    attacks = [attacks] if isinstance(attacks, Attack) else attacks
    if not isinstance(attacks, Sequence) or isinstance(attacks, (str, bytes)):
        raise TypeError(
            "Argument `attacks` must be an attack or a list of attacks, such as "
            f"[PGDAttack(epsilon=8 / 255)]. Received: {attacks!r}."
        )
    attacks = list(attacks)
    for attack in attacks:
        if not isinstance(attack, Attack):
            raise TypeError(
                "Argument `attacks` must hold attacks, such as PGDAttack(epsilon=8 / "
                f"255). Received: {attack!r} (of type {type(attack).__name__})."
            )
        if attack.targeted:
            raise ValueError(
                "Argument `attacks` must hold untargeted attacks: robust accuracy "
                f"counts every misclassification. Received: {attack.name!r} with "
                "targeted=True."
            )
    if not attacks:
        raise ValueError("Argument `attacks` is empty. Pass at least one attack.")
    names = [attack.name for attack in attacks]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or NATURAL in names:
        raise ValueError(
            "Argument `attacks` must hold attacks of different names, none of them "
            f"'natural'. Received: {names}. Pass name=... to tell them apart."
        )
    ranges = {a.name: a.value_range for a in attacks if a.value_range is not None}
    if ranges:
        pixel_scale.the_same(ranges, "attacks", "Evaluate them one by one.")
    return attacks
