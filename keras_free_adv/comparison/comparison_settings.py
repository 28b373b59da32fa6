"""The settings of a comparison, checked before anything is trained."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_free_adv import geometry, pixel_scale, validation
from keras_free_adv.attacks.attack import Attack
from keras_free_adv.attacks.pgd_attack import PGDAttack
from keras_free_adv.comparison import methods as named
from keras_free_adv.comparison.methods import Method
from keras_free_adv.evaluation.checked_attacks import check_seeds, checked_attacks
from keras_free_adv.evaluation.standard_attacks import standard_attacks

LOOK = 10  # steps of the attack after each epoch


@dataclass(frozen=True)
class ComparisonSettings:
    """What all methods of a comparison have in common.

    Attributes:
        seconds: of training, for each method.
        epochs: parts of a training.
        batch_size: of arrays.
        seed: of weights, order and random starts.
        norm: "linf" or "l2".
        epsilon: radius of the ball, on the pixel scale.
        value_range: lowest and highest pixel value.
        methods: their names, and the function of each that wraps a network.
        attacks: those of the end.
    """

    seconds: float
    epochs: int
    batch_size: int
    seed: int
    norm: str
    epsilon: float
    value_range: tuple[float, float]
    methods: dict[str, Method]
    attacks: Sequence[Attack]

    @classmethod
    def checked(
        cls,
        network: keras.Model,
        *,
        methods: Iterable[str] | Mapping[str, Method],
        seconds: float,
        epsilon: float | None,
        norm: str,
        value_range: tuple[float, float] | None,
        attacks: Attack | Sequence[Attack] | None,
        epochs: int,
        batch_size: int,
        seed: int,
    ) -> "ComparisonSettings":
        """From the arguments of `compare_methods`.

        Raises:
            TypeError, ValueError: a wrong argument, named in the message.
        """
        geometry.get_norm(norm)
        value_range = pixel_scale.resolve(value_range, network)
        low, high = value_range
        if epsilon is None:
            epsilon = (high - low) * (128 / 255 if norm == "l2" else 8 / 255)
        epsilon = validation.ball_radius(epsilon, value_range, norm)
        if attacks is None:
            attacks = standard_attacks(epsilon, norm=norm, value_range=value_range)
        attacks = checked_attacks(attacks)
        check_seeds(attacks, "A comparison needs")
        return cls(
            seconds=validation.positive_number("seconds", seconds),
            epochs=validation.positive_integer("epochs", epochs),
            batch_size=validation.positive_integer("batch_size", batch_size),
            seed=validation.seed("seed", seed),
            norm=norm,
            epsilon=epsilon,
            value_range=value_range,
            methods=named.chosen(methods, epsilon, norm, value_range),
            attacks=attacks,
        )

    @property
    def look(self) -> PGDAttack:
        """The attack after each epoch, for the curve."""
        return PGDAttack(
            self.epsilon,
            steps=LOOK,
            norm=self.norm,
            value_range=self.value_range,
            seed=0,
        )

    def to_dict(self) -> dict[str, Any]:
        """What a plan is made for, as plain data."""
        names = ("seconds", "epochs", "batch_size", "seed", "norm", "epsilon")
        plain = {name: getattr(self, name) for name in names}
        return {**plain, "methods": list(self.methods)}
